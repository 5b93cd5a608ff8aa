"""A small random model, saved to a file, and structures for it."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from equipot.model import Potential, save_model
from equipot.presets import nequip


def random_potential(seed: int = 1, dtype: torch.dtype = torch.float64, scale: float = 3.0) -> Potential:
    """An untrained NequIP of H, C and O with forces of about 1 eV/Å and site energies E0 that differ."""
    spec = nequip(n_layers=2, n_channels=8, l_max=1, cutoff=4.0, radial_mlp=(16,), parity="both")
    layers = tuple(replace(layer, normaliser=replace(layer.normaliser, value=10.0)) for layer in spec.layers)
    energy = replace(spec.energy, e0=(-0.3, 0.2, 0.7), scale=scale)
    return Potential(replace(spec, layers=layers, elements=(1, 6, 8), energy=energy), dtype=dtype, seed=seed)


@pytest.fixture(scope="session")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "random.equipot"
    save_model(random_potential(), path)
    return path


@pytest.fixture
def ethanol() -> Atoms:
    return molecule("CH3CH2OH")


@pytest.fixture
def crystal() -> Atoms:
    """Eight atoms of two elements in a sheared cell, off their sites."""
    atoms = bulk("C", "diamond", 3.9, cubic=True)
    atoms.symbols[::3] = "O"
    atoms.set_cell(atoms.cell.array @ [[1.0, 0.05, 0.0], [0.0, 1.02, 0.03], [0.0, 0.0, 0.97]], scale_atoms=True)
    atoms.rattle(0.08, seed=3)
    return atoms
