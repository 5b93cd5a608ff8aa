"""Predictions are written beside their labels and come back as they were."""

import ase.io
import numpy as np
import pytest

from equipot.analysis.predictions import read_predictions, require_xyz, write_predictions
from equipot.data.frame import Frame
from equipot.data.readers import read_frames
from equipot.errors import UserError


def frames() -> tuple[list[Frame], list[dict]]:
    rng = np.random.default_rng(0)
    molecule = Frame(
        np.array([8, 1, 1]),
        rng.normal(size=(3, 3)),
        np.zeros((3, 3)),
        np.zeros(3, bool),
        energy=-1.0,
        forces=rng.normal(size=(3, 3)),
        source="a.xyz#4",
    )
    stress = np.array([[1.0, 4, 5], [4, 2, 6], [5, 6, 3]]) * 1e-3
    crystal = Frame(
        np.array([8, 1]), rng.normal(size=(2, 3)), 3 * np.eye(3), np.ones(3, bool), energy=-2.0, stress=stress, source="b.xyz#0"
    )
    predictions = [
        {"energy": -1.5, "forces": rng.normal(size=(3, 3)), "stress": None},
        {"energy": -2.5, "forces": np.zeros((2, 3)), "stress": 2 * stress},
    ]
    return [molecule, crystal], predictions


@pytest.mark.parametrize("name", ["p.extxyz", "p.xyz.gz"])
def test_round_trip(tmp_path, name):
    given, predictions = frames()
    write_predictions({"cold": (given[:1], predictions[:1]), "hot": (given[1:], predictions[1:])}, tmp_path / name)
    sets = read_predictions(tmp_path / name)
    assert list(sets) == ["cold", "hot"]
    found = [f for frames, _ in sets.values() for f in frames]
    back = [p for _, predicted in sets.values() for p in predicted]
    for f, g, p, q in zip(found, given, back, predictions, strict=True):
        assert f.source == g.source and f.energy == g.energy
        assert (f.forces is None) == (g.forces is None)
        assert p["energy"] == q["energy"] and p["forces"] == pytest.approx(q["forces"], abs=1e-7)
    assert found[0].forces == pytest.approx(given[0].forces, abs=1e-7)
    assert found[1].stress == pytest.approx(given[1].stress) and back[1]["stress"] == pytest.approx(predictions[1]["stress"])


def test_ase_sees_predictions_and_equipot_sees_labels(tmp_path):
    given, predictions = frames()
    write_predictions({"x": (given, predictions)}, tmp_path / "p.extxyz")
    atoms = ase.io.read(tmp_path / "p.extxyz", "0")
    assert atoms.get_potential_energy() == -1.5 and atoms.info["REF_energy"] == -1.0
    assert read_frames(str(tmp_path / "p.extxyz"))[0].energy == -1.0


def test_other_files_are_refused(tmp_path):
    given, _ = frames()
    ase.io.write(tmp_path / "plain.extxyz", given[0].atoms())
    with pytest.raises(UserError, match=r"plain.extxyz, frame 0: has no prediction beside a label"):
        read_predictions(tmp_path / "plain.extxyz")
    with pytest.raises(UserError, match="must end in"):
        require_xyz(tmp_path / "p.json")
