"""Structures in a report: the vendored viewer, the worst frames in 3D, trajectories and their films."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from test_report_page import embedded, molecules

from equipot.analysis.predictions import write_predictions
from equipot.analysis.report import collect, write_report
from equipot.analysis.report.content import PredictedSet
from equipot.analysis.report.page import ASSETS
from equipot.analysis.report.structures import MOST_ATOMS, MOST_COORDINATES, broad_side, film, frame_scene
from equipot.analysis.report.trajectories import N_FRAMES, read_film
from equipot.analysis.report.worst import N_OF_A_SET, N_WORST, worst, worst_frames
from equipot.data.frame import Frame
from equipot.errors import UserError


def test_the_viewer_is_the_recorded_one():
    folder = ASSETS / "vendor"
    record = json.loads((folder / "vendored.json").read_text())
    assert record["sha256"] == {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in record["sha256"]}
    script = (folder / "3Dmol-min.js").read_text()
    assert len(script) < 1_000_000 and "$3Dmol" in script and "</script" not in script
    assert "BSD-3-Clause" in (folder / "3Dmol-LICENSE.txt").read_text()


def off_by(frames: list[Frame], sizes: list[float]) -> list[dict]:
    """Predictions whose second atom's force is off by so much, eV/Å, along z."""
    shift = np.array([[0, 0, 0], [0, 0, 1.0], [0, 0, 0]])
    return [{"energy": f.energy, "forces": f.forces + size * shift} for f, size in zip(frames, sizes, strict=True)]


def test_the_worst_frames_of_all_and_some_of_every_set():
    frames = molecules(30)
    bad = PredictedSet("bad", frames, off_by(frames, [1.0 + 0.1 * i for i in range(30)]), 30)
    good = PredictedSet("good", frames, off_by(frames, [0.001 * i for i in range(30)]), 30)
    found = worst_frames([good, bad])
    assert [b.set_name for b in found] == ["bad"] * N_WORST + ["good"] * N_OF_A_SET
    assert found[0].error == pytest.approx(3900.0) and found[0].atom == 1 and found[0].rmse == pytest.approx(1300.0)
    table, viewer = worst([good, bad])
    assert len(table.rows) == len(viewer.scenes) and viewer.scenes[0].error == [0.0, 3900.0, 0.0]
    assert worst([]) == []


def test_a_molecule_is_turned_with_its_forces_and_a_crystal_is_not():
    frame = molecules(1)[0]
    prediction = off_by([frame], [0.5])[0]
    scene = frame_scene("x", frame, prediction)
    assert scene.cell is None and np.ptp(np.array(scene.positions)[:, 2]) < 0.01  # a plane faces the reader
    between = frame.positions[1] - frame.positions[0]
    turned = np.array(scene.positions[1]) - scene.positions[0]
    assert np.dot(turned, scene.arrows["reference"][1]) == pytest.approx(np.dot(between, frame.forces[1]), abs=5e-3)
    crystal = Frame(frame.numbers, frame.positions, 5 * np.eye(3), np.ones(3, bool), forces=frame.forces)
    still = frame_scene("x", crystal, prediction)
    assert still.cell == (5 * np.eye(3)).tolist() and np.allclose(still.positions, frame.positions, atol=1e-3)
    for cloud in (frame.positions, np.random.default_rng(0).normal(size=(9, 3)), np.zeros((1, 3))):
        assert np.linalg.det(broad_side(cloud)) == pytest.approx(1.0)


def test_what_is_too_large_is_not_drawn():
    n = MOST_ATOMS + 1
    frame = Frame(np.ones(n, int), np.zeros((n, 3)), np.zeros((3, 3)), np.zeros(3, bool), forces=np.zeros((n, 3)))
    assert frame_scene("x", frame, {"forces": frame.forces}) is None
    assert film([Atoms("H" * n)], ["x"]) == [] and film([], []) == []
    drawn = film([Atoms(f"H{MOST_ATOMS}")] * 100, ["x"] * 100)
    assert 0 < len(drawn) * MOST_ATOMS <= MOST_COORDINATES + MOST_ATOMS


def steps(n: int, bad_from: int | None = None) -> list[Atoms]:
    """A simulation of water, with energies and velocities; from `bad_from` on its positions are not numbers."""
    frames = []
    for i in range(n):
        atoms = Atoms("OHH", [[0, 0, 0], [0.96 + 0.001 * i, 0, 0], [-0.24, 0.93, 0]])
        atoms.set_momenta(np.full((3, 3), 0.1))
        atoms.calc = SinglePointCalculator(atoms, energy=-3.0 - 0.01 * i, forces=np.zeros((3, 3)))
        if bad_from is not None and i >= bad_from:
            atoms.positions[:] = np.nan
        frames.append(atoms)
    return frames


@pytest.mark.parametrize("name", ["md.extxyz", "md.traj", "md.xyz.gz"])
def test_a_trajectory(tmp_path, name):
    write(tmp_path / name, steps(150), **({"format": "extxyz"} if name.endswith("gz") else {}))
    found = read_film(tmp_path / name)
    assert len(found) <= N_FRAMES and found[-1].info["frame"] == 149 and found[-1].positions[1, 0] == pytest.approx(0.96 + 0.149)
    page = write_report(tmp_path / name).read_text()
    assert "<h2>Molecular dynamics</h2>" in page
    assert set(embedded(page, "figures")) == {"md-0-energy", "md-0-temperature"}
    view = embedded(page, "views")["film-0"]
    assert view["animated"] and len(view["scenes"]) == len(found) and view["scenes"][-1]["label"] == "frame 149"
    folder = write_report(tmp_path, tmp_path / "folder.html").read_text()
    assert embedded(folder, "views").keys() == {"film-0"}


def test_a_trajectory_beside_its_log(tmp_path):
    write(tmp_path / "md.extxyz", steps(5))
    columns = "step,time_ps,temperature_K,total_eV_per_atom\n"
    (tmp_path / "md.log.csv").write_text(columns + "".join(f"{i},{i / 1000},300,0\n" for i in range(5)))
    for path in (tmp_path, tmp_path / "md.extxyz", tmp_path / "md.log.csv"):
        content = collect(path)
        assert len(content.simulations) == 1 and not content.sets
        assert len(content.simulations[0].frames) == 5 and len(content.simulations[0].log["step"]) == 5


def test_an_exploded_run_is_shown_to_where_it_exploded(tmp_path):
    write(tmp_path / "md.traj", steps(12, bad_from=8))
    page = write_report(tmp_path / "md.traj").read_text()
    assert "not numbers from frame 8 on" in page
    assert len(embedded(page, "views")["film-0"]["scenes"]) == 8


def test_a_folder_of_predictions_alone(tmp_path):
    frames = molecules(4)
    write_predictions({"test": (frames, [p | {"stress": None} for p in off_by(frames, [0.1] * 4)])}, tmp_path / "mine.extxyz")
    page = write_report(tmp_path).read_text()
    assert "<h2>Errors</h2>" in page and embedded(page, "views")["worst"]["scenes"][0]["error"] == [0.0, 100.0, 0.0]


def test_structures_that_are_neither(tmp_path):
    write(tmp_path / "data.xyz", [Atoms("H"), Atoms("H2O"), Atoms("CH")])
    with pytest.raises(UserError, match="neither predictions beside labels"):
        write_report(tmp_path / "data.xyz")
    with pytest.raises(UserError, match="nothing to report"):
        write_report(tmp_path)
    (tmp_path / "data.xyz").write_text("not a structure\n")
    with pytest.raises(UserError, match="data.xyz"):
        write_report(Path(tmp_path / "data.xyz"))
