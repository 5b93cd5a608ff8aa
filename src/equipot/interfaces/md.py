"""Molecular dynamics with a model: a run that can be killed at any time and continued to the same trajectory."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from ase import Atoms
from ase.md.md import MolecularDynamics

from equipot.errors import OutOfMemoryError, UserError
from equipot.interfaces.ase_calculator import Calculator, has_full_cell
from equipot.interfaces.integrators import build_integrator, conserved_energy, integrator_state, restore_integrator
from equipot.interfaces.md_log import MDLog, Sample
from equipot.interfaces.md_recorder import BlownUpError, Recorder
from equipot.interfaces.md_restart import Restart, model_hash, read_restart
from equipot.interfaces.md_settings import MDSettings
from equipot.interfaces.stop import StopRequest
from equipot.interfaces.structure import read_structure
from equipot.interfaces.trajectory import check_suffix, open_trajectory
from equipot.interfaces.velocities import set_start_velocities, temperature_of

if TYPE_CHECKING:
    from equipot.model import Potential

log = logging.getLogger("equipot.md")
_SECONDS_BETWEEN_RESTARTS = 600.0


class MDFiles(NamedTuple):
    """The files of a run, all beside its trajectory."""

    trajectory: Path
    log: Path  # CSV
    restart: Path

    @staticmethod
    def of(out: str | Path) -> "MDFiles":
        """For md.xyz: md.xyz, md.log.csv and md.restart; raises UserError if `out` is not a trajectory's name."""
        path = check_suffix(out)
        return MDFiles(path, path.with_suffix(".log.csv"), path.with_suffix(".restart"))


class MDSummary(NamedTuple):
    """How a run ended."""

    files: MDFiles
    settings: MDSettings
    step: int  # reached
    finished: bool  # False: stopped by a signal, can be resumed
    last: Sample | None  # the last row written by this call


@dataclass(eq=False)
class _Run:
    """A run in progress."""

    dynamics: MolecularDynamics
    settings: MDSettings
    files: MDFiles
    recorder: Recorder
    rng: np.random.Generator
    model_hash: str


def run_md(
    model: "str | Path | Potential",
    structure: "str | Path | Atoms",
    out: str | Path,
    settings: MDSettings | None = None,
    *,
    engine: str = "auto",
    device: str = "cpu",
    skin: float = 1.0,
    force: bool = False,
    on_sample: Callable[[Sample, int], None] | None = None,
) -> MDSummary:
    """Molecular dynamics of a structure (a file or ASE atoms) from step 0; the trajectory is `out` (.xyz, .extxyz or .traj).

    Frames hold energy, forces, momenta and, with a full cell, stress; beside the trajectory grow a CSV log and a restart file (`MDFiles`).
    Ctrl-C and SIGTERM end the run after the current step, resumable. `on_sample` sees each row of the log and the number of steps in all.
    Raises UserError for bad input before anything is written, and if the dynamics blows up, with all frames kept.
    """
    settings = settings or MDSettings()
    files = MDFiles.of(out)
    if not force:
        _refuse_overwriting(files)
    calculator = Calculator(model, dtype=settings.dtype, device=device, engine=engine, skin=skin)
    atoms = structure.copy() if isinstance(structure, Atoms) else read_structure(structure)
    atoms.calc = calculator
    if settings.ensemble == "npt" and not has_full_cell(atoms):
        raise UserError(
            "the ensemble npt needs a cell that is periodic in all three directions: this is a molecule or a slab; use langevin or nvt"
        )
    atoms.get_forces()  # what the model cannot compute is found before any file is touched
    rng = np.random.default_rng(settings.seed)
    start = set_start_velocities(atoms, settings, rng)
    dynamics = build_integrator(atoms, settings, start.n_dof, rng)
    origin = "of the structure's file" if start.from_file else "drawn"
    log.info("%d atoms, %s, velocities %s, %.0f K", len(atoms), settings.ensemble, origin, temperature_of(atoms, start.n_dof))
    files.trajectory.parent.mkdir(parents=True, exist_ok=True)
    for path in reversed(files):  # the restart file first: it must never refer to files of another run
        path.unlink(missing_ok=True)
    recorder = Recorder(
        dynamics, settings, start.n_dof, conserved_energy(dynamics), open_trajectory(files.trajectory), MDLog(files.log, None), on_sample
    )
    run = _Run(dynamics, settings, files, recorder, rng, model_hash(model))
    return _integrate(run)


