"""Up to which distance atoms are neighbours: the first minimum of their radial distribution function."""

import numpy as np
from scipy.ndimage import gaussian_filter1d

from equipot.analysis.observables.result import Curve, Observable

SMOOTHING = 0.06  # Å, before minima are sought
DEPTH = 0.6  # a minimum is below this part of the peak before it


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

    Of a range where it vanishes, the middle.
    """
    step = float(curve.x[1] - curve.x[0])
    smooth = gaussian_filter1d(curve.y, SMOOTHING / step, mode="nearest")
    peak = _first_peak(smooth)
    if peak is None:
        return None
    lowest, at = smooth[peak], peak
    for i in range(peak + 1, len(smooth)):
        if smooth[i] < lowest:
            lowest, at = smooth[i], i
        elif lowest < DEPTH * smooth[peak] and smooth[i] > lowest + 0.1 * (smooth[peak] - lowest):
            break
    if lowest >= DEPTH * smooth[peak] or at == len(smooth) - 1 and lowest > 1e-3 * smooth[peak]:
        return None
    flat = np.flatnonzero(smooth[at:] > lowest + 1e-3 * smooth[peak])
    last = at + (int(flat[0]) if len(flat) else len(smooth) - 1 - at)
    return float((curve.x[at] + curve.x[last]) / 2 if lowest < 1e-3 * smooth[peak] else curve.x[at])


def _first_peak(smooth: np.ndarray) -> int | None:
    """The first maximum from which the curve falls to `DEPTH` of it before it rises above it."""
    best = 0
    for i, value in enumerate(smooth):
        if value > smooth[best]:
            best = i
        elif smooth[best] > 0 and value < DEPTH * smooth[best] and smooth[best] > 0.05 * smooth.max():
            return best
    return None
