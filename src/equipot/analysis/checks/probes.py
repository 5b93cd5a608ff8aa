"""Structures to examine a model on: chosen from the user's frames, or made at random with reasonable distances."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

import numpy as np
from ase.data import chemical_symbols, covalent_radii

from equipot.data.frame import Frame
from equipot.spec import ModelSpec

N_FRAMES = 3
MANY_ATOMS = 120  # larger frames are used only where there are no others
MOLECULE_ATOMS = 10
CRYSTAL_ATOMS = 6
PACKING = 0.4  # of the random crystal's volume that atoms of covalent radius fill
CLOSEST, NEAR, FAR = 0.85, 0.95, 1.3  # distances in sums of covalent radii
_TRIES = 2000


def select(frames: Sequence[Frame], n: int = N_FRAMES) -> list[Frame]:
    """The first frames of different composition and config_type, then the first; no single atoms, large frames only where all are."""
    several = [f for f in frames if f.n_atoms > 1]
    small = [f for f in several if f.n_atoms <= MANY_ATOMS]
    if not small:
        return sorted(several, key=lambda f: f.n_atoms)[:1]
    kinds: dict[tuple, Frame] = {}
    for frame in small:
        kinds.setdefault((frame.config_type, tuple(np.bincount(frame.numbers, minlength=119))), frame)
    chosen = list(islice(kinds.values(), n))
    others = (f for f in small if not any(f is c for c in chosen))
    return chosen + list(islice(others, n - len(chosen)))


def random_molecules(elements: Sequence[int], rng: np.random.Generator, n: int = 2) -> list[Frame]:
    """Molecules in which each atom is about one bond from an earlier one, all elements present at least twice."""
    size = max(MOLECULE_ATOMS, 2 * len(elements))
    return [_molecule(rng.permutation(np.resize(elements, size)), rng, f"random molecule {i + 1}") for i in range(n)]


def random_crystal(elements: Sequence[int], rng: np.random.Generator) -> Frame:
    """A small triclinic cell with all elements, atoms apart by a bond or more."""
    numbers = rng.permutation(np.resize(elements, max(CRYSTAL_ATOMS, len(elements))))
    volume = float(np.sum(4.0 / 3.0 * np.pi * covalent_radii[numbers] ** 3)) / PACKING
    shape = np.array([[1.0, 0.0, 0.0], [0.25, 1.1, 0.0], [-0.15, 0.2, 0.9]])
    for _ in range(_TRIES):
        cell = shape * np.cbrt(volume / np.linalg.det(shape))
        fractional = _place_in_cell(numbers, cell, rng)
        if fractional is not None:
            return Frame(numbers, fractional @ cell, cell, np.ones(3, dtype=bool), source="random crystal")
        volume *= 1.02
    raise ValueError("no room for the atoms of a random crystal")


def supercell(frame: Frame, repeats: tuple[int, int, int]) -> Frame:
    """The cell repeated; copies of the whole structure follow one another."""
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in repeats), indexing="ij"), -1).reshape(-1, 3)
    positions = (frame.positions[None] + (grid @ frame.cell)[:, None]).reshape(-1, 3)
    return replace(frame, numbers=np.tile(frame.numbers, len(grid)), positions=positions, cell=frame.cell * np.array(repeats)[:, None])


def together(a: Frame, b: Frame, distance: float) -> Frame:
    """Two molecules in one structure, at least `distance` Å apart along x."""
    moved = b.positions - b.positions.min(axis=0) + [a.positions[:, 0].max() + distance, 0.0, 0.0]
    return replace(a, numbers=np.concatenate([a.numbers, b.numbers]), positions=np.concatenate([a.positions, moved]))


def dimer(first: int, second: int, r: float, direction: Sequence[float] = (1.0, 0.0, 0.0)) -> Frame:
    """Two atoms at r Å."""
    direction = np.asarray(direction, dtype=np.float64)
    positions = np.array([np.zeros(3), direction * (r / np.linalg.norm(direction))])
    name = f"{chemical_symbols[first]}-{chemical_symbols[second]} at {r:.2f} Å"
    return Frame(np.array([first, second]), positions, np.zeros((3, 3)), np.zeros(3, dtype=bool), source=name)


def bond(first: int, second: int) -> float:
    """Sum of the covalent radii, Å."""
    return float(covalent_radii[first] + covalent_radii[second])


def pair_cutoffs(spec: ModelSpec, first: int, second: int) -> list[float]:
    """Å, ascending: how far atoms of two elements see one another; two of them where it differs by direction."""
    if spec.pair_cutoff is None:
        return [spec.cutoff]
    i, j = spec.elements.index(first), spec.elements.index(second)
    return sorted({spec.pair_cutoff[i][j], spec.pair_cutoff[j][i]})


def unit_vector(rng: np.random.Generator) -> np.ndarray:
    """A random direction."""
    vector = rng.normal(size=3)
    return vector / np.linalg.norm(vector)


def _molecule(numbers: np.ndarray, rng: np.random.Generator, name: str) -> Frame:
    positions = [np.zeros(3)]
    while len(positions) < len(numbers):
        new, anchor = numbers[len(positions)], rng.integers(len(positions))
        here = positions[anchor] + unit_vector(rng) * rng.uniform(NEAR, FAR) * bond(numbers[anchor], new)
        if all(np.linalg.norm(here - p) >= CLOSEST * bond(z, new) for p, z in zip(positions, numbers, strict=False)):
            positions.append(here)
    return Frame(numbers, np.array(positions), np.zeros((3, 3)), np.zeros(3, dtype=bool), source=name)


def _place_in_cell(numbers: np.ndarray, cell: np.ndarray, rng: np.random.Generator) -> np.ndarray | None:
    images = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3, indexing="ij"), -1).reshape(-1, 3) @ cell
    placed: list[np.ndarray] = []
    for new in numbers:
        for _ in range(50):
            here = rng.random(3)
            gaps = [np.linalg.norm((here - p) @ cell + images, axis=1).min() / bond(z, new) for p, z in zip(placed, numbers, strict=False)]
            if min(gaps, default=FAR) >= NEAR:
                placed.append(here)
                break
        else:
            return None
    return np.array(placed)
