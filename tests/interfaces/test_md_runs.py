"""Runs of molecular dynamics with a model: files, exact resume, blow-ups, bad input."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.io import read, write

from equipot.errors import UserError
from equipot.interfaces.ase_calculator import Calculator
from equipot.interfaces.md import MDFiles, resume_md, run_md
from equipot.interfaces.md_log import Sample, read_log
from equipot.interfaces.md_settings import MDSettings
from equipot.interfaces.torch_engine import TorchEngine

ENSEMBLES = [
    {"ensemble": "nve"},
    {"ensemble": "langevin", "friction": 20.0},
    {"ensemble": "nvt", "tau": 40.0},
    {"ensemble": "npt", "pressure": 5.0},
    {"ensemble": "npt", "barostat": "full"},
]


class Killed(Exception):
    pass


def killed_at(step: int):
    """An observer that ends the run as a crash would: without a word to it."""

    def observer(sample: Sample, steps: int) -> None:
        if sample.step >= step:
            raise Killed

    return observer


def assert_same_run(one: MDFiles, other: MDFiles) -> None:
    frames, others = read(one.trajectory, ":"), read(other.trajectory, ":")
    assert [f.info["step"] for f in frames] == [f.info["step"] for f in others]
    for a, b in zip(frames, others, strict=True):
        assert np.array_equal(a.positions, b.positions)
        assert np.array_equal(a.get_momenta(), b.get_momenta())
        assert np.array_equal(a.cell.array, b.cell.array)
        assert np.array_equal(a.get_forces(), b.get_forces())
        assert a.get_potential_energy() == b.get_potential_energy()
    log, log_of_other = read_log(one.log), read_log(other.log)
    for name in set(log) - {"steps_per_s", "ns_per_day"}:
        assert np.array_equal(log[name], log_of_other[name], equal_nan=True), name


@pytest.mark.parametrize("suffix", [".xyz", ".traj"])
@pytest.mark.parametrize("options", ENSEMBLES, ids=lambda o: "-".join(str(v) for v in o.values()))
def test_a_killed_run_resumes_to_the_same_trajectory(model_file: Path, crystal: Atoms, tmp_path: Path, options: dict, suffix: str) -> None:
    settings = MDSettings(**options, steps=26, interval=2, restart_interval=7, temperature=200.0)
    whole = run_md(model_file, crystal, tmp_path / f"whole{suffix}", settings)
    with pytest.raises(Killed):
        run_md(model_file, crystal, tmp_path / f"parts{suffix}", settings, on_sample=killed_at(12))
    with pytest.raises(Killed):
        resume_md(model_file, tmp_path / f"parts{suffix}", on_sample=killed_at(18))
    parts = resume_md(model_file, tmp_path / f"parts{suffix}")
    assert (whole.step, whole.finished, parts.step, parts.finished) == (26, True, 26, True)
    assert_same_run(whole.files, parts.files)
    assert len(read(parts.files.trajectory, ":")) == 14


@pytest.mark.parametrize("suffix", [".xyz", ".traj"])
def test_what_was_written_after_the_restart_file_is_cut_off(model_file: Path, ethanol: Atoms, tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"a{suffix}"
    with pytest.raises(Killed):
        run_md(model_file, ethanol, out, MDSettings(steps=40, interval=1, restart_interval=5), on_sample=killed_at(9))
    assert len(read(out, ":")) == len(read_log(MDFiles.of(out).log)["step"]) == 10
    resume_md(model_file, out, {"steps": 6})
    assert [f.info["step"] for f in read(out, ":")] == read_log(MDFiles.of(out).log)["step"].tolist() == list(range(7))


def test_kill_9_and_resume(model_file: Path, ethanol: Atoms, tmp_path: Path) -> None:
    ethanol.write(tmp_path / "start.traj")
    child = (
        "import sys; from equipot.interfaces.md import run_md; from equipot.interfaces.md_settings import MDSettings\n"
        "run_md(*sys.argv[1:4], MDSettings(ensemble='langevin', steps=10**6, interval=3, restart_interval=10, seed=4))"
    )
    arguments = [str(model_file), str(tmp_path / "start.traj"), str(tmp_path / "killed.traj")]
    process = subprocess.Popen([sys.executable, "-c", child, *arguments])
    try:
        wait_for(lambda: (tmp_path / "killed.log.csv").is_file() and len((tmp_path / "killed.log.csv").read_text().splitlines()) > 15)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    resumed = resume_md(model_file, tmp_path / "killed.traj", {"steps": 150})
    settings = MDSettings(ensemble="langevin", steps=150, interval=3, restart_interval=10, seed=4)
    assert resumed.settings == settings
    assert_same_run(resumed.files, run_md(model_file, ethanol, tmp_path / "whole.traj", settings).files)


def wait_for(condition, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the run did not get going"
        time.sleep(0.01)


def test_a_request_to_stop_leaves_a_resumable_run(model_file: Path, ethanol: Atoms, tmp_path: Path) -> None:
    def interrupt(sample: Sample, steps: int) -> None:
        if sample.step == 10:
            signal.raise_signal(signal.SIGINT)

    settings = MDSettings(ensemble="nvt", steps=25, interval=5)
    before = signal.getsignal(signal.SIGINT)
    stopped = run_md(model_file, ethanol, tmp_path / "a.traj", settings, on_sample=interrupt)
    assert signal.getsignal(signal.SIGINT) is before
    assert (stopped.finished, stopped.step) == (False, 10)
    resumed = resume_md(model_file, tmp_path / "a.traj")
    assert_same_run(resumed.files, run_md(model_file, ethanol, tmp_path / "b.traj", settings).files)


def test_a_finished_run_can_be_made_longer(model_file: Path, ethanol: Atoms, tmp_path: Path) -> None:
    short = MDSettings(ensemble="langevin", steps=10, interval=4)
    run_md(model_file, ethanol, tmp_path / "a.xyz", short)
    again = resume_md(model_file, tmp_path / "a.xyz")
    assert (again.finished, again.step, again.last) == (True, 10, None)
    longer = resume_md(model_file, tmp_path / "a.xyz", {"steps": 20})
    whole = run_md(model_file, ethanol, tmp_path / "b.xyz", MDSettings(ensemble="langevin", steps=20, interval=4))
    assert_same_run(longer.files, whole.files)


def test_nve_conserves_energy_to_second_order(model_file: Path, ethanol: Atoms, tmp_path: Path) -> None:
    drift = []
    for timestep, steps in ((0.25, 240), (0.5, 120)):
        out = tmp_path / f"{timestep}.xyz"
        run_md(model_file, ethanol, out, MDSettings(timestep=timestep, steps=steps, interval=1, temperature=300.0, restart_interval=1000))
        drift.append(np.abs(read_log(MDFiles.of(out).log)["drift_meV_per_atom"]).max())
    assert 0 < drift[1] < 1.0
    assert 2.5 < drift[1] / drift[0] < 6.0


@pytest.mark.parametrize("suffix", [".xyz", ".extxyz", ".traj"])
def test_frames_hold_what_the_calculator_says(model_file: Path, crystal: Atoms, tmp_path: Path, suffix: str) -> None:
    summary = run_md(model_file, crystal, tmp_path / f"a{suffix}", MDSettings(steps=6, interval=3, timestep=1.0))
    frames = read(summary.files.trajectory, ":")
    log = read_log(summary.files.log)
    assert [f.info["step"] for f in frames] == log["step"].tolist() == [0, 3, 6]
    assert log["time_ps"].tolist() == pytest.approx([0.0, 0.003, 0.006])
    assert frames[0].positions == pytest.approx(crystal.positions, abs=1e-8)
    for frame, total in zip(frames, log["total_eV_per_atom"], strict=True):
        again = frame.copy()
        again.calc = Calculator(model_file)
        assert frame.get_potential_energy() == pytest.approx(again.get_potential_energy(), abs=1e-5)
        assert frame.get_forces() == pytest.approx(again.get_forces(), abs=1e-5)
        assert frame.get_stress() == pytest.approx(again.get_stress(), abs=1e-5)
        assert (frame.get_potential_energy() + frame.get_kinetic_energy()) / 8 == pytest.approx(total, abs=1e-5)


def test_the_pressure_is_that_of_the_stress_and_of_motion(model_file: Path, crystal: Atoms, tmp_path: Path) -> None:
    summary = run_md(model_file, crystal, tmp_path / "a.traj", MDSettings(steps=1, interval=1, temperature=1000.0))
    frame = read(summary.files.trajectory, -1)
    ideal = 2.0 * frame.get_kinetic_energy() / (3.0 * frame.get_volume())
    expected = (ideal - frame.get_stress()[:3].mean()) * 160.21766208
    assert read_log(summary.files.log)["pressure_GPa"][-1] == pytest.approx(expected, rel=1e-6)
    assert ideal * 160.2 > 1.0


def test_velocities_of_the_file_are_continued(model_file: Path, ethanol: Atoms, tmp_path: Path) -> None:
    first = run_md(model_file, ethanol, tmp_path / "a.traj", MDSettings(steps=5, interval=5, temperature=500.0))
    second = run_md(model_file, first.files.trajectory, tmp_path / "b.traj", MDSettings(steps=5, interval=5))
    whole = run_md(model_file, ethanol, tmp_path / "c.traj", MDSettings(steps=10, interval=5, temperature=500.0))
    ends = [read(run.files.trajectory, -1).positions for run in (second, whole)]
    assert ends[0] == pytest.approx(ends[1], abs=1e-10)


def test_the_seed_decides(model_file: Path, ethanol: Atoms, tmp_path: Path) -> None:
    ends = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run = run_md(model_file, ethanol, tmp_path / f"{name}.traj", MDSettings(ensemble="langevin", steps=3, interval=3, seed=seed))
        ends.append(read(run.files.trajectory, -1).positions)
    assert np.array_equal(ends[0], ends[1])
    assert np.abs(ends[0] - ends[2]).max() > 1e-4


def test_nvt_of_a_molecule_and_a_slab_needs_no_stress(model_file: Path, crystal: Atoms, tmp_path: Path) -> None:
    crystal.pbc = (True, True, False)
    run = run_md(model_file, crystal, tmp_path / "a.xyz", MDSettings(ensemble="nvt", steps=4, interval=2))
    assert run.last.pressure_GPa is None
    assert "stress" not in read(run.files.trajectory, -1).calc.results


def test_a_blow_up_ends_the_run_and_keeps_the_frames(model_file: Path, ethanol: Atoms, tmp_path: Path) -> None:
    limited = MDSettings(steps=500, interval=2, temperature=300.0, max_temperature=310.0)
    with pytest.raises(UserError, match=r"blown up at step \d+: the temperature is \d+ K") as caught:
        run_md(model_file, ethanol, tmp_path / "a.xyz", limited)
    step = int(str(caught.value).split("step ")[1].split(":")[0])
    assert read(tmp_path / "a.xyz", -1).info["step"] == (step - 1) // 2 * 2
    assert "\n" not in str(caught.value)


def test_results_that_are_not_finite_end_the_run_with_its_step(model_file: Path, ethanol: Atoms, tmp_path: Path, monkeypatch) -> None:
    sound, calls = TorchEngine.evaluate, []

    def broken(self, *arguments):
        calls.append(0)
        found = sound(self, *arguments)
        return found._replace(energy=float("nan")) if len(calls) > 8 else found

    monkeypatch.setattr(TorchEngine, "evaluate", broken)
    with pytest.raises(UserError, match="blown up at step 8: .*not finite"):
        run_md(model_file, ethanol, tmp_path / "a.xyz", MDSettings(steps=50, interval=1), engine="torch")
    assert len(read(tmp_path / "a.xyz", ":")) == 8


def test_nothing_is_overwritten_unasked(model_file: Path, ethanol: Atoms, tmp_path: Path) -> None:
    out = tmp_path / "a.xyz"
    run_md(model_file, ethanol, out, MDSettings(steps=4, interval=2))
    before = out.read_bytes()
    with pytest.raises(UserError, match="already there"):
        run_md(model_file, ethanol, out, MDSettings(steps=2, interval=2))
    assert out.read_bytes() == before
    run_md(model_file, ethanol, out, MDSettings(steps=2, interval=2), force=True)
    assert len(read(out, ":")) == 2


def test_single_atoms_can_be_run(model_file: Path, tmp_path: Path) -> None:
    run = run_md(model_file, Atoms("H"), tmp_path / "a.xyz", MDSettings(ensemble="langevin", steps=5, interval=5))
    assert run.last.potential_eV == pytest.approx(-0.3)
    assert run.last.temperature_K > 0


def test_the_last_frame_is_taken_or_the_one_that_is_named(model_file: Path, tmp_path: Path) -> None:
    frames = [molecule("H2O"), molecule("CH4")]
    write(tmp_path / "two.xyz", frames)
    run = run_md(model_file, tmp_path / "two.xyz", tmp_path / "a.xyz", MDSettings(steps=1))
    assert len(read(run.files.trajectory, 0)) == 5
    run = run_md(model_file, f"{tmp_path}/two.xyz@0", tmp_path / "b.xyz", MDSettings(steps=1))
    assert len(read(run.files.trajectory, 0)) == 3
