"""Temperature, pressure, energy and density along a trajectory."""

import numpy as np
from ase import units

from equipot.analysis.observables.blocks import Blocked, block_slices
from equipot.analysis.observables.result import CannotObserveError, Curve, Observable, Value
from equipot.analysis.observables.settings import Settings
from equipot.analysis.observables.trajectory import Trajectory

AT_REST = 1e-4  # of k_B T: below it a collective motion is taken to have been removed
DENSITY = 1.0 / units.kg * 1e27  # amu/Å³ in g/cm³: 1.66054


def traces(trajectory: Trajectory, settings: Settings) -> list[Observable]:
    """T = 2 K/(n k_B), P = −tr σ/3 + 2 K/(3 V), energy per atom and, where the cell varies, density, of every frame with mean and block error.

    n is that of `degrees_of_freedom`. Raises CannotObserveError if the frames hold neither velocities nor energies.
    """
    kinetic = kinetic_energy(trajectory)
    times, label = _times(trajectory)
    found = []
    if kinetic is not None:
        temperature = 2.0 * kinetic / (degrees_of_freedom(trajectory) * units.kB)
        found.append(_trace("temperature", "Temperature", "K", times, label, temperature, settings))
    if kinetic is not None and trajectory.stresses is not None and trajectory.is_bulk:
        stress = np.trace(trajectory.stresses, axis1=1, axis2=2) / 3.0
        pressure = (2.0 * kinetic / (3.0 * trajectory.volumes) - stress) / units.GPa
        found.append(_trace("pressure", "Pressure", "GPa", times, label, pressure, settings))
    if trajectory.energies is not None:
        found.append(_trace("energy", "Potential energy", "eV/atom", times, label, trajectory.energies / len(trajectory.numbers), settings))
    if trajectory.is_bulk and np.ptp(trajectory.volumes) > 1e-6 * trajectory.volumes[0]:
        density = trajectory.masses.sum() / trajectory.volumes * DENSITY
        found.append(_trace("density", "Density", "g/cm³", times, label, density, settings))
    if not found:
        raise CannotObserveError("the frames hold neither velocities nor energies")
    return found


def kinetic_energy(trajectory: Trajectory) -> np.ndarray | None:
    """(T,) eV; None without velocities."""
    if trajectory.velocities is None:
        return None
    velocities = trajectory.velocities / units.fs
    return 0.5 * np.einsum("a,tai,tai->t", trajectory.masses, velocities, velocities)


def degrees_of_freedom(trajectory: Trajectory) -> int:
    """3 N, less 3 where the centre of mass is at rest in every frame, and where nothing is periodic less the rotations, if there are none in any frame.

    As `equipot md` starts them: 3 rotations, 2 of a linear molecule; of one atom nothing is taken off.
    """
    n = 3 * len(trajectory.numbers)
    if n == 3:
        return n
    limit = AT_REST * np.maximum(2.0 * kinetic_energy(trajectory) / n, 1e-12)
    momentum = np.einsum("a,tai->ti", trajectory.masses, trajectory.velocities / units.fs)
    resting = (momentum**2).sum(axis=1) / (2.0 * trajectory.masses.sum()) < limit
    turning, modes = (0.0, 0) if trajectory.pbc.any() else _rotation(trajectory)
    return n - (3 if resting.all() else 0) - (modes if (turning < limit).all() else 0)


def _rotation(trajectory: Trajectory) -> tuple[np.ndarray, int]:
    """(T,) eV of rigid rotation about the centre of mass, L·I⁻¹·L/2, and the fewest axes about which there can be one in a frame."""
    masses = trajectory.masses
    r = trajectory.positions - np.average(trajectory.positions, axis=1, weights=masses)[:, None]
    outer = np.einsum("a,tai,taj->tij", masses, r, r)
    moments, axes = np.linalg.eigh(np.trace(outer, axis1=1, axis2=2)[:, None, None] * np.eye(3) - outer)
    momentum = np.einsum("a,tai->ti", masses, np.cross(r, trajectory.velocities / units.fs))
    real = moments > 1e-8 * np.maximum(moments[:, -1:], 1e-8)
    along = np.einsum("tij,ti->tj", axes, momentum)
    return 0.5 * (along**2 / np.where(real, moments, np.inf)).sum(axis=1), int(real.sum(axis=1).min())


def why_no_pressure(trajectory: Trajectory) -> str:
    """Why `traces` gives none; empty where it does."""
    if not trajectory.is_bulk:
        return "it needs a cell that is periodic in all three directions"
    if trajectory.stresses is None:
        return "the frames hold no stress"
    return "" if trajectory.velocities is not None else "the frames hold no velocities for its ideal-gas part"


def _trace(name: str, title: str, unit: str, times: np.ndarray, label: str, series: np.ndarray, settings: Settings) -> Observable:
    slices = block_slices(len(series), settings.blocks)
    blocks = Blocked.of(np.array([series[part].mean() for part in slices]), np.array([part.stop - part.start for part in slices]))
    values = [Value.of(name, blocks, unit), Value(f"{name} std", float(series.std()), np.nan, unit)]
    return Observable(name, title, label, f"{title}, {unit}", [Curve(name, times, Blocked.of(series[None]))], values, together=True)


def _times(trajectory: Trajectory) -> tuple[np.ndarray, str]:
    frames = np.arange(float(len(trajectory)))
    return (frames, "frame") if trajectory.interval is None else (frames * trajectory.interval * 1e-3, "time, ps")
