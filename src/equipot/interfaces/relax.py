"""Relaxing a structure, and its cell, with a model."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import ase.io
import numpy as np
from ase import Atoms, units
from ase.filters import FrechetCellFilter
from ase.io.formats import UnknownFileTypeError, ioformats
from ase.optimize import BFGS, FIRE, LBFGS
from ase.optimize.optimize import Optimizer

from equipot.errors import UserError
from equipot.interfaces.ase_calculator import Calculator, has_full_cell
from equipot.interfaces.stop import StopRequest
from equipot.interfaces.structure import read_structure
from equipot.interfaces.trajectory import frame_of, open_trajectory

if TYPE_CHECKING:
    from equipot.model import Potential

OPTIMIZERS: dict[str, type[Optimizer]] = {"fire": FIRE, "lbfgs": LBFGS, "bfgs": BFGS}


class RelaxStep(NamedTuple):
    """One step of a relaxation."""

    step: int
    energy: float  # eV
    max_force: float  # eV/Å, on an atom; constraints applied
    max_stress: float | None  # GPa, largest departure of a stress component from the target; None where the cell is fixed


class RelaxSummary(NamedTuple):
    """How a relaxation ended."""

    converged: bool
    first: RelaxStep
    last: RelaxStep
    structure: Path
    path: Path  # the trajectory of all steps
    atoms: Atoms  # relaxed, with their calculator


def relax(
    model: "str | Path | Potential",
    structure: "str | Path | Atoms",
    out: str | Path,
    *,
    cell: bool = False,
    pressure: float = 0.0,
    fmax: float = 0.01,
    smax: float = 0.05,
    steps: int = 500,
    optimizer: str = "fire",
    dtype: str | None = None,
    engine: str = "auto",
    device: str = "cpu",
    force: bool = False,
    on_step: Callable[[RelaxStep], None] | None = None,
) -> RelaxSummary:
    """Move the atoms, and with `cell` the cell, towards zero forces and `pressure` GPa, for at most `steps` steps.

    It has converged when no force is above `fmax` eV/Å and, with `cell`, no stress component further than `smax` GPa from its target.
    Writes the last structure to `out` (a format ASE writes, by its suffix) and every step to a trajectory beside it: for a.cif, a.path.xyz.
    optimizer: "fire", "bfgs", or "lbfgs", which looks at forces only and far from a minimum may climb to another stationary point.
    Raises UserError for bad input before anything is written.
    """
    _check(fmax, smax, steps, pressure, optimizer, cell)
    out = Path(out)
    path = out.with_suffix(".path.xyz")
    file_format = _writable(out)
    for file in (out, path):
        if file.exists() and not force:
            raise UserError(f"{file} is already there: give another name, or overwrite it with --force")
    calculator = Calculator(model, dtype=dtype, device=device, engine=engine)
    atoms = structure.copy() if isinstance(structure, Atoms) else read_structure(structure)
    atoms.calc = calculator
    if cell and not has_full_cell(atoms):
        raise UserError(
            "relaxing the cell needs one that is periodic in all three directions: this is a molecule or a slab; leave the cell out"
        )
    atoms.get_forces()  # what the model cannot compute is found before any file is touched
    target = FrechetCellFilter(atoms, scalar_pressure=pressure * units.GPa) if cell else atoms
    out.parent.mkdir(parents=True, exist_ok=True)
    trajectory = open_trajectory(path)
    goal = _Goal(fmax, smax, pressure if cell else None)
    try:
        converged, first, last = _run(OPTIMIZERS[optimizer](target, logfile=None), atoms, goal, steps, trajectory.append, on_step)
    finally:
        trajectory.close()
    ase.io.write(out, frame_of(atoms, {}), format=file_format)
    return RelaxSummary(converged, first, last, out, path, atoms)


class _Goal(NamedTuple):
    fmax: float  # eV/Å
    smax: float  # GPa
    pressure: float | None  # GPa; None where the cell is fixed

    def state(self, step: int, atoms: Atoms) -> RelaxStep:
        stress = None
        if self.pressure is not None:
            target = np.array([-self.pressure] * 3 + [0.0] * 3)
            stress = float(np.abs(atoms.get_stress() / units.GPa - target).max())
        return RelaxStep(step, float(atoms.get_potential_energy()), float(np.sqrt((atoms.get_forces() ** 2).sum(axis=1).max())), stress)

    def reached(self, state: RelaxStep) -> bool:
        return state.max_force <= self.fmax and (state.max_stress is None or state.max_stress <= self.smax)


def _run(
    dynamics: Optimizer,
    atoms: Atoms,
    goal: _Goal,
    steps: int,
    append: Callable[[Atoms], None],
    on_step: Callable[[RelaxStep], None] | None,
) -> tuple[bool, RelaxStep, RelaxStep]:
    """Whether it converged, first and last step; a request to stop ends it early. ASE's own criterion, which knows no stress, is off."""
    first = None
    with StopRequest() as stop:
        for _ in dynamics.irun(fmax=0.0, steps=steps):
            last = goal.state(dynamics.nsteps, atoms)
            first = first or last
            append(frame_of(atoms, {"step": last.step}))
            if on_step:
                on_step(last)
            if goal.reached(last) or stop:
                break
    return goal.reached(last), first, last


def _check(fmax: float, smax: float, steps: int, pressure: float, optimizer: str, cell: bool) -> None:
    for name, value in (("fmax", fmax), ("smax", smax)):
        if not (math.isfinite(value) and value > 0):
            raise UserError(f"{name} must be a positive number, not {value}")
    if steps < 1:
        raise UserError(f"steps must be 1 or more, not {steps}")
    if not math.isfinite(pressure) or (pressure and not cell):
        raise UserError("pressure is a number of GPa and goes with relaxing the cell: say cell too, or leave it out")
    if optimizer not in OPTIMIZERS:
        raise UserError(f"optimizer {optimizer!r} is not known: one of {', '.join(OPTIMIZERS)}")


def _writable(out: Path) -> str:
    """The format ASE writes for that name; raises UserError if there is none."""
    try:
        name = ase.io.formats.filetype(str(out), read=False)
    except UnknownFileTypeError:
        name = ""
    if name not in ioformats or not ioformats[name].can_write:
        raise UserError(f"{out}: no structure format that ASE writes ends like that; name it .xyz, .cif, .vasp, .traj …")
    return name
