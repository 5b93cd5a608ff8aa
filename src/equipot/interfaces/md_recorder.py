"""What is done after each step of a run: watch for a blow-up, write a frame and a row of the log."""

import time
from collections.abc import Callable
from typing import Self

import numpy as np
from ase import Atoms, units
from ase.md.md import MolecularDynamics

from equipot.errors import UserError
from equipot.interfaces.ase_calculator import has_full_cell
from equipot.interfaces.integrators import conserved_energy
from equipot.interfaces.md_log import MDLog, Sample
from equipot.interfaces.md_settings import MDSettings
from equipot.interfaces.trajectory import Trajectory, frame_of
from equipot.interfaces.velocities import temperature_of

_VOLUME_RATIO = 8.0  # a cell this many times larger or smaller than at the start has blown up or collapsed


class BlownUpError(UserError):
    """The dynamics has gone where the model or the timestep cannot follow."""

    def __init__(self, step: int, what: str) -> None:
        super().__init__(
            f"the dynamics has blown up at step {step}: {what}; the frames before it are kept: take a shorter timestep, start from a "
            "relaxed structure, or train the model on structures like the last frames"
        )


class Recorder:
    """Writes the frames and the log of a run; a context that closes both.

    Args: `n_dof` degrees of freedom that carry the temperature, `reference` the conserved quantity at step 0 in eV, or None.
    """

    def __init__(
        self,
        dynamics: MolecularDynamics,
        settings: MDSettings,
        n_dof: int,
        reference: float | None,
        trajectory: Trajectory,
        log: MDLog,
        on_sample: Callable[[Sample, int], None] | None = None,
    ) -> None:
        self.n_dof, self.reference = n_dof, reference
        self.last: Sample | None = None
        self._dynamics, self._settings = dynamics, settings
        self._trajectory, self._log, self._on_sample = trajectory, log, on_sample
        self._volume = dynamics.atoms.get_volume() if settings.ensemble == "npt" else None
        self._timed_from = (dynamics.nsteps, time.perf_counter())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._trajectory.close()
        self._log.close()

    def after_step(self) -> None:
        """Check the state, and record it where a frame is due; raises UserError if the run has blown up."""
        step = self._dynamics.nsteps
        self._require_sound(step)
        if step % self._settings.interval == 0:
            sample = self._sample(step)
            self._trajectory.append(frame_of(self._dynamics.atoms, {"step": step, "time_ps": sample.time_ps}))
            self._log.append(sample)
            self.last = sample
            if self._on_sample:
                self._on_sample(sample, self._settings.steps)

    def mark(self) -> tuple[int, int]:
        """Secure trajectory and log on disk; where a resumed run cuts them back to."""
        return self._trajectory.mark(), self._log.mark()

    def _require_sound(self, step: int) -> None:
        atoms = self._dynamics.atoms
        temperature = temperature_of(atoms, self.n_dof)
        if not temperature <= self._settings.temperature_limit:
            raise BlownUpError(step, f"the temperature is {temperature:.0f} K, above the limit of {self._settings.temperature_limit:.0f} K")
        if self._volume is not None:
            ratio = atoms.get_volume() / self._volume
            if not 1.0 / _VOLUME_RATIO < ratio < _VOLUME_RATIO:
                raise BlownUpError(step, f"the volume is {ratio:.2g} times what it was at the start of this run")

    def _sample(self, step: int) -> Sample:
        atoms = self._dynamics.atoms
        potential, kinetic = float(atoms.get_potential_energy()), float(atoms.get_kinetic_energy())
        conserved = conserved_energy(self._dynamics) if self.reference is not None else None
        full = has_full_cell(atoms)
        speed = self._speed(step)
        return Sample(
            step=step,
            time_ps=step * self._settings.timestep * 1e-3,
            temperature_K=temperature_of(atoms, self.n_dof),
            potential_eV=potential,
            kinetic_eV=kinetic,
            total_eV_per_atom=(potential + kinetic) / len(atoms),
            pressure_GPa=-float(np.mean(atoms.get_stress(include_ideal_gas=True)[:3])) / units.GPa if full else None,
            volume_A3=float(atoms.get_volume()) if full else None,
            drift_meV_per_atom=None if conserved is None else 1000.0 * (conserved - self.reference) / len(atoms),
            steps_per_s=speed,
            ns_per_day=None if speed is None else speed * self._settings.timestep * 0.0864,
            **_doubt(atoms),
        )

    def _speed(self, step: int) -> float | None:
        """Steps per second since the row before; None for the first."""
        (step_before, time_before), now = self._timed_from, time.perf_counter()
        self._timed_from = (step, now)
        return (step - step_before) / (now - time_before) if step > step_before else None


def _doubt(atoms: Atoms) -> dict[str, float]:
    """What an ensemble says of its own certainty at this step; nothing for one model."""
    results = atoms.calc.results
    if "forces_std" not in results:
        return {}
    return {"energy_std_meV_per_atom": 1000.0 * results["energy_std"] / len(atoms), "forces_std_eV_A": float(results["forces_std"].max())}