def resume_md(
    model: "str | Path | Potential",
    out: str | Path,
    given: dict[str, Any] | None = None,
    *,
    engine: str = "auto",
    device: str = "cpu",
    skin: float = 1.0,
    on_sample: Callable[[Sample, int], None] | None = None,
) -> MDSummary:
    """Continue the run whose trajectory is `out` from its restart file, exactly as if it had not been stopped.

    Frames and rows written after the restart file was are cut off and computed anew. The settings are those the run was started with;
    `given` may change `steps` (in all), any other key in it must agree.
    Raises UserError if there is nothing to resume, or another model or setting.
    """
    files = MDFiles.of(out)
    restart = read_restart(files.restart)
    settings = restart.settings.continued(given or {})
    if model_hash(model) != restart.model_hash:
        raise UserError(f"{files.restart}: the run was started with another model; resume with that one, or start a new run")
    if restart.step >= settings.steps:
        return MDSummary(files, settings, restart.step, True, None)
    atoms = restart.atoms
    atoms.calc = Calculator(model, dtype=settings.dtype, device=device, engine=engine, skin=skin)
    rng = np.random.default_rng()
    rng.bit_generator.state = restart.random
    dynamics = build_integrator(atoms, settings, restart.n_dof, rng)
    restore_integrator(dynamics, restart.integrator, restart.step)
    trajectory = open_trajectory(files.trajectory, restart.trajectory_mark)
    log = MDLog(files.log, restart.log_mark)
    recorder = Recorder(dynamics, settings, restart.n_dof, restart.reference, trajectory, log, on_sample)
    return _integrate(_Run(dynamics, settings, files, recorder, rng, restart.model_hash))


def _refuse_overwriting(files: MDFiles) -> None:
    for path in files:
        if path.exists():
            raise UserError(f"{path} is already there: give another name, continue that run with --resume, or overwrite it with --force")


def _integrate(run: _Run) -> MDSummary:
    """From the current step to the last, or to a request to stop."""
    with run.recorder, StopRequest() as stop:
        try:
            _step_on(run, stop)
        except BlownUpError:
            raise
        except OutOfMemoryError as error:
            raise OutOfMemoryError(f"{run.files.trajectory}: step {run.dynamics.nsteps + 1}: {error}{_kept(run)}") from None
        except UserError as error:
            raise BlownUpError(run.dynamics.nsteps + 1, str(error)) from error
    step = run.dynamics.nsteps
    return MDSummary(run.files, run.settings, step, step >= run.settings.steps, run.recorder.last)


def _kept(run: _Run) -> str:
    """How the run can go on, if it can."""
    return f"; {run.files.restart} is kept, and --resume goes on from it" if run.files.restart.is_file() else ""


def _step_on(run: _Run, stop: StopRequest) -> None:
    dynamics, first = run.dynamics, run.dynamics.nsteps
    saved_at = time.monotonic()
    for _ in dynamics.irun(run.settings.steps - first):
        step = dynamics.nsteps
        if step == first and step > 0:
            continue
        run.recorder.after_step()
        if step % run.settings.restart_interval == 0 or time.monotonic() - saved_at > _SECONDS_BETWEEN_RESTARTS:
            _save(run)
            saved_at = time.monotonic()
        if stop:
            break
    _save(run)


def _save(run: _Run) -> None:
    """The restart file last, when all it refers to is on disk."""
    trajectory_mark, log_mark = run.recorder.mark()
    Restart(
        settings=run.settings,
        step=run.dynamics.nsteps,
        atoms=run.dynamics.atoms,
        n_dof=run.recorder.n_dof,
        integrator=integrator_state(run.dynamics),
        random=run.rng.bit_generator.state,
        reference=run.recorder.reference,
        trajectory_mark=trajectory_mark,
        log_mark=log_mark,
        model_hash=run.model_hash,
    ).write(run.files.restart)
