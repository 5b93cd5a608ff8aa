"""The OpenMM force: energies and forces in its units, its box, subsets, systems as XML."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import fcc111, molecule

from equipot.errors import MissingPackageError, UserError
from equipot.interfaces.ase_calculator import Calculator

openmm = pytest.importorskip("openmm", reason='openmm is not installed: pip install "equipot[openmm]"')
if not hasattr(openmm, "PythonForce"):
    pytest.skip(f"OpenMM {openmm.__version__} has no PythonForce: 8.5 or later", allow_module_level=True)
from openmm import app, unit  # noqa: E402

from equipot.interfaces.openmm_force import OpenMMPotential, from_ase  # noqa: E402

EXAMPLE = Path(__file__).parents[2] / "examples" / "openmm_md.py"
KJ_PER_MOL = units.kJ / units.mol


def context(system: openmm.System, positions: unit.Quantity, step: float = 0.5) -> openmm.Context:
    """On OpenMM's platform in double precision; step in fs."""
    made = openmm.Context(system, openmm.VerletIntegrator(step * unit.femtosecond), openmm.Platform.getPlatformByName("Reference"))
    made.setPositions(positions)
    return made


def state_of(made: openmm.Context) -> tuple[float, np.ndarray]:
    """Energy, eV, and forces, eV/Å, by OpenMM's and ASE's units."""
    state = made.getState(getEnergy=True, getForces=True)
    forces = state.getForces(asNumpy=True).value_in_unit(unit.kilojoule_per_mole / unit.angstrom)
    return state.getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole) * KJ_PER_MOL, np.array(forces) * KJ_PER_MOL


def in_ase(made: openmm.Context, numbers: np.ndarray, model: Path, periodic: bool) -> Atoms:
    """The structure of a context with the calculator."""
    state = made.getState(getPositions=True)
    cell = np.array(state.getPeriodicBoxVectors(asNumpy=True).value_in_unit(unit.angstrom)) if periodic else None
    positions = np.array(state.getPositions(asNumpy=True).value_in_unit(unit.angstrom))
    return Atoms(numbers, positions, cell=cell, pbc=periodic, calculator=Calculator(model))


@pytest.mark.parametrize("engine", ["native", "torch"])
@pytest.mark.parametrize("name", ["ethanol", "crystal"])
def test_it_is_the_calculator(model_file: Path, name: str, engine: str, request: pytest.FixtureRequest) -> None:
    atoms = request.getfixturevalue(name)
    topology, positions = from_ase(atoms)
    made = context(OpenMMPotential(model_file, engine).create_system(topology), positions)
    energy, forces = state_of(made)
    here = in_ase(made, atoms.numbers, model_file, bool(atoms.pbc.any()))
    atoms.calc = Calculator(model_file)
    assert energy == pytest.approx(atoms.get_potential_energy(), abs=1e-6)
    assert abs(forces).max() > 0.3
    np.testing.assert_allclose(forces, here.get_forces(), atol=1e-6)


def test_the_skewest_box_is_reduced_without_changing_the_lattice(model_file: Path, crystal: Atoms) -> None:
    skew = crystal.copy()
    skew.set_cell(np.array([[1, 0, 0], [2, 1, 0], [-1, 3, 1]]) @ crystal.cell.array)
    topology, positions = from_ase(skew)
    a, b, c = np.array(topology.getPeriodicBoxVectors().value_in_unit(unit.nanometer))
    assert max(abs(b[0]), abs(c[0])) <= 0.5001 * a[0] and abs(c[1]) <= 0.5001 * b[1]
    energy, _ = state_of(context(OpenMMPotential(model_file).create_system(topology), positions))
    crystal.calc = Calculator(model_file)
    assert energy == pytest.approx(crystal.get_potential_energy(), abs=1e-6)


def test_dynamics_conserve_energy(model_file: Path, crystal: Atoms) -> None:
    topology, positions = from_ase(crystal)
    system = OpenMMPotential(model_file).create_system(topology, remove_cm_motion=False)
    made = context(system, positions, step=0.25)
    made.setVelocitiesToTemperature(300.0, 1)

    def energies() -> tuple[float, float]:
        state = made.getState(getEnergy=True)
        parts = state.getPotentialEnergy(), state.getKineticEnergy()
        return tuple(e.value_in_unit(unit.kilojoule_per_mole) * KJ_PER_MOL for e in parts)

    made.getIntegrator().step(1)
    before = energies()
    made.getIntegrator().step(100)
    after = energies()
    assert abs(after[0] - before[0]) > 0.05
    assert abs(sum(after) - sum(before)) < 2e-3


