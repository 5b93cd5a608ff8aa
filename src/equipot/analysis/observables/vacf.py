"""Velocity autocorrelation functions."""

import numpy as np

from equipot.analysis.observables.blocks import Blocked, equal_slices
from equipot.analysis.observables.correlation import autocorrelation
from equipot.analysis.observables.result import CannotObserveError, Curve, Observable
from equipot.analysis.observables.settings import Settings
from equipot.analysis.observables.trajectory import Trajectory

LENGTH = 2.0  # ps
SHORTEST_BLOCK = 20  # frames
ALL = "all"
NO_VELOCITIES = "the trajectory holds no velocities (equipot md writes them, as momenta, to .xyz and .traj)"


def vacf(trajectory: Trajectory, settings: Settings) -> Observable:
    """C(t) = Σ m ⟨v(t0) · v(t0 + t)⟩ / Σ m ⟨v²⟩ over atoms and origins, of each element and of all atoms.

    Velocities are relative to the centre of mass. Raises CannotObserveError without velocities, without a time between frames, or too few.
    """
    times, blocks, _ = correlations(trajectory, settings)
    curves = [Curve(name, times, Blocked.of(values / values[:, :1])) for name, values in blocks.items()]
    return Observable("vacf", "Velocity autocorrelation", "time, ps", "C(t)/C(0)", curves, together=True)


def longest(trajectory: Trajectory, settings: Settings) -> float:
    """ps, the length of correlations where none is asked for."""
    return min(LENGTH, len(trajectory) // settings.blocks // 2 * trajectory.interval * 1e-3)


def correlations(trajectory: Trajectory, settings: Settings) -> tuple[np.ndarray, dict[str, np.ndarray], float]:
    """Times (n_lags,) in ps, Σ m ⟨v(0) · v(t)⟩ by element and of all (n_blocks, n_lags) in amu Å²/fs², and the interval in ps."""
    if trajectory.velocities is None:
        raise CannotObserveError(NO_VELOCITIES)
    if trajectory.interval is None:
        raise CannotObserveError(trajectory.no_interval)
    length = len(trajectory) // settings.blocks
    if length < SHORTEST_BLOCK:
        raise CannotObserveError(
            f"{len(trajectory)} frames are too few for {settings.blocks} blocks of {SHORTEST_BLOCK} or more: give a longer trajectory or fewer --blocks"
        )
    interval = trajectory.interval * 1e-3
    n_lags = min(length // 2, max(8, round((settings.vacf_length or longest(trajectory, settings)) / interval))) + 1
    mass = trajectory.masses
    velocity = trajectory.velocities - np.einsum("a,tai->ti", mass / mass.sum(), trajectory.velocities)[:, None]
    symbols, found = trajectory.symbols, {}
    per_block = np.array([autocorrelation(velocity[part], n_lags) * mass for part in equal_slices(len(velocity), settings.blocks)])
    for element in trajectory.elements:
        found[element] = per_block[:, :, symbols == element].sum(axis=2)
    if len(found) > 1:
        found[ALL] = per_block.sum(axis=2)
    return np.arange(n_lags) * interval, found, interval
