"""Force constants for phonopy against derivatives taken another way; a model of untrained weights, so imaginary branches are welcome."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, molecule
from random_models import random_potential

from equipot.errors import MissingPackageError, UserError
from equipot.interfaces.ase_calculator import Calculator
from equipot.model import save_model

phonopy = pytest.importorskip("phonopy", reason='phonopy is not installed: pip install "equipot[phonopy]"')
from equipot.interfaces.phonopy_forces import phonons  # noqa: E402

IN_THZ = (units.second * 1e-12) ** 2 / (2 * np.pi) ** 2
"""Of a square of a frequency, ω² in eV/(Å² amu), the square of ω/2π in THz."""
EXAMPLE = Path(__file__).parents[2] / "examples" / "phonons.py"


@pytest.fixture(scope="module")
def silicon_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of silicon and carbon; one element only would not show masses or elements that were mixed up."""
    path = tmp_path_factory.mktemp("silicon") / "silicon.equipot"
    save_model(random_potential(elements=(6, 14), scale=10.0), path)
    return path


@pytest.fixture(scope="module")
def carbide() -> Atoms:
    return bulk("SiC", "zincblende", 4.36)


def at_gamma(crystal: "phonopy.Phonopy") -> np.ndarray:
    """Frequencies, THz, negative where they are imaginary."""
    crystal.run_qpoints([[0.0, 0.0, 0.0]])
    return crystal.qpoints.frequencies[0]


def test_force_constants_are_derivatives_of_forces(silicon_file: Path, carbide: Atoms) -> None:
    """Φ_ij of the supercell, by central differences of the calculator over a distance of our own; the sums over j vanish without any help."""
    crystal = phonons(silicon_file, carbide, (2, 2, 2), symmetrise=False)
    constants = crystal.force_constants
    whole = crystal.supercell
    atoms = Atoms(whole.numbers, whole.positions, cell=whole.cell, pbc=True, calculator=Calculator(silicon_file, dtype="float64"))
    step, expected = 0.004, np.zeros((3, len(atoms), 3))
    moved = 3
    for axis in range(3):
        for sign in (1, -1):
            here = atoms.copy()
            here.calc = atoms.calc
            here.positions[moved, axis] += sign * step
            expected[axis] -= sign * here.get_forces() / (2 * step)
    largest = abs(expected).max()
    assert largest > 0.3
    found = constants[list(crystal.p2s_map).index(moved)] if len(constants) < len(atoms) else constants[moved]
    np.testing.assert_allclose(found.transpose(1, 0, 2), expected, atol=2e-3 * largest)
    assert abs(constants.sum(axis=1)).max() < 1e-3 * largest


def test_masses_and_the_sum_rule(silicon_file: Path, carbide: Atoms) -> None:
    """Mean over the supercell's wave vectors of Σ ω² = Σ_κ tr Φ_κκ / m_κ: other masses, or the masses of other atoms, would show."""
    crystal = phonons(silicon_file, carbide, (2, 2, 2))
    constants, whole = crystal.force_constants, crystal.supercell
    assert abs(constants.sum(axis=1)).max() < 1e-12 * abs(constants).max()
    square = np.stack(np.meshgrid(*[[0.0, 0.5]] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    crystal.run_qpoints(square)
    frequencies = crystal.qpoints.frequencies
    mean = (frequencies * abs(frequencies)).sum() / len(square)
    home = crystal.primitive.p2s_map
    rows = range(len(home)) if len(constants) < len(whole) else home
    expected = sum(
        np.trace(constants[row, i]) / Atoms(numbers=[whole.numbers[i]]).get_masses()[0] for row, i in zip(rows, home, strict=True)
    )
    assert mean == pytest.approx(expected * IN_THZ, rel=1e-4)


@pytest.mark.parametrize("engine", ["native", "torch"])
def test_the_optical_mode_is_the_curvature_of_the_energy(silicon_file: Path, carbide: Atoms, engine: str) -> None:
    """At Γ: three modes at zero, and three of ω² = E″/μ, where the sublattices move against one another about the centre of mass."""
    crystal = phonons(silicon_file, carbide, (2, 2, 2), engine=engine)
    frequencies = at_gamma(crystal)
    light, heavy = sorted(carbide.get_masses())
    reduced = light * heavy / (light + heavy)
    shares = reduced / carbide.get_masses() * [1, -1]
    atoms = carbide.copy()
    atoms.calc = Calculator(silicon_file, dtype="float64")

    def energy(distance: float) -> float:
        atoms.positions = carbide.positions + np.outer(shares, [0, distance, 0])
        return atoms.get_potential_energy()

    step = 0.02
    curvature = (energy(step) - 2 * energy(0.0) + energy(-step)) / step**2
    square = curvature / reduced * IN_THZ
    optical = np.sort(frequencies * abs(frequencies))[:3] if square < 0 else np.sort(frequencies * abs(frequencies))[3:]
    assert abs(square) > 10.0
    np.testing.assert_allclose(optical, square, rtol=2e-3)
    assert np.sort(abs(frequencies))[2] < 1e-3


def test_a_molecule_has_none(silicon_file: Path) -> None:
    with pytest.raises(UserError, match="periodic in all three directions"):
        phonons(silicon_file, molecule("SiH4"))


def test_the_example_runs(silicon_file: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLE), str(silicon_file), "--quick"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    gamma = np.array(re.search(r"^G: (.*) THz", done.stdout, re.MULTILINE)[1].split(), float)
    expected = at_gamma(phonons(silicon_file, bulk("Si", "diamond", 5.43)))
    np.testing.assert_allclose(gamma, expected, atol=6e-4)
    assert {p.name for p in (tmp_path / "phonons").iterdir()} == {"band.yaml", "total_dos.dat"}


def test_without_phonopy_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "phonopy", None)
    monkeypatch.delitem(sys.modules, "equipot.interfaces.phonopy_forces")
    with pytest.raises(MissingPackageError, match=r'phonopy is not installed: pip install "equipot\[phonopy\]"'):
        importlib.import_module("equipot.interfaces.phonopy_forces")
