"""The ASE calculator: values, derivatives, reuse of the neighbour list, and what it refuses."""

import copy
import functools
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import fcc111, molecule
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress
from ase.optimize import BFGS
from ase.phonons import Phonons
from random_models import random_potential

from equipot.ase import Calculator
from equipot.engine.library import library
from equipot.errors import UserError


@pytest.fixture(params=["native", "torch"], autouse=True)
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every test of this file with either engine."""
    if request.param == "native" and library() is None:
        pytest.skip("the native engine was not built")
    monkeypatch.setattr(sys.modules[__name__], "Calculator", functools.partial(Calculator, engine=request.param))
    return request.param


def test_forces_are_the_derivative_of_the_energy(model_file: Path, crystal: Atoms) -> None:
    crystal.calc = Calculator(model_file)
    forces = crystal.get_forces()
    assert 0.1 < np.abs(forces).max() < 100
    assert forces == pytest.approx(calculate_numerical_forces(crystal, eps=1e-4), abs=2e-6)


def test_stress_is_the_derivative_of_the_energy_by_strain(model_file: Path, crystal: Atoms) -> None:
    crystal.calc = Calculator(model_file)
    stress = crystal.get_stress()
    assert np.abs(stress).min() > 1e-4
    assert stress == pytest.approx(calculate_numerical_stress(crystal, eps=1e-5), abs=1e-7)


def test_energies_sum_to_the_energy_and_free_energy_is_the_energy(model_file: Path, crystal: Atoms) -> None:
    crystal.calc = Calculator(model_file)
    energy = crystal.get_potential_energy()
    assert crystal.get_potential_energies().shape == (8,)
    assert crystal.get_potential_energies().sum() == pytest.approx(energy, abs=1e-12)
    assert crystal.get_potential_energy(force_consistent=True) == energy


def test_a_potential_is_as_good_as_its_file(model_file: Path, ethanol: Atoms) -> None:
    ethanol.calc = Calculator(model_file)
    forces = ethanol.get_forces()
    ethanol.calc = Calculator(random_potential())
    assert ethanol.get_forces() == pytest.approx(forces, abs=1e-12)


def test_dtype_is_an_explicit_choice(model_file: Path, ethanol: Atoms) -> None:
    assert Calculator(model_file).parameters["dtype"] == "float64"
    ethanol.calc = Calculator(model_file)
    exact = ethanol.get_forces()
    ethanol.calc = Calculator(model_file, dtype="float32")
    error = np.abs(ethanol.get_forces() - exact).max()
    assert 0 < error < 1e-4


def test_one_atom_has_its_reference_energy_and_no_force(model_file: Path) -> None:
    atoms = Atoms("O", calculator=Calculator(model_file))
    assert atoms.get_potential_energy() == pytest.approx(0.7, abs=1e-12)
    assert np.array_equal(atoms.get_forces(), np.zeros((1, 3)))


def test_atoms_out_of_each_others_sight(model_file: Path) -> None:
    atoms = Atoms("HC", positions=[[0, 0, 0], [0, 0, 9]], calculator=Calculator(model_file))
    assert atoms.get_potential_energies() == pytest.approx([-0.3, 0.2], abs=1e-12)
    assert not atoms.get_forces().any()


def test_wrapped_and_unwrapped_positions_give_the_same(model_file: Path, crystal: Atoms) -> None:
    crystal.calc = Calculator(model_file)
    before = crystal.get_forces()
    crystal.positions += np.outer(np.arange(8) - 3, [1, -2, 1]) @ crystal.cell.array
    assert crystal.get_forces() == pytest.approx(before, abs=1e-10)
    crystal.wrap()
    assert crystal.get_forces() == pytest.approx(before, abs=1e-10)


def test_the_skin_changes_nothing_but_the_number_of_searches(model_file: Path, crystal: Atoms) -> None:
    kept, searched = Calculator(model_file, skin=1.0), Calculator(model_file, skin=0.0)
    for step in range(12):
        crystal.rattle(0.05, seed=step)
        if step == 6:
            crystal.set_cell(crystal.cell.array * 1.01, scale_atoms=True)
        for calculator in (kept, searched):
            calculator.calculate(crystal, ["stress"])
        for name in ("energy", "forces", "stress"):
            assert np.array_equal(kept.results[name], searched.results[name])
    assert kept.engine.neighbours.n_builds < 6
    assert searched.engine.neighbours.n_builds == 12


def test_one_calculator_follows_another_structure(model_file: Path, crystal: Atoms, ethanol: Atoms) -> None:
    calculator = Calculator(model_file)
    expected = []
    for atoms in (crystal, ethanol):
        atoms.calc = Calculator(model_file)
        expected.append(atoms.get_forces())
        atoms.calc = calculator
    for atoms, forces in [(crystal, expected[0]), (ethanol, expected[1]), (crystal, expected[0])]:
        assert np.array_equal(atoms.get_forces(), forces)
    swapped = crystal[[1, 0, 2, 3, 4, 5, 6, 7]]
    assert not np.array_equal(swapped.numbers, crystal.numbers)
    swapped.calc = calculator
    assert swapped.get_forces()[[1, 0]] == pytest.approx(expected[0][[0, 1]], abs=1e-12)


def test_every_change_is_noticed_and_nothing_is_computed_twice(model_file: Path, crystal: Atoms, monkeypatch: pytest.MonkeyPatch) -> None:
    crystal.calc = Calculator(model_file)
    calls, sound = [], crystal.calc.engine.evaluate
    monkeypatch.setattr(crystal.calc.engine, "evaluate", lambda *a: calls.append(0) or sound(*a))

    def energy_after(change) -> float:
        change()
        energy = crystal.get_potential_energy()
        crystal.get_forces()
        return energy

    changes = (
        lambda: None,
        lambda: crystal.positions.__setitem__((2, 1), crystal.positions[2, 1] + 1e-7),
        lambda: crystal.set_cell(crystal.cell.array * 1.001),
        lambda: crystal.numbers.__setitem__(0, 6),
        lambda: setattr(crystal, "pbc", (True, True, False)),
    )
    energies = [energy_after(change) for change in changes]
    assert len(set(energies)) == len(calls) == 5
    crystal.set_initial_charges(np.ones(8))
    crystal.get_forces()
    assert len(calls) == 5


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda calc: pickle.loads(pickle.dumps(calc))])
def test_copies_work_on_their_own(model_file: Path, ethanol: Atoms, clone) -> None:
    original = Calculator(model_file)
    ethanol.calc = original
    forces = ethanol.get_forces()
    other = ethanol.copy()
    other.calc = clone(original)
    assert np.array_equal(other.get_forces(), forces)
    other.rattle(0.1)
    assert not np.allclose(other.get_forces(), forces)
    assert np.array_equal(original.results["forces"], forces)


def test_optimisers_find_a_minimum(model_file: Path, ethanol: Atoms) -> None:
    ethanol.calc = Calculator(model_file)
    start = ethanol.get_potential_energy()
    assert BFGS(ethanol, logfile=None).run(fmax=0.02, steps=200)
    assert ethanol.get_potential_energy() < start - 0.01


def test_phonons_are_those_of_the_energy(model_file: Path, tmp_path: Path) -> None:
    """Of one atom in a cell: frequencies at the zone's edge from the curvature of a frozen mode."""
    atoms = Atoms("C", cell=2.2 * np.eye(3), pbc=True)
    phonons = Phonons(atoms, Calculator(model_file), supercell=(4, 1, 1), delta=1e-3, name=str(tmp_path / "phonon"))
    phonons.run()
    phonons.read(acoustic=True)
    edge = phonons.compute_dynamical_matrix([0.5, 0, 0], phonons.D_N)[0, 0].real * atoms.get_masses()[0]
    double = atoms.repeat((2, 1, 1))
    double.calc = Calculator(model_file)
    double.positions[:, 0] += [1e-3, -1e-3]
    force = double.get_forces()[0, 0]
    assert edge == pytest.approx(-force / 1e-3, rel=1e-3)


