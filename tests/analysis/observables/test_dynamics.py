"""Diffusion of known walks, spectra of known oscillators, temperature and pressure of known motion."""

from dataclasses import replace

import numpy as np
import pytest
from ase import units
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.md.velocitydistribution import thermalize_momenta
from known_trajectories import ARGON, SHEARED, XENON, brownian, oscillators, trajectory

from equipot.analysis.observables import msd as msd_file
from equipot.analysis.observables.correlation import autocorrelation, mean_square_displacement
from equipot.analysis.observables.msd import CM2_PER_S, msd
from equipot.analysis.observables.result import CannotObserveError
from equipot.analysis.observables.settings import Settings
from equipot.analysis.observables.traces import traces, why_no_pressure
from equipot.analysis.observables.trajectory import Trajectory
from equipot.analysis.observables.unwrap import Paths, unwrapped
from equipot.analysis.observables.vacf import vacf
from equipot.analysis.observables.vdos import PER_CM, vdos
from equipot.errors import UserError
from equipot.interfaces.md_settings import MDSettings
from equipot.interfaces.velocities import set_start_velocities

D, N = 0.05, 16  # Å²/ps, atoms
KNOWN = D * (1.0 - 1.0 / N) * CM2_PER_S  # relative to the centre of mass of N walkers


def test_displacements_and_correlations_are_the_plain_sums() -> None:
    """Far from the origin too, where single precision would have nothing left."""
    x = np.cumsum(np.random.default_rng(0).standard_normal((50, 3, 3)), axis=0) + 1e5
    plain = np.array([((x[m:] - x[: 50 - m]) ** 2).sum(axis=2).mean(axis=0) for m in range(20)])
    np.testing.assert_allclose(mean_square_displacement(x, 20), plain, rtol=1e-9, atol=1e-9)
    v = np.diff(x, axis=0)
    plain = np.array([(v[m:] * v[: 49 - m]).sum(axis=2).mean(axis=0) for m in range(20)])
    np.testing.assert_allclose(autocorrelation(v, 20), plain, atol=1e-10)


def test_diffusion_of_walks_and_its_error() -> None:
    """Over repeats of a drifting walk in a sheared cell: the mean is right, and the error bar is the spread."""
    found = [msd(brownian(N, 400, D, 0.1, seed, drift=0.02), Settings()).values[0] for seed in range(80)]
    values, errors = np.array([v.value for v in found]), np.array([v.error for v in found])
    spread = values.std(ddof=1)
    assert abs(values.mean() - KNOWN) < 4.0 * spread / np.sqrt(80)
    assert np.sqrt((errors**2).mean()) == pytest.approx(spread, rel=0.25)
    within = np.abs(values - KNOWN) < errors
    assert 0.5 < within.mean() < 0.8  # of Student's distribution with 7 degrees of freedom 0.65
    assert values.std() / values.mean() < 0.2


