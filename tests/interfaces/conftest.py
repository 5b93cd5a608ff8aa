"""A small random model, saved to a file, and structures for it."""

from pathlib import Path

import pytest
from ase import Atoms
from ase.build import bulk, molecule
from random_models import random_potential

from equipot.model import save_model


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
