"""Structures for LAMMPS that a wrong ghost, image or rank boundary shows in; models for elements 0 and 1 (H, O) with a cutoff of 3.4 Å."""

import numpy as np
from contract_models import CUTOFF, cluster, crystal
from lammps_runs import System, upright


def water(n: tuple[int, int, int] = (2, 3, 4), spacing: float = 3.1) -> System:
    """Molecules O H H of random orientation on a grid, in an orthorhombic box; types by element are 2 1 1."""
    rng = np.random.default_rng(7)
    sites = np.stack(np.meshgrid(*map(range, n), indexing="ij"), axis=-1).reshape(-1, 3) * spacing + 0.3
    shape = np.array([[0.0, 0, 0], [0.76, 0.59, 0], [-0.76, 0.59, 0]])
    turned = [shape @ np.linalg.qr(rng.normal(size=(3, 3)))[0] for _ in sites]
    positions = (sites[:, None] + np.array(turned)).reshape(-1, 3)
    return System(positions + 0.05 * rng.normal(size=positions.shape), np.tile([1, 0, 0], len(sites)), np.diag(np.array(n) * spacing))


def triclinic() -> System:
    """96 atoms in a sheared box."""
    positions, species, cell = crystal()
    shifts = np.stack(np.meshgrid(range(4), range(3), range(2), indexing="ij"), axis=-1).reshape(-1, 3)
    moved = (positions[None] + (shifts @ cell)[:, None]).reshape(-1, 3)
    moved += 0.05 * np.random.default_rng(2).normal(size=moved.shape)
    turned, box = upright(moved, cell * [[4], [3], [2]])
    return System(turned, np.tile(species, len(shifts)), box)


def slab(boundary: str) -> System:
    """Two layers of molecules; vacuum of more than a cutoff between them, where two ranks meet, and above."""
    lower = water((2, 2, 1))
    upper = lower.positions[:, [1, 0, 2]] + [0, 0, 14.0]
    positions = np.concatenate([lower.positions, upper]) + [0, 0, 1.0]
    return System(positions, np.tile(lower.species, 2), np.diag([6.2, 6.2, 28.0]), boundary)


def systems() -> dict[str, System]:
    """All of them, by name."""
    positions, species, cell = crystal()
    turned, small = upright(positions, cell)
    wide = np.diag([9.0, 8.0, 20.0])
    across = np.array([[1, 2, 0.4], [1.3, 2.2, 19.1], [5, 5, 9.6], [5.2, 4.7, 10.5]])  # over the box's edge, and where two ranks meet
    reach = np.array([[4, 4, 10 - 0.3 * CUTOFF], [4, 4, 10 + 0.699 * CUTOFF]])
    piece, kinds = cluster()
    return {
        "water": water(),
        "triclinic": triclinic(),
        "smaller than the cutoff": System(turned, species, small),
        "one atom": System(np.array([[1.0, 2, 3]]), np.array([1]), np.diag([6.0, 6, 6]), "f f f"),
        "dimers": System(across, np.array([0, 1, 1, 0]), wide),
        "dimer at the cutoff": System(reach, np.array([0, 1]), wide, "f f f"),
        "dimer out of reach": System(reach + [[0, 0, 0], [0, 0, 0.1]], np.array([0, 1]), wide, "f f f"),
        "slab": slab("p p f"),
        "slab, periodic": slab("p p p"),
        "one rank empty": System(piece + [4, 4, 4], kinds, wide, "p p f"),
    }
