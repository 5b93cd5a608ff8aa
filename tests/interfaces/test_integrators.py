"""Ensembles: degrees of freedom, temperatures, conserved quantities; on a cheap classical potential."""

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.constraints import FixAtoms
from springs import Springs

from equipot.errors import UserError
from equipot.interfaces.integrators import build_integrator, conserved_energy, integrator_state, restore_integrator
from equipot.interfaces.md_settings import MDSettings
from equipot.interfaces.velocities import set_start_velocities, temperature_of


def prepared(atoms: Atoms, **options) -> tuple[Atoms, object, int]:
    atoms.calc = Springs(atoms)
    settings = MDSettings(**options)
    rng = np.random.default_rng(settings.seed)
    start = set_start_velocities(atoms, settings, rng)
    return atoms, build_integrator(atoms, settings, start.n_dof, rng), start.n_dof


def cluster() -> Atoms:
    return molecule("C2H6")


def cube() -> Atoms:
    return bulk("Ar", "fcc", 5.3, cubic=True)


def mean_temperature(atoms: Atoms, dynamics, n_dof: int, steps: int) -> float:
    """Over `steps` steps, after a tenth of them."""
    found = []
    for step, _ in enumerate(dynamics.irun(steps)):
        if step > steps // 10:
            found.append(temperature_of(atoms, n_dof))
    return float(np.mean(found))


@pytest.mark.parametrize(
    ("options", "n_dof"),
    [
        ({"ensemble": "langevin", "friction": 30.0}, 24),
        ({"ensemble": "nvt", "tau": 30.0}, 18),
    ],
)
def test_thermostats_reach_their_temperature_in_a_molecule(options: dict, n_dof: int) -> None:
    """Counting 3N degrees of freedom in place of 3N − 6 would be 33 % off."""
    atoms, dynamics, counted = prepared(cluster(), temperature=400.0, timestep=1.0, **options)
    assert counted == n_dof
    assert mean_temperature(atoms, dynamics, counted, 5000) == pytest.approx(400.0, rel=0.12)


@pytest.mark.parametrize("barostat", ["isotropic", "full"])
def test_npt_reaches_its_temperature_and_pressure(barostat: str) -> None:
    atoms, dynamics, n_dof = prepared(
        cube(), ensemble="npt", temperature=300.0, pressure=2.0, timestep=4.0, tau=60.0, pressure_tau=150.0, barostat=barostat
    )
    assert n_dof == 9
    temperatures, pressures = [], []
    for step, _ in enumerate(dynamics.irun(2000)):
        if step > 200:
            temperatures.append(temperature_of(atoms, n_dof))
            pressures.append(-atoms.get_stress(include_ideal_gas=True)[:3].mean() / units.GPa)
    assert np.mean(temperatures) == pytest.approx(300.0, rel=0.1)
    assert np.mean(pressures) == pytest.approx(2.0, abs=0.2)


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (cluster, {"ensemble": "nve"}),
        (cluster, {"ensemble": "nvt", "tau": 50.0}),
        (cube, {"ensemble": "npt", "pressure": 0.2, "pressure_tau": 300.0}),
        (cube, {"ensemble": "npt", "pressure": 0.2, "pressure_tau": 300.0, "barostat": "full"}),
    ],
)
def test_what_should_be_conserved_is_to_second_order_in_the_timestep(make, options: dict) -> None:
    largest = []
    for timestep, steps in ((0.5, 600), (1.0, 300)):
        _, dynamics, _ = prepared(make(), temperature=500.0, timestep=timestep, **options)
        found = [conserved_energy(dynamics) for _ in dynamics.irun(steps)]
        largest.append(np.abs(np.array(found) - found[0]).max())
    assert 0 < largest[0] < 5e-3
    assert 2.5 < largest[1] / largest[0] < 6.0


def test_langevin_conserves_nothing() -> None:
    assert conserved_energy(prepared(cluster(), ensemble="langevin")[1]) is None


