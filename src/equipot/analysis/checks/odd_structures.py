"""Structures that a wrong image, ghost atom, rank boundary or neighbour list shows in, for comparing engines."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from equipot.analysis.checks import probes
from equipot.data.frame import Frame
from equipot.spec import ModelSpec

N_ELEMENTS = 4  # of the model's at most
NONE, ALL, SLAB = (np.array(pbc) for pbc in ([False] * 3, [True] * 3, [True, True, False]))


class Odd(NamedTuple):
    """A structure with a name. Cells that are periodic have a along x and b in the xy plane; a slab's c is along z."""

    name: str
    frame: Frame
    same_as: str | None = None  # the structure whose energy and forces it must have


def odd_structures(spec: ModelSpec, rng: np.random.Generator) -> list[Odd]:
    """One atom, pairs at the cutoff, a molecule, a slab, cells smaller than the cutoff, wrapped and unwrapped, gaps over rank boundaries.

    Rank boundaries are those of a division of the box along z.
    """
    elements = _some(spec.elements)
    first, last = elements[0], elements[-1]
    reach = probes.pair_cutoffs(spec, first, last)[-1]
    crystal = probes.random_crystal(elements, rng)
    molecules = probes.random_molecules(elements, rng)
    along = (0.36, 0.48, 0.8)
    return [
        Odd("one atom", Frame(np.array([first]), np.array([[0.3, -0.2, 0.1]]), np.zeros((3, 3)), NONE)),
        Odd("dimer inside the cutoff", probes.dimer(first, last, 0.999 * reach, along)),
        Odd("dimer at the cutoff", probes.dimer(first, last, reach, along)),
        Odd("molecule", molecules[0]),
        Odd("slab", _slab(crystal, spec.cutoff)),
        Odd("cell smaller than the cutoff", _small_cell(first, last, spec.cutoff)),
        Odd("wrapped", crystal),
        Odd(
            "unwrapped", replace(crystal, positions=crystal.positions + rng.integers(-2, 3, (crystal.n_atoms, 3)) @ crystal.cell), "wrapped"
        ),
        Odd("gap at the rank boundary", _gap(*molecules, spec.cutoff)),
        Odd("one rank without atoms", _lonely(molecules[1], spec.cutoff)),
    ]


def _some(elements: Sequence[int]) -> list[int]:
    places = np.unique(np.linspace(0, len(elements) - 1, min(N_ELEMENTS, len(elements))).round().astype(int))
    return [elements[i] for i in places]


def _slab(crystal: Frame, cutoff: float) -> Frame:
    """One layer of the crystal's cells; the middle of its thickness is the middle of the box."""
    height = crystal.positions[:, 2]
    size = np.ptp(height) + 4.0 * cutoff
    positions = crystal.positions + [0.0, 0.0, size / 2 - (height.max() + height.min()) / 2]
    return replace(crystal, positions=positions, cell=np.array([*crystal.cell[:2], [0.0, 0.0, size]]), pbc=SLAB)


def _small_cell(first: int, second: int, cutoff: float) -> Frame:
    """Two atoms in a triclinic cell whose every height is below the cutoff."""
    numbers = np.array([first, second])
    shape = np.array([[1.0, 0.0, 0.0], [0.4, 0.9, 0.0], [-0.3, 0.35, 1.1]])
    cell = shape * probes.bond(first, second) * 1.6
    heights = np.abs(np.linalg.det(cell)) / np.linalg.norm(np.cross(np.roll(cell, -1, 0), np.roll(cell, -2, 0)), axis=1)
    cell *= min(1.0, 0.8 * cutoff / heights.max())
    return Frame(numbers, np.array([[0.1, 0.2, 0.3], [0.55, 0.75, 0.85]]) @ cell, cell, ALL)


def _gap(lower: Frame, upper: Frame, cutoff: float) -> Frame:
    """Two molecules that meet over the box's edge, with nothing for more than a cutoff where two ranks meet."""
    both = probes.together(lower, upper, 0.0)
    apart = 1.2 * max(probes.bond(a, b) for a in both.numbers for b in both.numbers)
    low, high = (m.positions - m.positions.min(axis=0) for m in (lower, upper))
    size = low[:, 2].max() + high[:, 2].max() + 2.0 * cutoff + apart
    # as much of the empty space on either side of the middle
    low = low + [0.0, 0.0, size / 2 - cutoff - low[:, 2].max()]
    high = high + [0.0, 0.0, size / 2 + cutoff]
    positions = np.concatenate([low, high])
    sides = np.ptp(positions[:, :2], axis=0) + apart
    return replace(both, positions=positions, cell=np.diag([*sides, size]), pbc=ALL)


def _lonely(molecule: Frame, cutoff: float) -> Frame:
    """A molecule in the lower part of a box whose upper half is empty."""
    positions = molecule.positions - molecule.positions.min(axis=0) + 0.2
    sides = np.ptp(positions, axis=0) + [2.0, 2.0, 0.0] + cutoff
    sides[2] = 3.0 * sides[2] + cutoff
    return replace(molecule, positions=positions, cell=np.diag(sides), pbc=ALL)
