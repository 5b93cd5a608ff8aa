"""The crystal whose phonons, equation of state and elastic constants are computed: relaxed, in its standard cells."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS

from equipot.analysis.observables.result import CannotObserveError

SYMPREC = 0.01  # Å
FORCE = 1e-4  # eV/Å; forces and, times the volume per atom, stresses
STEPS = 500
MOST_WITHOUT_SYMMETRY = 20  # atoms
INSTALL = 'pip install "equipot[observe]"'


@dataclass(frozen=True, eq=False)
class Crystal:
    """A relaxed crystal; both cells are in spglib's standard orientation and carry their calculator."""

    primitive: Atoms
    conventional: Atoms
    space_group: str  # "Fm-3m (225)"
    calculator: Calculator


def prepare(atoms: Atoms, calculator: Calculator, insist: bool = False, progress: Callable[[str], None] = lambda text: None) -> Crystal:
    """Relax atoms and cell to zero stress, find the symmetry, and relax once more in it.

    Raises CannotObserveError for what is not periodic in three directions, does not relax, or (unless `insist`) has many atoms and no symmetry.
    """
    if not atoms.pbc.all() or atoms.get_volume() < 1e-6:
        raise CannotObserveError("not a crystal: it is not periodic in all three directions")
    if len(atoms) > MOST_WITHOUT_SYMMETRY and not insist and symmetry(atoms, 0.1)[1] == 1:
        raise CannotObserveError(f"not a crystal: {len(atoms)} atoms without any symmetry; name the crystal with --crystal FILE")
    progress("relaxing the crystal")
    relaxed = relax(Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True), calculator)
    conventional = relax(standard(relaxed, primitive=False), calculator)
    primitive = standard(conventional, primitive=True)
    primitive.calc = calculator
    name, number = symmetry(primitive, SYMPREC)
    return Crystal(primitive, conventional, f"{name} ({number})", calculator)


def relax(atoms: Atoms, calculator: Calculator, cell: bool = True) -> Atoms:
    """The atoms, moved to zero force and, with `cell`, zero stress; raises CannotObserveError where that takes too many steps."""
    atoms.calc = calculator
    target = FrechetCellFilter(atoms) if cell else atoms
    if not BFGS(target, logfile=None).run(fmax=FORCE, steps=STEPS):
        left = float(np.linalg.norm(atoms.get_forces(), axis=1).max())
        raise CannotObserveError(
            f"the crystal does not relax: a force of {left:.2g} eV/Å is left after {STEPS} steps; give a better structure or model"
        )
    return atoms


def symmetry(atoms: Atoms, precision: float) -> tuple[str, int]:
    """International symbol and number of the space group; P1 where spglib finds none."""
    found = _ask("get_symmetry_dataset", atoms, symprec=precision)
    return ("P1", 1) if found is None else (found.international, int(found.number))


def standard(atoms: Atoms, primitive: bool) -> Atoms:
    """spglib's standard cell, idealised."""
    found = _ask("standardize_cell", atoms, to_primitive=primitive, symprec=SYMPREC)
    if found is None:
        return atoms.copy()
    lattice, positions, numbers = found
    return Atoms(numbers=numbers, cell=lattice, scaled_positions=positions, pbc=True)


def _ask(question: str, atoms: Atoms, **options: Any) -> Any:
    """What spglib answers; None where it finds nothing (its older versions return that, newer ones raise or warn that they will)."""
    try:
        import spglib
    except ImportError:
        raise CannotObserveError(f"crystals need spglib and phonopy: {INSTALL}") from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            return getattr(spglib, question)((atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers), **options)
        except getattr(spglib, "SpglibError", ()):
            return None
