"""A probe of a model file: measures against references made from the model itself, and what is written."""

import csv
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "analysis"))
import broken_models as broken

from equipot.data.writer import write_frames
from equipot.errors import UserError
from equipot.model import save_model
from equipot.study.probes import ProbeSpec, evaluate_probe
from equipot.study.probes.evaluate import predict_curves
from equipot.study.probes.generate import generate
from equipot.study.probes.spec import GenerateSpec
from equipot.train.evaluation import evaluate_frames

DIMERS = GenerateSpec(dimers={"pairs": ["O-H", "H-H"], "n": 20})


@pytest.fixture(scope="module")
def potential():
    return broken.small_potential()


@pytest.fixture
def model(potential, tmp_path):
    save_model(potential, tmp_path / "best.equipot", {})
    return tmp_path / "best.equipot"


def labelled_file(potential, file, shift: float) -> str:
    """Dimers labelled by the model itself plus a shift."""
    frames = [f for p in generate(DIMERS, potential.spec.elements, potential.spec.cutoff) for f in p.frames]
    answers = evaluate_frames(potential, frames).predictions
    labelled = [
        replace(f, energy=a["energy"] + shift, forces=a["forces"], info={"separation": float(f.positions[1, 0])})
        for f, a in zip(frames, answers, strict=True)
    ]
    write_frames(labelled, file)
    return str(file)


def test_a_model_agrees_with_itself(potential, model, tmp_path):
    file = labelled_file(potential, tmp_path / "d.extxyz", 0.0)
    found = evaluate_probe(ProbeSpec(name="self", frames=file, coordinate={"field": "separation"}), model, tmp_path)
    for name in ("energy_rmse", "shape_rmse", "range_error", "forces_rmse", "curvature_rmse"):
        assert found[name][0] == pytest.approx(0.0, abs=1e-4), name
    assert found["spurious_minima"][0] == found["missed_minima"][0] == found["wrong_force_sign"][0] == 0
    assert found["energy_mae"][1] == "eV"


def test_a_shift_is_an_error_of_the_energy_but_not_of_the_shape(potential, model, tmp_path):
    file = labelled_file(potential, tmp_path / "d.extxyz", 0.25)
    found = evaluate_probe(ProbeSpec(name="shifted", frames=file, coordinate={"distance": [0, 1]}), model, tmp_path)
    assert found["energy_mae"][0] == pytest.approx(0.25, abs=1e-6)
    assert found["shape_rmse"][0] == pytest.approx(0.0, abs=1e-6)


def test_the_curves_are_written_in_order(potential, model, tmp_path):
    file = labelled_file(potential, tmp_path / "d.extxyz", 0.0)
    evaluate_probe(ProbeSpec(name="pairs", frames=file, coordinate={"field": "separation"}), model, tmp_path)
    rows = list(csv.DictReader((tmp_path / "probe-pairs.csv").open()))
    assert len(rows) == 40 and {r["curve"] for r in rows} == {"HO", "H2"}
    first = [float(r["coordinate"]) for r in rows if r["curve"] == "HO"]
    assert first == sorted(first)
    assert all(float(r["prediction"]) == pytest.approx(float(r["reference"]), abs=1e-6) for r in rows)
    assert float(rows[0]["zero"]) == pytest.approx(min(float(r["reference"]) for r in rows if r["curve"] == "HO"))


def test_without_a_reference_there_is_no_error_but_sanity(model, tmp_path):
    found = evaluate_probe(ProbeSpec(name="free", generate=DIMERS), model, tmp_path)
    assert "energy_mae" not in found and {"roughness", "short_range_force", "wrong_force_sign", "limit_error"} <= found.keys()
    assert found["limit_error"][0] == pytest.approx(0.0, abs=1e-9)  # isolated_atom: exact
    rows = list(csv.DictReader((tmp_path / "probe-free.csv").open()))
    assert rows[0]["reference"] == "" and rows[0]["axis"] == "distance, Å"


def test_the_limit_sees_an_atom_that_is_not_at_its_e0(potential):
    """On a model broken on purpose: a bare atom with an energy of its own."""
    broken_one = broken.small_potential(kind=Shifted)
    curves = predict_curves(generate(DIMERS, potential.spec.elements, potential.spec.cutoff), broken_one)
    assert all(c.predicted[-1] - c.limit == pytest.approx(0.2) for c in curves)


class Shifted(broken.Added):
    def extra(self, graph, vectors):
        return 0.1 * graph.positions[:, 0] ** 0


def test_what_is_removed_is_compared_with_the_parts_alone(potential, model, tmp_path):
    from ase.build import molecule

    from equipot.data.frame import Frame

    atoms = molecule("H2O")
    write_frames([Frame(atoms.numbers, atoms.positions, np.zeros((3, 3)), np.zeros(3, bool))], tmp_path / "w.extxyz")
    spec = ProbeSpec(name="removal", generate={"stretch": {"frame": str(tmp_path / "w.extxyz"), "bond": [0, 1], "stop": 9.0, "n": 12}})
    assert evaluate_probe(spec, model, tmp_path)["limit_error"][0] == pytest.approx(0.0, abs=1e-9)
    near = ProbeSpec(name="near", generate={"stretch": {"frame": str(tmp_path / "w.extxyz"), "bond": [0, 1], "stop": 1.2, "n": 12}})
    assert evaluate_probe(near, model, tmp_path)["limit_error"][0] > 1e-6


def test_an_element_the_model_does_not_know_is_a_users_mistake(model, tmp_path):
    with pytest.raises(UserError, match="Fe-H"):
        evaluate_probe(ProbeSpec(name="x", generate={"dimers": {"pairs": ["Fe-H"]}}), model, tmp_path)
