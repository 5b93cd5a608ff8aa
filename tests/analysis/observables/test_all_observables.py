"""All observables together: what can be had, what cannot and why; against a reference; the folder of results."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from known_trajectories import ARGON, SHEARED, XENON, brownian, fcc, ideal_gas, trajectory

from equipot.analysis.observables import Observed, Settings, Trajectory, observe, summary, write
from equipot.analysis.observables.reference import remarks_on_reference
from equipot.analysis.observables.write import require_out
from equipot.errors import UserError

FEW = Settings(r_bin=0.2, samples=50)


def moving(n_frames: int = 400, seed: int = 0) -> Trajectory:
    rng = np.random.default_rng(seed)
    walk = brownian(8, n_frames, 0.05, 0.1, seed)
    return replace(walk, velocities=0.01 * rng.standard_normal(walk.positions.shape), energies=rng.standard_normal(n_frames))


def test_what_can_be_had_is_and_the_rest_has_a_reason() -> None:
    found = observe(brownian(8, 400, 0.05, 0.1, 0), FEW)
    assert set(found.observables) == {"rdf", "msd"}
    assert set(found.missing) == {"coordination", "angles", "vacf", "vdos", "traces"}
    assert "no velocities" in found.missing["vdos"]


def test_asked_for_alone_what_cannot_be_had_is_an_error() -> None:
    with pytest.raises(UserError, match="vdos: the trajectory holds no velocities"):
        observe(brownian(8, 400, 0.05, 0.1, 0), FEW, only=["vdos"])
    with pytest.raises(UserError, match="phonons: needs a model"):
        observe(moving(), FEW, only=["phonons"])
    with pytest.raises(UserError, match="no observable 'gr'"):
        observe(moving(), FEW, only=["gr"])


def test_one_frame_gives_structure_without_errors() -> None:
    found = observe(fcc(n_frames=1), Settings())
    assert set(found.observables) == {"rdf", "coordination", "angles"}
    assert np.isnan(found.observables["coordination"].values[0].error)


def test_a_sample_of_the_same_agrees_and_of_another_does_not() -> None:
    here, same, denser = (fcc(noise=noise, n_frames=16) for noise in (0.1, 0.1, 0.16))
    same = replace(same, positions=same.positions[::-1].copy() + np.array([0.3, 0.2, 0.1]))
    found = observe(here, Settings(r_bin=0.05), reference=same, only=["rdf"])
    assert found.overlaps[0].overlap > 0.999
    found = observe(here, Settings(r_bin=0.05), reference=denser, only=["rdf"])
    assert found.overlaps[0].within_noise is False and found.overlaps[0].overlap < 0.95


def test_a_reference_of_other_elements() -> None:
    """Nothing in common is an error; something is compared, and what not is said."""
    gas = ideal_gas(6, 20)
    with pytest.raises(UserError, match="nothing to compare"):
        observe(gas, FEW, reference=ideal_gas(6, 20, numbers=XENON))
    both = ideal_gas(6, 20, numbers=np.array([ARGON] * 3 + [XENON] * 3))
    found = observe(gas, FEW, reference=both, only=["rdf"])
    assert [o.curve for o in found.overlaps] == ["Ar-Ar"]
    assert "the reference has Xe besides" in found.notes[0]
    assert "no Xe" in remarks_on_reference(both, gas)[0]
    assert "other proportions" in remarks_on_reference(both, ideal_gas(6, 20, numbers=np.array([ARGON] * 2 + [XENON] * 4)))[0]


def test_a_reference_of_another_cell() -> None:
    gas = ideal_gas(6, 20)
    assert "another cell" in remarks_on_reference(gas, ideal_gas(6, 20, cell=1.02 * SHEARED))[0]
    assert "another shape" in remarks_on_reference(gas, ideal_gas(6, 20, cell=np.eye(3) * np.linalg.det(SHEARED) ** (1 / 3)))[0]
    turned = SHEARED @ np.linalg.qr(np.random.default_rng(0).standard_normal((3, 3)))[0]
    assert remarks_on_reference(gas, ideal_gas(6, 20, cell=turned)) == []
    assert remarks_on_reference(gas, ideal_gas(12, 20, cell=SHEARED * [[2.0], [1.0], [1.0]])) == []


def test_bulk_and_molecule_are_not_laid_on_one_another() -> None:
    molecule = trajectory(ideal_gas(6, 20).positions, np.zeros((3, 3)), pbc=(False, False, False))
    found = observe(ideal_gas(6, 20), FEW, reference=molecule, only=["rdf"])
    assert found.overlaps == [] and any("cannot be compared" in note for note in found.notes)


def test_spectra_of_runs_of_other_lengths_have_one_resolution() -> None:
    found = observe(moving(400), FEW, reference=moving(800, 1), only=["vacf"])
    lengths = {len(o.curves[0].x) for o in (found.observables["vacf"], found.reference["vacf"])}
    assert len(lengths) == 1


def test_crystals_come_with_a_calculator() -> None:
    copper = bulk("Cu", cubic=True)
    single = trajectory(copper.positions[None], copper.cell.array, 29)
    found = observe(single, FEW, calculator=EMT(), only=["eos", "rdf"])
    assert set(found.observables) == {"rdf", "eos"}
    found = observe(moving(), FEW, calculator=EMT())
    assert "--crystal" in found.missing["phonons"]
    found = observe(moving(), FEW, calculator=EMT(), crystal=copper, only=["elastic"])
    assert set(found.observables) == {"elastic"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    here, there = moving(), moving(seed=1)
    folder = tmp_path_factory.mktemp("results") / "out"
    write(folder, observe(here, FEW, reference=there), here, there, FEW)
    return folder


@pytest.fixture
def results(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "out"))


def test_the_folder_holds_numbers_tables_and_pictures(results: Path) -> None:
    content = json.loads((results / "observables.json").read_text())
    assert set(content["files"]) == {p.name for p in results.iterdir()} - {"observables.json"}
    with (results / "msd.csv").open() as file:
        rows = list(csv.DictReader(file))
    curve = content["observables"]["msd"]["curves"][0]
    assert [float(r["Ar"]) for r in rows] == pytest.approx(curve["y"], rel=1e-6)
    assert [float(r["Ar error"]) for r in rows] == pytest.approx(curve["error"], rel=1e-6)
    assert (results / "msd.png").read_bytes().startswith(b"\x89PNG")
    assert content["settings"]["blocks"] == 8 and content["trajectory"]["length_ps"] == pytest.approx(39.9)


def test_an_earlier_analysis_leaves_nothing_behind(results: Path) -> None:
    found = observe(moving(), FEW, only=["rdf"])
    write(results, found, moving(), None, FEW)
    assert sorted(p.name for p in results.iterdir()) == ["observables.json", "rdf.csv", "rdf.png"]


def test_an_interrupted_one_can_be_repeated(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from equipot.analysis.observables import pictures

    def interrupt(*args: object) -> bytes:
        raise KeyboardInterrupt

    found = observe(moving(), FEW, only=["rdf"])
    with monkeypatch.context() as patch:
        patch.setattr(pictures, "draw", interrupt)
        with pytest.raises(KeyboardInterrupt):
            write(results, found, moving(), None, FEW)
    require_out(results)
    write(results, found, moving(), None, FEW)
    assert (results / "rdf.png").is_file()


def test_summary_is_plain_data_for_plotly(results: Path) -> None:
    import plotly.graph_objects as go

    found = summary(results)
    json.dumps(found, allow_nan=False)
    names = [f["name"] for f in found["figures"]]
    assert len(set(names)) == len(names) and {"msd", "rdf", "vdos"} <= set(names)
    for figure in found["figures"]:
        go.Figure(data=figure["data"], layout=figure["layout"])
    overlaps = next(t for t in found["tables"] if t["name"] == "observables-overlaps")
    assert all(len(row) == len(overlaps["columns"]) for row in overlaps["rows"])
    with pytest.raises(UserError, match="equipot observe writes one"):
        summary(results.parent)


def test_without_matplotlib_there_are_numbers_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.delitem(sys.modules, "equipot.analysis.observables.pictures", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    gas = ideal_gas(6, 20)
    content = write(tmp_path / "out", observe(gas, FEW, only=["rdf"]), gas, None, FEW)
    assert "equipot[observe]" in content["missing"]["pictures"] and content["files"] == ["rdf.csv"]


def test_no_phonons_without_phonopy(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "phonopy", None)
    copper = bulk("Cu", cubic=True)
    found = observe(trajectory(copper.positions[None], copper.cell.array, 29), FEW, calculator=EMT(), only=["phonons", "rdf"])
    assert isinstance(found, Observed) and 'pip install "equipot[observe]"' in found.missing["phonons"]
