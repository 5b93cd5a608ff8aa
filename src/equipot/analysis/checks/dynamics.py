"""Behaviour in motion: does the total energy stay, and does the motion run backwards?"""

import time
from dataclasses import dataclass

import ase
import numpy as np
from ase import units
from ase.calculators.calculator import Calculator, all_changes
from ase.md.verlet import VelocityVerlet
from ase.optimize import FIRE

from equipot.analysis.checks.context import Context
from equipot.analysis.checks.registry import Finding, check
from equipot.analysis.checks.symmetry import name_of
from equipot.data.frame import Frame

TEMPERATURE = 300.0  # K
MOST_STEPS, FEWEST_STEPS, SECONDS = 200, 12, 8.0
RELAX_STEPS = 60
SPREAD, RETURN = 2.0, 1e-4  # meV per atom, Å
HOT = 10_000.0  # K: it has blown up


@check("energy drift", "behaviour", "NVE dynamics keeps the total energy")
def energy_drift(context: Context) -> Finding:
    """A short NVE run from 300 K: the standard deviation of the total energy, which a drift widens as wrong forces do."""
    run = _run(context)
    if run.blown_up:
        return Finding(np.nan, SPREAD, "meV/atom", f"{run.name}: blew up within {run.time:.0f} fs; {run.advice}", run.details)
    total = run.energy / run.n_atoms * 1000.0
    third = len(total) // 3
    drift = float(total[-third:].mean() - total[:third].mean())
    course = f"{run.n_steps} steps of {run.timestep} fs, {run.temperature:.0f} K"
    message = f"{run.name}: total energy within {total.std():.1e} meV per atom, drift {drift:+.1e}, over {run.time:.0f} fs ({course})"
    return Finding(float(total.std()), SPREAD, "meV/atom", message, run.details)


@check("time reversal", "behaviour", "with all velocities turned round the atoms run back to where they came from")
def time_reversal(context: Context) -> Finding:
    """Largest distance from the start after n steps forth and n back."""
    run = _run(context)
    if run.blown_up:
        return Finding(np.nan, RETURN, "Å", f"{run.name}: blew up within {run.time:.0f} fs; {run.advice}")
    return Finding(run.miss, RETURN, "Å", f"{run.name}: {run.miss:.1e} Å off after {run.n_steps} steps forth and back")


@dataclass(frozen=True)
class _Run:
    name: str
    n_atoms: int
    timestep: float  # fs
    n_steps: int
    energy: np.ndarray  # (n_steps + 1,) eV, potential and kinetic
    temperature: float  # K, mean
    miss: float  # Å
    blown_up: bool
    advice: str

    @property
    def time(self) -> float:
        return self.n_steps * self.timestep

    @property
    def details(self) -> dict:
        return {"time_fs": (self.timestep * np.arange(len(self.energy))).tolist(), "total_energy": self.energy.tolist()}


class _Surface(Calculator):
    """The context as an ASE calculator, float64."""

    implemented_properties = ("energy", "forces")

    def __init__(self, context: Context) -> None:
        super().__init__()
        self.context = context

    def calculate(self, atoms: ase.Atoms | None = None, properties: tuple = ("energy",), system_changes: list = all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        frame = Frame(atoms.numbers, atoms.positions, np.array(atoms.cell[:]), np.array(atoms.pbc))
        (answer,) = self.context.evaluate([frame])
        self.results = {"energy": answer.energy, "forces": answer.forces}


def _run(context: Context) -> _Run:
    """The run, done once for both checks."""
    if not hasattr(context, "_dynamics"):
        context._dynamics = _forth_and_back(context)
    return context._dynamics


def _forth_and_back(context: Context) -> _Run:
    atoms, name, own = _start(context)
    atoms.calc = _Surface(context)
    advice = "the model does not hold its own data together" if own else "a random structure; give --data for a fair one"
    if not own:
        FIRE(atoms, logfile=None, maxstep=0.1).run(fmax=0.05, steps=RELAX_STEPS)
    _draw_velocities(atoms, context.random("dynamics"))
    timestep = 0.5 if (atoms.numbers == 1).any() else 1.0
    n_steps = _affordable_steps(atoms)
    start = atoms.positions.copy()
    with np.errstate(all="ignore"):
        energy, heat = _integrate(atoms, timestep, n_steps)
        blown_up = not max(heat) < HOT
        if not blown_up:
            atoms.set_velocities(-atoms.get_velocities())
            _integrate(atoms, timestep, n_steps)
    miss = float(np.abs(atoms.positions - start).max())
    return _Run(name, len(atoms), timestep, len(energy) - 1, np.array(energy), float(np.mean(heat)), miss, blown_up, advice)


def _start(context: Context) -> tuple[ase.Atoms, str, bool]:
    """The smallest of the user's structures with more than two atoms, else a random molecule."""
    own = sorted((f for f in context.natural if f.n_atoms > 2), key=lambda f: f.n_atoms)
    frame = own[0] if own else context.molecules[0]
    return ase.Atoms(frame.numbers, frame.positions, cell=frame.cell, pbc=frame.pbc), name_of(frame), bool(own)


def _affordable_steps(atoms: ase.Atoms) -> int:
    """Steps that fit twice into the seconds allowed."""
    start = time.perf_counter()
    atoms.positions[0, 0] += 1e-9
    atoms.get_forces()
    each = time.perf_counter() - start
    return int(np.clip(SECONDS / 2 / each, FEWEST_STEPS, MOST_STEPS))


def _integrate(atoms: ase.Atoms, timestep: float, n_steps: int) -> tuple[list[float], list[float]]:
    """Total energy and temperature at every step; ends early where it has blown up, with the temperature infinite if it is not a number."""
    energy, heat = [atoms.get_total_energy()], [atoms.get_temperature()]
    dynamics = VelocityVerlet(atoms, timestep=timestep * units.fs)
    for _ in range(n_steps):
        dynamics.run(1)
        energy.append(atoms.get_total_energy())
        heat.append(atoms.get_temperature() if np.isfinite(energy[-1]) else np.inf)
        if not heat[-1] < HOT:
            break
    return energy, heat


def _draw_velocities(atoms: ase.Atoms, rng: np.random.Generator) -> None:
    """Maxwell-Boltzmann, without motion of the centre of mass."""
    masses = atoms.get_masses()[:, None]
    momenta = rng.normal(size=(len(atoms), 3)) * np.sqrt(masses * units.kB * TEMPERATURE)
    atoms.set_momenta(momenta - masses * momenta.sum(axis=0) / masses.sum())