def test_a_barostat_changes_the_box_that_the_model_sees(model_file: Path, crystal: Atoms) -> None:
    topology, positions = from_ase(crystal)
    system = OpenMMPotential(model_file).create_system(topology)
    barostat = openmm.MonteCarloBarostat(50000.0, 300.0, 1)
    barostat.setRandomNumberSeed(2)
    system.addForce(barostat)
    made = context(system, positions)
    volume = made.getState().getPeriodicBoxVolume()
    made.getIntegrator().step(20)
    assert made.getState().getPeriodicBoxVolume() < 0.99 * volume
    energy, forces = state_of(made)
    here = in_ase(made, crystal.numbers, model_file, True)
    assert energy == pytest.approx(here.get_potential_energy(), abs=1e-6)
    np.testing.assert_allclose(forces, here.get_forces(), atol=1e-6)


@pytest.mark.parametrize("itself", [True, False])
def test_some_atoms_of_a_system(model_file: Path, ethanol: Atoms, itself: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model acts on methane alone, whatever element and place the other particles have; also where OpenMM (8.5) cannot choose them."""
    if not itself:
        monkeypatch.delattr(openmm.PythonForce, "setParticles", raising=False)
    methane = molecule("CH4")
    both = ethanol + methane  # on top of one another
    both += Atoms("Au", [[0.1, 0.1, 0.1]])
    topology, positions = from_ase(both)
    system = openmm.System()
    for atom in topology.atoms():
        system.addParticle(atom.element.mass)
    chosen = np.arange(9, 14)[::-1]
    force = OpenMMPotential(model_file).add_force(system, topology, atoms=chosen, force_group=3)
    assert force.getForceGroup() == 3 and system.getNumForces() == 1
    energy, forces = state_of(context(system, positions))
    methane.calc = Calculator(model_file)
    assert energy == pytest.approx(methane.get_potential_energy(), abs=1e-6)
    np.testing.assert_allclose(forces[9:14], methane.get_forces(), atol=1e-6)
    assert not forces[:9].any() and not forces[14:].any()


def test_a_system_as_xml_has_the_model_in_it(model_file: Path, ethanol: Atoms, tmp_path: Path) -> None:
    topology, positions = from_ase(ethanol)
    moved = tmp_path / "gone.equipot"
    moved.write_bytes(model_file.read_bytes())
    system = OpenMMPotential(moved).create_system(topology)
    text = openmm.XmlSerializer.serialize(system)
    moved.unlink()
    energy, forces = state_of(context(openmm.XmlSerializer.deserialize(text), positions))
    expected = state_of(context(system, positions))
    assert energy == pytest.approx(expected[0], abs=1e-12)
    np.testing.assert_array_equal(forces, expected[1])


def test_a_potential_gives_each_force_a_list_of_its_own(model_file: Path, ethanol: Atoms) -> None:
    potential = OpenMMPotential(model_file)
    pairs = [from_ase(a) for a in (ethanol, molecule("H2O"))]
    contexts = [context(potential.create_system(t), p) for t, p in pairs]
    first = [state_of(c)[0] for c in contexts]
    assert first == [state_of(c)[0] for c in contexts]
    assert first[0] != first[1]


def test_mistakes_are_named(model_file: Path, ethanol: Atoms, crystal: Atoms) -> None:
    potential = OpenMMPotential(model_file)
    topology, positions = from_ase(ethanol)
    with pytest.raises(UserError, match="some"):
        from_ase(fcc111("Al", (1, 1, 2), vacuum=5.0))
    with pytest.raises(UserError, match="Si"):
        potential.create_system(from_ase(molecule("SiH4"))[0])
    with pytest.raises(UserError, match="2 particles, the topology 9"):
        two = openmm.System()
        two.addParticle(1.0), two.addParticle(1.0)
        potential.add_force(two, topology)
    system = potential.create_system(topology)
    for wrong in ([], [9], [-1], [0, 0]):
        with pytest.raises(UserError, match="from 0 to 8"):
            potential.add_force(system, topology, atoms=wrong)
    site = app.Topology()
    site.addAtom("M", None, site.addResidue("HOH", site.addChain()))
    with pytest.raises(UserError, match="no element"):
        potential.create_system(site)
    with pytest.raises(openmm.OpenMMException, match="NaN"):
        made = context(system, positions)
        made.setPositions(np.full((9, 3), np.nan))
        made.getState(getEnergy=True)


def test_the_example_runs(model_file: Path, crystal: Atoms, tmp_path: Path) -> None:
    crystal.write(tmp_path / "crystal.xyz")
    command = [sys.executable, str(EXAMPLE), str(model_file), "crystal.xyz", "--quick"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    ours, ase = map(float, re.search(r"OpenMM (\S+) eV, ASE (\S+) eV", done.stdout).groups())
    assert abs(ours - ase) < 1e-4  # OpenMM's platform CPU has positions in single precision
    assert (tmp_path / "openmm" / "trajectory.dcd").stat().st_size > 500


def test_without_openmm_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openmm", None)
    monkeypatch.delitem(sys.modules, "equipot.interfaces.openmm_force")
    with pytest.raises(MissingPackageError, match=r'openmm is not installed: pip install "equipot\[openmm\]"'):
        importlib.import_module("equipot.interfaces.openmm_force")
