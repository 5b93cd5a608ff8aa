"""Phonon bands and density of states, by phonopy."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms

from equipot.analysis.observables.blocks import Blocked
from equipot.analysis.observables.crystal import INSTALL, Crystal
from equipot.analysis.observables.result import CannotObserveError, Curve, Observable, Value
from equipot.analysis.observables.settings import Settings

if TYPE_CHECKING:
    from phonopy import Phonopy

MESH = 100.0  # Å: points along each reciprocal vector are this over the lattice vector
POINTS = 40.0  # of the path per 1/Å
UNSTABLE = -0.05  # THz: below it a mode is imaginary, above it may be noise


def phonons(crystal: Crystal, settings: Settings, progress: Callable[[str], None] = lambda text: None) -> list[Observable]:
    """Bands along the lattice's standard path and the density of states, in THz; imaginary frequencies are negative.

    Finite displacements in a supercell at least `settings.supercell` Å wide, force constants symmetrised. Without the splitting that charges
    make near Γ. A. Togo, J. Phys. Soc. Jpn. 92, 012001 (2023). Raises CannotObserveError without phonopy.
    """
    found = force_constants(crystal, settings, progress)
    primitive = found.primitive
    path = Atoms(primitive.symbols, cell=primitive.cell, scaled_positions=primitive.scaled_positions, pbc=True).cell.bandpath(
        density=POINTS
    )
    found.run_qpoints(path.kpts)
    bands = np.array(found.qpoints.frequencies)
    x, special, labels = path.get_linear_kpoint_axis()
    found.run_mesh(MESH)
    found.run_total_dos()
    grid, density = np.array(found.total_dos.frequency_points), np.array(found.total_dos.dos)
    lowest, highest = float(bands.min()), float(bands.max())
    size = " x ".join(str(int(n)) for n in np.diag(found.supercell_matrix))
    notes = [
        f"{crystal.space_group}, supercell {size} of the primitive cell ({len(found.supercell)} atoms), displacements of {settings.displacement:g} Å"
    ]
    if lowest < UNSTABLE:
        notes.append(
            f"not stable: the lowest mode is imaginary, {abs(lowest):.2f}i THz; a larger supercell, or a real instability of the model's crystal"
        )
    ticks = [(float(at), label.replace("G", "Γ")) for at, label in zip(special, labels, strict=True)]
    branches = [Curve(f"branch {i + 1}", x, Blocked.of(bands[None, :, i])) for i in range(bands.shape[1])]
    ends = [Value("lowest frequency", lowest, np.nan, "THz"), Value("highest frequency", highest, np.nan, "THz")]
    area = float(np.trapezoid(density, grid))
    return [
        Observable("phonons", "Phonon bands", "", "frequency, THz", branches, ends, notes, together=True, ticks=ticks),
        Observable(
            "phonon_dos",
            "Phonon density of states",
            "frequency, THz",
            "density of states, 1/THz",
            [Curve("all", grid, Blocked.of(density[None] / area))],
        ),
    ]


def force_constants(crystal: Crystal, settings: Settings, progress: Callable[[str], None] = lambda text: None) -> "Phonopy":
    """A `phonopy.Phonopy` of the primitive cell with its force constants."""
    try:
        from phonopy import Phonopy
        from phonopy.structure.atoms import PhonopyAtoms
    except ImportError:
        raise CannotObserveError(f"phonons need phonopy: {INSTALL}") from None
    cell = crystal.primitive
    widths = 1.0 / np.linalg.norm(np.linalg.inv(cell.cell.array), axis=0)
    repeats = np.maximum(2, np.ceil(settings.supercell / widths - 1e-6)).astype(int)
    unit = PhonopyAtoms(symbols=cell.get_chemical_symbols(), cell=cell.cell.array, scaled_positions=cell.get_scaled_positions())
    found = Phonopy(unit, supercell_matrix=np.diag(repeats), primitive_matrix=np.eye(3), log_level=0)
    found.generate_displacements(distance=settings.displacement)
    forces = []
    for i, displaced in enumerate(found.supercells_with_displacements):
        progress(f"phonons: displacement {i + 1} of {len(found.supercells_with_displacements)}, {len(displaced)} atoms")
        atoms = Atoms(
            displaced.symbols, cell=displaced.cell, scaled_positions=displaced.scaled_positions, pbc=True, calculator=crystal.calculator
        )
        forces.append(atoms.get_forces())
    found.forces = forces
    found.produce_force_constants()
    found.symmetrize_force_constants()
    return found
