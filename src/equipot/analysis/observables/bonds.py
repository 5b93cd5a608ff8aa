"""Up to which distance atoms are neighbours: the first minimum of their radial distribution function."""

import numpy as np
from scipy.ndimage import gaussian_filter1d

from equipot.analysis.observables.result import Curve, Observable

SMOOTHING = 0.06  # Å, before minima are sought
DEPTH = 0.6  # a minimum is below this part of the peak before it
RISE = 0.1  # of a peak's height: a rise by more ends the minimum
EMPTY = 1e-3  # of a peak's height: nothing there
SMALL = 0.05  # of the highest: lower peaks are none
SIGMAS = 4.0


def bond_lengths(rdf: Observable, given: dict[tuple[str, str], float]) -> dict[tuple[str, str], float]:
    """Å by sorted pair of elements: what was given, else the first minimum; pairs without structure are left out."""
    found = {}
    for curve in rdf.curves:
        pair = tuple(sorted(curve.name.split("-")))
        length = given.get(pair) or first_minimum(curve)
        if length:
            found[pair] = length
    return found


def first_minimum(curve: Curve) -> float | None:
    """Å, where the smoothed curve is least between its first peak and the next rise; None for a curve without a clear peak.

    Of a range where it vanishes, the middle. A peak is one that rises above what follows by more than noise, as far as errors are known.
    """
    step = float(curve.x[1] - curve.x[0])
    smooth = gaussian_filter1d(curve.y, SMOOTHING / step, mode="nearest")
    noise = gaussian_filter1d(np.nan_to_num(curve.error), SMOOTHING / step, mode="nearest")
    peak = _first_peak(smooth, noise)
    if peak is None:
        return None
    height, lowest, at = smooth[peak], smooth[peak], peak
    for i in range(peak + 1, len(smooth)):
        if smooth[i] < lowest:
            lowest, at = smooth[i], i
        elif smooth[i] > lowest + RISE * (height - lowest):
            break
    empty = lowest < EMPTY * height
    if at == len(smooth) - 1 and not empty:
        return None
    behind = np.flatnonzero(smooth[at:] > lowest + EMPTY * height)
    last = at + (int(behind[0]) if len(behind) else len(smooth) - 1 - at)
    return float((curve.x[at] + curve.x[last]) / 2 if empty else curve.x[at])


def _first_peak(smooth: np.ndarray, noise: np.ndarray) -> int | None:
    """The first maximum from which the curve falls to `DEPTH` of it, and by more than noise, before it rises above it."""
    best = 0
    for i, value in enumerate(smooth):
        if value > smooth[best]:
            best = i
        elif smooth[best] > SMALL * smooth.max() and value < DEPTH * smooth[best]:
            if smooth[best] - value > SIGMAS * np.hypot(noise[best], noise[i]):
                return best
            best = i  # a spike of noise
    return None