def test_stress_needs_a_volume(model_file: Path, ethanol: Atoms) -> None:
    slab = fcc111("C", (1, 1, 2), a=3.6, vacuum=6.0)
    for atoms in (ethanol, slab):
        atoms.calc = Calculator(model_file)
        assert np.isfinite(atoms.get_forces()).all()
        with pytest.raises(UserError, match="molecule or a slab") as caught:
            atoms.get_stress()
        assert isinstance(caught.value, PropertyNotImplementedError)
        assert np.isfinite(atoms.get_forces()).all()


def test_unknown_elements_are_named_with_the_known(model_file: Path) -> None:
    atoms = molecule("CH3Cl")
    atoms.calc = Calculator(model_file)
    with pytest.raises(UserError, match=r"Cl is not among .*\(H, C, O\)"):
        atoms.get_potential_energy()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_positions_that_are_not_finite(model_file: Path, ethanol: Atoms, value: float) -> None:
    ethanol.calc = Calculator(model_file)
    ethanol.get_forces()
    ethanol.positions[3, 1] = value
    with pytest.raises(UserError, match="NaN or infinite"):
        ethanol.get_forces()


@pytest.mark.parametrize("name", ["energy", "forces"])
def test_results_that_are_not_finite_are_an_error(model_file: Path, ethanol: Atoms, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    ethanol.calc = Calculator(model_file)
    sound = ethanol.calc.engine.evaluate
    monkeypatch.setattr(ethanol.calc.engine, "evaluate", lambda *a: (found := sound(*a))._replace(**{name: getattr(found, name) * np.nan}))
    with pytest.raises(UserError, match="not finite"):
        ethanol.get_potential_energy()


def test_no_atoms(model_file: Path) -> None:
    with pytest.raises(UserError, match="no atoms"):
        Atoms(calculator=Calculator(model_file)).get_potential_energy()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "gpu"}, "'gpu' is not known"),
        ({"dtype": "float16"}, "float32 or float64"),
        ({"skin": -1.0}, "skin"),
        ({"dtpe": "float64"}, "no option 'dtpe'"),
    ],
)
def test_bad_options(model_file: Path, options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Calculator(model_file, **options)


def test_bad_files(tmp_path: Path, model_file: Path) -> None:
    with pytest.raises(UserError, match="no such model file"):
        Calculator(tmp_path / "nothing.equipot")
    cut = tmp_path / "cut.equipot"
    cut.write_bytes(model_file.read_bytes()[:2000])
    with pytest.raises(UserError, match="cut short"):
        Calculator(cut)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there(model_file: Path) -> None:
    with pytest.raises(UserError, match="cuda"):  # the native engine has none, torch finds none
        Calculator(model_file, device="cuda")


def test_importing_the_calculator_does_not_import_torch() -> None:
    code = "import sys, equipot.ase; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
