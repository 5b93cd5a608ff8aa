"""Force constants of a model for phonopy, which makes bands, densities of states and thermal properties of them. Extra `phonopy`."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike

from equipot.errors import MissingPackageError, UserError
from equipot.interfaces.ase_calculator import has_full_cell
from equipot.interfaces.engines import open_engine

try:
    from phonopy import Phonopy
    from phonopy.structure.atoms import PhonopyAtoms
    from phonopy.structure.cells import guess_primitive_matrix
except ImportError as error:
    raise MissingPackageError("phonopy", "phonopy") from error

if TYPE_CHECKING:
    from equipot.model import Ensemble, Potential


def phonons(
    model: "str | Path | Potential | Ensemble",
    atoms: Atoms,
    supercell: ArrayLike = (2, 2, 2),
    distance: float = 0.01,
    symmetrise: bool = True,
    engine: str = "auto",
    dtype: str | None = "float64",
    device: str = "cpu",
) -> Phonopy:
    """A `Phonopy` with its force constants Φ_ij = −∂F_j/∂r_i, eV/Å², by displacements that symmetry leaves to be made.

    atoms: the unit cell, at its minimum: frequencies of a structure under forces mean little; supercell: (3,) or (3, 3), of at least twice the
    distance the model reaches (its cutoff for each layer) for force constants that have died away; distance of the displacements in Å;
    symmetrise: force constants that obey the acoustic sum rule and are symmetric exactly. Displacements this small need float64.
    Raises UserError unless the cell is periodic in all three directions, and as `open_engine` does.
    """
    if not has_full_cell(atoms):
        raise UserError("phonons need a cell that is periodic in all three directions: this structure is a molecule or a slab")
    matrix = np.asarray(supercell)
    cell = PhonopyAtoms(numbers=atoms.numbers, cell=atoms.cell.array, positions=atoms.positions, masses=atoms.get_masses())
    crystal = Phonopy(cell, np.diag(matrix) if matrix.ndim == 1 else matrix, primitive_matrix=guess_primitive_matrix(cell))
    crystal.generate_displacements(distance=distance)
    opened = open_engine(model, engine, dtype, device)
    pbc = np.ones(3, dtype=bool)
    moved = crystal.supercells_with_displacements
    crystal.forces = np.array([opened.evaluate(s.numbers, s.positions, s.cell, pbc, stress=False).forces for s in moved])
    crystal.produce_force_constants()
    if symmetrise:
        crystal.symmetrize_force_constants()
    return crystal