def test_walks_that_are_not_unwrapped_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above sees paths cut at the boundary."""
    monkeypatch.setattr(msd_file, "unwrapped", lambda t: Paths(t.positions, 0.0, False))
    value = msd(brownian(N, 400, D, 0.1, 0), Settings()).values[0]
    assert abs(value.value - KNOWN) > 10.0 * KNOWN * 0.1


def test_drift_is_taken_off() -> None:
    still = replace(brownian(N, 200, D, 0.1, 0), positions=np.zeros((200, N, 3)) + np.arange(200.0)[:, None, None] * 0.1)
    found = msd(still, Settings())
    assert found.values[0].value == pytest.approx(0.0, abs=1e-12)
    assert any("drifted" in note for note in found.notes)


def test_paths_are_the_same_wrapped_or_not() -> None:
    walk = brownian(N, 100, D, 0.1, 3)
    free = unwrapped(walk).positions
    shifted = replace(walk, positions=walk.positions + np.random.default_rng(0).integers(-2, 3, (100, N, 1)) * SHEARED[1])
    np.testing.assert_allclose(unwrapped(shifted).positions - unwrapped(shifted).positions[:1], free - free[:1], atol=1e-9)


def test_a_breathing_cell_moves_nobody() -> None:
    """Atoms at fixed fractions, some given far from the origin, in a cell that grows and shrinks: only the affine motion within the cell is left."""
    rng = np.random.default_rng(0)
    scales = 1.0 + 0.02 * np.sin(np.arange(300))
    fractions = rng.random((8, 3))
    fractions[:4] += 50.0
    moving = trajectory(np.zeros((300, 8, 3)), SHEARED, interval=100.0)
    moving = replace(moving, positions=(fractions @ SHEARED) * scales[:, None, None], cells=SHEARED * scales[:, None, None])
    assert msd(moving, Settings()).curves[0].y.max() < 0.1  # (2 % of 9 Å)²; fifty cells away it would be 80 Å²


def around(n_frames: int, relaxation: float, width: float, walk: float = 0.0) -> Trajectory:
    """Atoms that wander about their sites, forgetting where they were in `relaxation` frames, the sites walking with `walk` Å²/ps."""
    rng = np.random.default_rng(0)
    keep = np.exp(-1.0 / relaxation) if relaxation else 0.0
    away = np.zeros((n_frames, N, 3))
    for i in range(1, n_frames):
        away[i] = keep * away[i - 1] + width * np.sqrt(1.0 - keep**2) * rng.standard_normal((N, 3))
    sites = np.cumsum(np.sqrt(2.0 * walk * 0.1) * rng.standard_normal((n_frames, N, 3)), axis=0)
    return trajectory(sites + away, SHEARED, interval=100.0)


def test_atoms_on_sites_do_not_diffuse() -> None:
    assert any("no diffusion seen" in note for note in msd(around(400, 0.0, 0.1), Settings()).notes)


def test_a_slope_that_still_falls_is_told_of() -> None:
    """Cages of a quarter of the block, in which the displacement bends; but not a walk of caged atoms, whose slope is steady."""
    assert any("slope still falls" in note for note in msd(around(3200, 60.0, 0.5), Settings()).notes)
    caged = msd(around(1600, 1.0, 0.4, walk=D), Settings())
    assert not any("slope" in n.removeprefix("D from slopes") for n in caged.notes)
    assert abs(caged.values[0].value - KNOWN) < 3.0 * caged.values[0].error


def test_slab_diffuses_along_itself() -> None:
    """In two dimensions; the third, where nothing is periodic, does not count."""
    walk = brownian(N, 800, D, 0.1, 1, cell=np.diag([9.0, 9.0, 9.0]))
    slab = replace(walk, pbc=np.array([True, True, False]), positions=walk.positions * [1.0, 1.0, 0.0])
    value = msd(slab, Settings()).values[0]
    assert abs(value.value - KNOWN) < 4.0 * value.error


def test_diffusion_by_element() -> None:
    slow, fast = brownian(N, 600, 0.01, 0.1, 0), brownian(N, 600, 0.1, 0.1, 1)
    both = replace(
        slow,
        numbers=np.array([ARGON] * N + [XENON] * N),
        masses=np.full(2 * N, 1.0),
        positions=np.concatenate([slow.positions, fast.positions], axis=1),
    )
    found = {v.name: v.value for v in msd(both, Settings()).values}
    assert found["D(Ar)"] == pytest.approx(0.01e-4, rel=0.4) and found["D(Xe)"] == pytest.approx(0.1e-4, rel=0.3)
    assert [v.name for v in msd(both, Settings(elements=("Xe",))).values] == ["D(Xe)"]
    with pytest.raises(UserError, match="no Cu in it"):
        msd(both, Settings(elements=("Cu",)))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"interval": None, "no_interval": "give --dt"}, "give --dt"),
        ({"pbc": np.zeros(3, dtype=bool)}, "molecule"),
        ({"positions": brownian(N, 40, D, 0.1, 0).positions, "cells": brownian(N, 40, D, 0.1, 0).cells}, "too few"),
        ({"positions": np.random.default_rng(0).random((400, N, 3)) @ SHEARED}, "more often"),
    ],
    ids=["no time", "molecule", "few frames", "frames far apart"],
)
def test_no_displacement_without_grounds(change: dict, words: str) -> None:
    with pytest.raises(CannotObserveError, match=words):
        msd(replace(brownian(N, 400, D, 0.1, 0), **change), Settings())


def test_fit_beyond_the_blocks() -> None:
    with pytest.raises(CannotObserveError, match="fewer --blocks"):
        msd(brownian(N, 400, D, 0.1, 0), Settings(fit=(1.0, 10.0)))
    found = msd(brownian(N, 400, D, 0.1, 0), Settings(fit=(0.5, 2.0)))
    assert "0.5 to 2 ps" in found.notes[0]


def test_oscillators_show_at_their_frequencies() -> None:
    """Two elements of equal kinetic energy: each has its peak, within the resolution, and half the area."""
    frequencies = np.array([15.0] * 12 + [60.0] * 12)  # THz: 500 and 2001 1/cm
    numbers = np.array([XENON] * 12 + [ARGON] * 12)
    motion = replace(oscillators(frequencies, np.ones(24), 4000, 2.0, numbers), masses=np.full(24, 10.0))
    found = vdos(motion, Settings())
    for name, frequency in (("Xe", 15.0), ("Ar", 60.0)):
        curve = found.curve(name)
        assert curve.x[np.argmax(curve.y)] == pytest.approx(frequency * PER_CM, abs=9.0)
        assert np.trapezoid(curve.y, curve.x) == pytest.approx(0.5, abs=0.03)
    both = found.curve("all")
    np.testing.assert_allclose(both.y, found.curve("Xe").y + found.curve("Ar").y, atol=2e-3 * both.y.max())
    correlation = vacf(motion, Settings()).curve("Xe")
    np.testing.assert_allclose(correlation.y, np.cos(2.0 * np.pi * 15.0 * correlation.x), atol=0.05)


def test_fast_bonds_at_long_intervals_are_told_of() -> None:
    hydrogen = oscillators(np.full(4, 100.0), np.ones(4), 400, 5.0, np.array([1, 1, 8, 8]))
    assert any("false frequency" in note for note in vdos(hydrogen, Settings()).notes)


@pytest.mark.parametrize("what", [vacf, vdos])
def test_no_spectrum_without_velocities(what: object) -> None:
    with pytest.raises(CannotObserveError, match="no velocities"):
        what(brownian(N, 400, D, 0.1, 0), Settings())


def test_temperature_and_pressure_are_ases() -> None:
    atoms = bulk("Cu", cubic=True) * (2, 2, 2)
    atoms.calc = EMT()
    atoms.set_cell(atoms.cell * 0.98, scale_atoms=True)
    thermalize_momenta(atoms, 700.0, rng=np.random.default_rng(0))
    moving = trajectory(
        atoms.positions[None], atoms.cell.array, 29, atoms.get_masses(), velocities=atoms.get_velocities()[None] * units.fs,
        stresses=atoms.get_stress(voigt=False)[None], energies=np.array([atoms.get_potential_energy()]),
    )  # fmt: skip
    found = {o.name: o.values[0].value for o in traces(moving, Settings())}
    assert found["pressure"] == pytest.approx(-atoms.get_stress(include_ideal_gas=True)[:3].mean() / units.GPa)
    assert found["temperature"] == pytest.approx(atoms.get_temperature())
    resting = atoms.get_velocities() - np.average(atoms.get_velocities(), weights=atoms.get_masses(), axis=0)
    at_rest = traces(replace(moving, velocities=resting[None] * units.fs), Settings())[0].values[0].value
    kinetic = 0.5 * (atoms.get_masses()[:, None] * resting**2).sum()
    assert at_rest == pytest.approx(2.0 * kinetic / ((3 * 32 - 3) * units.kB))


@pytest.mark.parametrize(("name", "rotations"), [("CH3CH2OH", 3), ("CO2", 2), ("N2", 2)])
def test_temperature_of_a_molecule_is_that_of_its_simulation(name: str, rotations: int) -> None:
    """Drawn as for constant energy, without momentum and rotation; one that turns or moves as a whole has those degrees of freedom too."""
    atoms = molecule(name)
    n_dof = set_start_velocities(atoms, MDSettings(ensemble="nve", temperature=300.0), np.random.default_rng(0)).n_dof
    assert n_dof == 3 * len(atoms) - 3 - rotations

    def temperature(velocities: np.ndarray, n_frames: int = 3) -> float:
        frames = np.broadcast_to(velocities, (n_frames, len(atoms), 3)) * units.fs
        positions = np.broadcast_to(atoms.positions + 7.0, frames.shape)
        moving = trajectory(positions, np.zeros((3, 3)), atoms.numbers, atoms.get_masses(), (False, False, False), velocities=frames)
        return traces(moving, Settings())[0].values[0].value

    def of(velocities: np.ndarray, n: int) -> float:
        return float((atoms.get_masses()[:, None] * velocities**2).sum() / (n * units.kB))

    still = atoms.get_velocities()
    turning = still + np.cross([0.002, 0.001, -0.001], atoms.positions - atoms.get_center_of_mass())
    assert temperature(still) == pytest.approx(300.0)
    assert temperature(turning) == pytest.approx(of(turning, n_dof + rotations))
    assert temperature(still + 0.002) == pytest.approx(of(still + 0.002, n_dof + 3))


def test_temperature_of_one_atom() -> None:
    atom = trajectory(np.ones((2, 1, 3)), np.zeros((3, 3)), pbc=(False, False, False), velocities=np.full((2, 1, 3), 1e-3))
    assert traces(atom, Settings())[0].values[0].value == pytest.approx(40.0 * 1e-6 / units.fs**2 / units.kB)


def test_density_where_the_cell_varies() -> None:
    water = trajectory(np.zeros((4, 3, 3)), 3.1 * np.eye(3), np.array([8, 1, 1]), np.array([15.999, 1.008, 1.008]), energies=np.zeros(4))
    assert "density" not in {o.name for o in traces(water, Settings())}
    breathing = replace(water, cells=water.cells * np.array([1.0, 1.01, 1.0, 0.99])[:, None, None])
    found = {o.name: o.values[0].value for o in traces(breathing, Settings())}
    assert found["density"] == pytest.approx(1.0, abs=0.02)
    assert "stress" in why_no_pressure(breathing)


def test_nothing_to_trace() -> None:
    with pytest.raises(CannotObserveError, match="neither velocities nor energies"):
        traces(brownian(N, 4, D, 0.1, 0), Settings())
