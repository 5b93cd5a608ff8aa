"""The structures of the packaged bundles, and how a bundle is written. Needs numpy and ase only: it runs in the other programs' environments."""

import json

import numpy as np
from ase import Atoms
from ase.build import molecule


def molecules() -> list[Atoms]:
    """Ethanol, twice rattled."""
    return [_rattled(molecule("CH3CH2OH"), seed, 0.12) for seed in (1, 2)]


def crystals() -> list[Atoms]:
    """Four atoms of Cu and O in a triclinic cell smaller than the cutoff, twice rattled."""
    cell = [[4.1, 0.2, -0.1], [0.7, 3.9, 0.3], [-0.4, 0.5, 4.4]]
    fractions = [[0.05, 0.1, 0.02], [0.55, 0.45, 0.1], [0.1, 0.6, 0.55], [0.6, 0.08, 0.52]]
    return [_rattled(Atoms("Cu2O2", scaled_positions=fractions, cell=cell, pbc=True), seed, 0.1) for seed in (3, 4)]


def _rattled(atoms: Atoms, seed: int, size: float) -> Atoms:
    atoms.positions += size * np.random.default_rng(seed).normal(size=atoms.positions.shape)
    return atoms


def write_bundle(path: str, meta: dict, weights: dict, buffers: dict, results: list[tuple[Atoms, dict]]) -> None:
    """One .npz of what an importer needs and of what the program found."""
    content = {f"weights/{name}": value for name, value in weights.items()}
    content |= {f"buffers/{name}": value for name, value in buffers.items()}
    for index, (atoms, found) in enumerate(results):
        structure = {"numbers": atoms.numbers, "positions": atoms.positions, "cell": np.array(atoms.cell), "pbc": atoms.pbc}
        content |= {f"frame{index}/{name}": value for name, value in {**structure, **found}.items()}
    np.savez_compressed(path, **{"meta.json": np.array(json.dumps(meta))}, **content)
