"""What is measured of one curve E(x): error, smoothness and sanity. Plain numpy on sampled curves.

All take x (n,) ascending without repeats and energies (n,) in eV; lengths of x are in its own unit.
"""

import numpy as np
from scipy.signal import find_peaks

PROMINENCE = 2e-3  # eV: dips that are shallower are no minima
PROMINENCE_PART = 0.005  # of the depth of the curve below its median, where that is more
NEAR = 0.1  # of the range of x: so far may a predicted minimum lie from the reference's
INNER = 0.1  # of the points: the short end


def tidy(x: np.ndarray, *curves: np.ndarray | None) -> tuple[np.ndarray | None, ...]:
    """x sorted, points at one x averaged, and the curves with it."""
    where, inverse, counts = np.unique(np.round(x, 9), return_inverse=True, return_counts=True)
    return (where, *(None if c is None else np.bincount(inverse, weights=c) / counts for c in curves))


def minima(x: np.ndarray, energy: np.ndarray) -> np.ndarray:
    """Places of the minima inside the curve whose prominence exceeds `PROMINENCE` and `PROMINENCE_PART` of its depth below the median."""
    depth = float(np.median(energy) - energy.min())
    found, _ = find_peaks(-energy, prominence=max(PROMINENCE, PROMINENCE_PART * depth))
    return x[found]


def unmatched_minima(x: np.ndarray, energy: np.ndarray, reference: np.ndarray | None) -> tuple[int, int | None]:
    """(spurious, missed) minima: of the prediction without one of the reference within a tenth of the range of x, and the other way round.

    Without a reference every minimum but the deepest is spurious.
    """
    own = minima(x, energy)
    if reference is None:
        return max(0, len(own) - 1), None
    true = minima(x, reference)
    reach = NEAR * (x[-1] - x[0])
    spurious = sum(not np.any(np.abs(true - place) <= reach) for place in own)
    missed = sum(not np.any(np.abs(own - place) <= reach) for place in true)
    return spurious, missed


def second_derivative(x: np.ndarray, energy: np.ndarray) -> np.ndarray:
    """(n − 2,) E″ at the inner points by divided differences; the steps of x may differ."""
    slopes = np.diff(energy) / np.diff(x)
    return 2.0 * np.diff(slopes) / (x[2:] - x[:-2])


def roughness(x: np.ndarray, energy: np.ndarray) -> float:
    """What of E″ alternates from point to point: RMS of E″_k − (E″_{k−1} + E″_{k+1})/2 over RMS of E″.

    It falls as the square of the step on a smooth curve and is of order 1 where the curve is rough on the scale of a step. NaN for fewer than five points.
    """
    curvature = second_derivative(x, energy)
    if len(curvature) < 3:
        return float("nan")
    kinks = curvature[1:-1] - 0.5 * (curvature[:-2] + curvature[2:])
    size = float(np.sqrt(np.mean(curvature**2)))
    return float(np.sqrt(np.mean(kinks**2))) / size if size > 0 else 0.0


def curvature_error(x: np.ndarray, energy: np.ndarray, reference: np.ndarray) -> float:
    """RMS of the difference of the second derivatives, eV per unit of x squared; NaN for fewer than three points."""
    if len(x) < 3:
        return float("nan")
    return float(np.sqrt(np.mean((second_derivative(x, energy) - second_derivative(x, reference)) ** 2)))


def inner_force(x: np.ndarray, energy: np.ndarray) -> np.ndarray:
    """−dE/dx over the short end of the curve: between its first points, a tenth of all but two intervals at least."""
    n = max(3, int(np.ceil(INNER * len(x))))
    return -np.diff(energy[:n]) / np.diff(x[:n])


def wrong_signs(x: np.ndarray, energy: np.ndarray, reference: np.ndarray | None) -> float:
    """Part of the short end where the force has not the reference's sign; without a reference: where it does not repel."""
    force = inner_force(x, energy)
    wanted = np.ones(len(force)) if reference is None else np.sign(inner_force(x, reference))
    return float(np.mean(np.sign(force) != wanted))