@pytest.mark.parametrize("ensemble", ["nve", "nvt"])
def test_a_molecule_neither_drifts_nor_turns(ensemble: str) -> None:
    atoms, dynamics, n_dof = prepared(cluster(), ensemble=ensemble, temperature=300.0)
    assert temperature_of(atoms, n_dof) == pytest.approx(300.0, abs=1e-9)
    dynamics.run(200)
    assert np.abs(atoms.get_momenta().sum(0)).max() < 1e-10
    assert np.abs(atoms.get_angular_momentum()).max() < 1e-8


@pytest.mark.parametrize(("name", "n_dof"), [("CO", 1), ("CO2", 4), ("H2O", 3), ("C", 0)])
def test_degrees_of_freedom_of_small_molecules(name: str, n_dof: int) -> None:
    atoms = Atoms("C") if name == "C" else molecule(name)
    atoms.rotate(33, "x")
    rng = np.random.default_rng(0)
    assert set_start_velocities(atoms, MDSettings(temperature=300.0), rng).n_dof == n_dof
    assert temperature_of(atoms, n_dof) == pytest.approx(300.0 if n_dof else 0.0)


def test_a_crystal_may_not_turn_anyway() -> None:
    atoms = cube()
    assert set_start_velocities(atoms, MDSettings(), np.random.default_rng(0)).n_dof == 9


def test_velocities_of_the_file_are_used_unless_others_are_asked_for() -> None:
    atoms = cluster()
    atoms.set_momenta(np.arange(24.0).reshape(8, 3) - 11.5)
    kept, drawn = atoms.copy(), atoms.copy()
    assert set_start_velocities(kept, MDSettings(), np.random.default_rng(0)).from_file
    relative = atoms.get_velocities() - atoms.get_momenta().sum(0) / atoms.get_masses().sum()
    assert kept.get_velocities() == pytest.approx(relative)
    assert np.abs(relative).max() > 0.1
    assert not set_start_velocities(drawn, MDSettings(velocities="draw"), np.random.default_rng(0)).from_file
    assert temperature_of(drawn, 18) == pytest.approx(300.0)
    with pytest.raises(UserError, match="holds no velocities"):
        set_start_velocities(cluster(), MDSettings(velocities="file"), np.random.default_rng(0))


def test_fixed_atoms_stay_and_are_not_counted() -> None:
    atoms = cluster()
    atoms.set_constraint(FixAtoms([0, 1]))
    start = atoms.positions[:2].copy()
    atoms, dynamics, n_dof = prepared(atoms, ensemble="langevin", temperature=300.0)
    assert n_dof == 18
    dynamics.run(50)
    assert np.array_equal(atoms.positions[:2], start)
    with pytest.raises(UserError, match="constraints"):
        prepared(atoms, ensemble="nvt")


def test_one_atom_has_nothing_for_nose_and_hoover() -> None:
    with pytest.raises(UserError, match="at least two atoms"):
        prepared(Atoms("Ar"), ensemble="nvt")


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (cluster, {"ensemble": "nve"}),
        (cluster, {"ensemble": "langevin"}),
        (cluster, {"ensemble": "nvt"}),
        (cube, {"ensemble": "npt"}),
        (cube, {"ensemble": "npt", "barostat": "full"}),
    ],
)
def test_a_restored_integrator_goes_on_bit_by_bit(make, options: dict) -> None:
    options |= {"temperature": 300.0, "timestep": 1.0}
    atoms, dynamics, n_dof = prepared(make(), **options)
    dynamics.run(7)
    state, momenta = integrator_state(dynamics), atoms.get_momenta()
    rng = np.random.default_rng()
    rng.bit_generator.state = dynamics.rng.bit_generator.state if options["ensemble"] == "langevin" else rng.bit_generator.state
    other = atoms.copy()
    other.calc = Springs(make())
    assert np.array_equal(other.get_momenta(), momenta)
    dynamics.run(9)
    continued = build_integrator(other, MDSettings(**options), n_dof, rng)
    restore_integrator(continued, state, 7)
    continued.run(9)
    assert continued.nsteps == 16
    for name in ("positions", "momenta"):
        assert np.array_equal(other.get_array(name), atoms.get_array(name))
    assert np.array_equal(other.cell.array, atoms.cell.array)
