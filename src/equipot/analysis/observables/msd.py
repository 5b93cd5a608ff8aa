"""Mean-square displacements and diffusion coefficients."""

import numpy as np

from equipot.analysis.observables.blocks import Blocked, equal_slices
from equipot.analysis.observables.correlation import mean_square_displacement
from equipot.analysis.observables.result import CannotObserveError, Curve, Observable, Value
from equipot.analysis.observables.settings import Settings
from equipot.analysis.observables.trajectory import Trajectory
from equipot.analysis.observables.unwrap import unwrapped
from equipot.errors import UserError

FIT = (0.1, 0.5)  # of a block
SHORTEST_BLOCK = 10  # frames
CM2_PER_S = 1e-4  # in one Å²/ps
SLOWING = 0.6  # a slope that falls below this part of itself within the fit's lags has not settled
SIGMAS = 2.0


def msd(trajectory: Trajectory, settings: Settings) -> Observable:
    """MSD(t) = ⟨|r(t0 + t) − r(t0)|²⟩ per element over atoms and origins, in Å², and D = slope / 2d over the fit's lags.

    Paths are unwrapped and the motion of the centre of mass of all atoms is taken off; d counts the periodic directions, and a slab's
    displacement is that along them. Each block gives a slope, by least squares with an intercept; D is their mean, its error the error of the
    mean. No correction for the size of the cell is made. Raises CannotObserveError for molecules, without a time between frames, or too few.
    """
    if trajectory.interval is None:
        raise CannotObserveError(trajectory.no_interval)
    if not trajectory.pbc.any():
        raise CannotObserveError("a molecule without periodic boundaries does not diffuse relative to its own centre of mass")
    length = len(trajectory) // settings.blocks
    if length < SHORTEST_BLOCK:
        raise CannotObserveError(
            f"{len(trajectory)} frames are too few for {settings.blocks} blocks of {SHORTEST_BLOCK} or more: give a longer trajectory or fewer --blocks"
        )
    paths = unwrapped(trajectory)
    if paths.too_far:
        raise CannotObserveError(
            "atoms move a third of the cell or more between frames: which image they went to cannot be told; write frames more often"
        )
    positions, n_directions = _along(paths.positions, trajectory), int(trajectory.pbc.sum())
    lags = np.arange(length // 2 + 1)
    times = lags * trajectory.interval * 1e-3
    window, span = _window(times, length * trajectory.interval * 1e-3, settings)
    symbols = trajectory.symbols
    chosen = _elements(trajectory, settings)
    curves, values, notes = [], [], []
    for element in chosen:
        atoms = positions[:, symbols == element]
        blocks = [mean_square_displacement(atoms[part], len(lags)).mean(axis=1) for part in equal_slices(len(atoms), settings.blocks)]
        curve = Curve(element, times, Blocked.of(np.array(blocks)))
        slopes = np.array([np.polyfit(times[window], block[window], 1)[0] for block in blocks])
        diffusion = Blocked.of(slopes / (2 * n_directions) * CM2_PER_S)
        curves.append(curve)
        values.append(Value.of(f"D({element})", diffusion, "cm²/s"))
        if doubt := doubts(times[window], np.array(blocks)[:, window], values[-1]):
            notes.append(f"{element}: {doubt}")
    block = length * trajectory.interval * 1e-3
    where = f"{span[0]:.3g} to {span[1]:.3g} ps in {settings.blocks} blocks of {block:.3g} ps"
    notes.insert(0, f"D from slopes over {where}; not corrected for the size of the cell")
    if paths.drift > 0.5:
        notes.append(f"the centre of mass had drifted by {paths.drift:.2f} Å, which is taken off")
    return Observable("msd", "Mean-square displacement", "time, ps", "MSD, Å²", curves, values, notes, together=True)


def doubts(times: np.ndarray, blocks: np.ndarray, diffusion: Value) -> str:
    """Why a slope may be no diffusion coefficient; blocks (n_blocks, n) of the displacement over the fit's lags. Empty where none is seen."""
    if not diffusion.value > SIGMAS * diffusion.error:
        return "no diffusion seen: D is zero within its error"
    half = (len(times) + 1) // 2
    if half < 3:
        return ""
    early, late = (np.array([np.polyfit(times[part], block[part], 1)[0] for block in blocks]) for part in (slice(half), slice(-half, None)))
    fall = Blocked.of(SLOWING * early - late)
    if fall.mean > SIGMAS * fall.error:
        return f"the slope still falls within the fit, to {late.mean() / early.mean():.0%}: fit at longer lags (--fit, fewer --blocks, a longer run)"
    return ""


def _window(times: np.ndarray, block: float, settings: Settings) -> tuple[np.ndarray, tuple[float, float]]:
    first, last = settings.fit or (FIT[0] * block, FIT[1] * block)
    inside = (times >= first - 1e-9) & (times <= last + 1e-9)
    if inside.sum() < 3 or times[-1] < last - 1.5 * (times[1] - times[0]):
        raise CannotObserveError(
            f"the fit from {first:g} to {last:g} ps needs blocks of {2 * last:g} ps with three lags or more in it; they are {block:.3g} ps long: "
            "give a longer trajectory, fewer --blocks or another --fit"
        )
    return inside, (float(times[inside][0]), float(times[inside][-1]))


def _along(positions: np.ndarray, trajectory: Trajectory) -> np.ndarray:
    """Components along the periodic directions only, for slabs and wires."""
    if trajectory.pbc.all():
        return positions
    basis = np.linalg.qr(trajectory.cells[0][trajectory.pbc].T)[0]
    return positions @ basis


def _elements(trajectory: Trajectory, settings: Settings) -> list[str]:
    missing = [e for e in settings.elements if e not in trajectory.elements]
    if missing:
        raise UserError(f"{trajectory.name}: no {', '.join(missing)} in it; its elements are {', '.join(trajectory.elements)}")
    return list(settings.elements) or trajectory.elements
