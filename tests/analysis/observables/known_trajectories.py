"""Trajectories whose observables are known."""

import numpy as np
from ase.build import bulk

from equipot.analysis.observables.trajectory import Trajectory

SHEARED = np.array([[9.0, 0.0, 0.0], [2.7, 8.5, 0.0], [-1.8, 2.2, 8.0]])
ARGON, XENON = 18, 54


def trajectory(
    positions: np.ndarray,
    cell: np.ndarray,
    numbers: np.ndarray | int = ARGON,
    masses: np.ndarray | float = 40.0,
    pbc: tuple[bool, bool, bool] = (True, True, True),
    **rest: object,
) -> Trajectory:
    """Frames (T, n, 3) in one cell."""
    n_frames, n, _ = positions.shape
    return Trajectory(
        name="test",
        numbers=np.broadcast_to(np.asarray(numbers), n).astype(np.int64),
        masses=np.broadcast_to(np.asarray(masses, dtype=float), n).copy(),
        positions=positions,
        cells=np.broadcast_to(cell, (n_frames, 3, 3)).copy(),
        pbc=np.array(pbc),
        **rest,
    )


def ideal_gas(n: int, n_frames: int, cell: np.ndarray = SHEARED, seed: int = 0, numbers: np.ndarray | int = ARGON) -> Trajectory:
    """Atoms anywhere in the cell, and some a cell or two away."""
    rng = np.random.default_rng(seed)
    positions = (rng.random((n_frames, n, 3)) + rng.integers(-2, 3, (n_frames, n, 3))) @ cell
    return trajectory(positions, cell, numbers)


def fcc(repeats: int = 3, noise: float = 0.0, n_frames: int = 2) -> Trajectory:
    """Copper in a cubic cell."""
    atoms = bulk("Cu", "fcc", 3.6, cubic=True) * ((repeats,) * 3)
    rng = np.random.default_rng(1)
    positions = atoms.positions + noise * rng.standard_normal((n_frames, len(atoms), 3))
    return trajectory(positions, atoms.cell.array, 29)


def brownian(
    n: int, n_frames: int, diffusion: float, interval: float, seed: int, cell: np.ndarray = SHEARED, drift: float = 0.0
) -> Trajectory:
    """A walk of `diffusion` Å²/ps with `interval` ps between frames, wrapped into the cell, the whole drifting by `drift` Å a frame."""
    rng = np.random.default_rng(seed)
    steps = np.sqrt(2.0 * diffusion * interval) * rng.standard_normal((n_frames, n, 3)) + np.array([drift, 0.0, 0.0])
    free = rng.random((1, n, 3)) @ cell + np.cumsum(steps, axis=0)
    fractions = free @ np.linalg.inv(cell)
    return trajectory((fractions - np.floor(fractions)) @ cell, cell, interval=1000.0 * interval)


def oscillators(
    frequencies: np.ndarray, amplitudes: np.ndarray, n_frames: int, interval: float, numbers: np.ndarray, seed: int = 0
) -> Trajectory:
    """Independent oscillators: frequency of each atom in THz, velocity amplitude in Å/fs, `interval` in fs, every phase its own."""
    rng = np.random.default_rng(seed)
    times = 1e-3 * interval * np.arange(n_frames)
    phases = 2.0 * np.pi * rng.random((len(frequencies), 3))
    velocities = amplitudes[:, None] * np.cos(2.0 * np.pi * frequencies[:, None] * times[:, None, None] + phases)
    return trajectory(np.zeros_like(velocities), 20.0 * np.eye(3), numbers, velocities=velocities, interval=interval)
