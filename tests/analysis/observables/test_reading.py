"""Trajectories of every kind of file, and what is wrong with some."""

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms, units
from ase.io import write
from ase.io.trajectory import TrajectoryWriter

from equipot.analysis.observables.trajectory import read_trajectory
from equipot.errors import UserError
from equipot.interfaces.trajectory import frame_of, open_trajectory


def frames(n: int = 6, momenta: bool = True, step: float | None = 0.005) -> list[Atoms]:
    rng = np.random.default_rng(0)
    found = []
    for i in range(n):
        atoms = Atoms("OH2", rng.random((3, 3)) * 4.0, cell=[5.0, 5.0, 5.0], pbc=True)
        if momenta:
            atoms.set_velocities(rng.standard_normal((3, 3)))
        if step:
            atoms.info["time_ps"] = i * step
        found.append(atoms)
    return found


def saved(path: Path, content: list[Atoms]) -> str:
    if path.suffix == ".traj":
        with TrajectoryWriter(path) as file:
            for atoms in content:
                file.write(atoms)
    else:
        write(path, content)
    return str(path)


@pytest.mark.parametrize("name", ["t.extxyz", "t.xyz", "t.xyz.gz"])
def test_reads_positions_velocities_and_times(tmp_path: Path, name: str) -> None:
    source = frames()
    found = read_trajectory(saved(tmp_path / name, source))
    np.testing.assert_allclose(found.positions[3], source[3].positions, atol=1e-7)
    np.testing.assert_allclose(found.velocities[3], source[3].get_velocities() * units.fs, atol=1e-6)
    assert found.interval == pytest.approx(5.0) and found.elements == ["H", "O"] and found.is_bulk


@pytest.mark.parametrize("suffix", [".xyz", ".traj"])
def test_reads_what_md_writes(tmp_path: Path, suffix: str) -> None:
    """Energy, stress, momenta; the time where the format keeps it."""
    from ase.build import bulk
    from ase.calculators.emt import EMT

    atoms = bulk("Cu", cubic=True)
    atoms.calc = EMT()
    atoms.set_velocities(np.ones((4, 3)) * [[0.01], [-0.01], [0.02], [-0.02]])
    atoms.get_stress()
    file = open_trajectory(tmp_path / f"t{suffix}")
    for i in range(3):
        file.append(frame_of(atoms, {"step": i, "time_ps": 0.002 * i}))
    file.close()
    found = read_trajectory(str(tmp_path / f"t{suffix}"))
    assert found.energies[0] == pytest.approx(atoms.get_potential_energy(), abs=1e-6)
    np.testing.assert_allclose(found.stresses[0], atoms.get_stress(voigt=False), atol=1e-7)
    assert found.interval == pytest.approx(2.0)


def test_slices_skips_and_given_intervals(tmp_path: Path) -> None:
    name = saved(tmp_path / "t.xyz", frames(10))
    assert read_trajectory(f"{name}@2:8:2").interval == pytest.approx(10.0)
    assert len(read_trajectory(name, skip=4)) == 6
    assert len(read_trajectory(name, skip=0.3)) == 7
    assert read_trajectory(name, interval=7.0).interval == 7.0
    with pytest.raises(UserError, match="forward"):
        read_trajectory(f"{name}@::-1")
    with pytest.raises(UserError, match="skip fewer"):
        read_trajectory(name, skip=10)


def test_a_blown_up_run_is_read_to_where_it_blew_up(tmp_path: Path) -> None:
    content = frames(8)
    content[5].positions[1, 2] = np.nan
    found = read_trajectory(saved(tmp_path / "t.xyz", content))
    assert len(found) == 5
    assert "from frame 5 on" in found.notes[0] and "blown up" in found.notes[0]
    content = frames(8)
    content[3].positions[0, 0] = 1e9
    assert len(read_trajectory(saved(tmp_path / "far.xyz", content))) == 3
    content[0].positions[0, 0] = np.nan
    with pytest.raises(UserError, match="frame 0.*nothing to analyse"):
        read_trajectory(saved(tmp_path / "none.xyz", content))


def test_a_cut_off_end_is_left_out(tmp_path: Path) -> None:
    path = Path(saved(tmp_path / "t.xyz", frames(5)))
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    found = read_trajectory(str(path))
    assert len(found) == 4 and "cut short" in found.notes[0]


def test_empty_missing_and_odd_files(tmp_path: Path) -> None:
    (tmp_path / "empty.xyz").write_text("")
    (tmp_path / "blank.xyz").write_text("\n")
    (tmp_path / "odd.dat").write_text("what is this?\n")
    (tmp_path / "broken.traj").write_bytes(b"nonsense")
    for name, words in (
        ("empty.xyz", "the file is empty"), ("blank.xyz", "no frames"), ("odd.dat", "odd.dat"), ("broken.traj", "broken.traj"), ("no.xyz", "no such file"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=words):
            read_trajectory(str(tmp_path / name))


def test_frames_of_several_systems_are_refused(tmp_path: Path) -> None:
    content = frames(4)
    content[2] = Atoms("OH2O", content[2].positions.tolist() + [[0, 0, 0]], cell=content[2].cell, pbc=True)
    with pytest.raises(UserError, match="frame 2: 4 atoms, frame 0 has 3"):
        read_trajectory(saved(tmp_path / "t.xyz", content))
    content[2] = content[1][[1, 0, 2]]
    with pytest.raises(UserError, match="frame 2: other elements than frame 0, or in another order"):
        read_trajectory(saved(tmp_path / "t.xyz", content))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (frames(4, step=None), "--dt FS"),
        (frames(1), "one frame only"),
        ([*frames(4), *frames(4)], "not evenly spaced in time .frame 3"),
    ],
    ids=["no time", "one frame", "time starts anew"],
)
def test_why_there_is_no_interval(tmp_path: Path, content: list[Atoms], reason: str) -> None:
    import re

    found = read_trajectory(saved(tmp_path / "t.xyz", content))
    assert found.interval is None and re.search(reason, found.no_interval)


def test_velocities_that_are_zero_are_none(tmp_path: Path) -> None:
    content = frames(3)
    for atoms in content:
        atoms.set_momenta(np.zeros((3, 3)))
    assert read_trajectory(saved(tmp_path / "t.xyz", content)).velocities is None


def test_reads_data_sets(data_dir: Path) -> None:
    water = read_trajectory(f"{data_dir}/water_deepmd/data_0@:4")
    assert len(water) == 4 and water.velocities is None and water.energies is not None and water.is_bulk
