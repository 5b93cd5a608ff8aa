"""Up to which distance atoms are neighbours: the first minimum of their radial distribution function."""

import numpy as np
from scipy.ndimage import gaussian_filter1d

from equipot.analysis.observables.result import Curve, Observable

SMOOTHING = 0.06  # Å, before minima are sought
DEPTH = 0.6  # a minimum is below this part of the peak before it
RISE = 0.1  # of a peak's fall: a rise by more ends the minimum
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

    Of a range where it vanishes, the middle. A peak is one that stands above the minimum behind it by more than noise, as far as errors are known.
    """
    width = SMOOTHING / float(curve.x[1] - curve.x[0])
    smooth = gaussian_filter1d(curve.y, width, mode="nearest")
    # the noise left of that of independent bins: the squares of a Gaussian's weights are a narrower Gaussian of sum 1 / (2 √π width)
    left = gaussian_filter1d(np.nan_to_num(curve.error) ** 2, width / np.sqrt(2.0), mode="nearest") / (2.0 * np.sqrt(np.pi) * width)
    noise = np.sqrt(np.maximum(left, 0.0))
    peak, at = 0, 0
    for i, value in enumerate(smooth):
        if value > smooth[peak] and at == peak:
            peak = at = i  # still rising to the peak
        elif value < smooth[at]:
            at = i
        elif value > smooth[at] + RISE * (smooth[peak] - smooth[at]):
            if _is_clear(smooth, noise, peak, at):
                return _place(curve.x, smooth, peak, at)
            peak = at = i
    return _place(curve.x, smooth, peak, at) if smooth[at] < EMPTY * smooth[peak] and _is_clear(smooth, noise, peak, at) else None


def _is_clear(smooth: np.ndarray, noise: np.ndarray, peak: int, at: int) -> bool:
    fall = smooth[peak] - smooth[at]
    return bool(
        smooth[peak] > SMALL * smooth.max() and smooth[at] < DEPTH * smooth[peak] and fall > SIGMAS * np.hypot(noise[peak], noise[at])
    )


def _place(x: np.ndarray, smooth: np.ndarray, peak: int, at: int) -> float:
    """Of the minimum, or of the middle of a range without anything."""
    if smooth[at] >= EMPTY * smooth[peak]:
        return float(x[at])
    nothing = smooth[peak:] < EMPTY * smooth[peak]
    first = peak + int(np.argmax(nothing))
    behind = np.flatnonzero(smooth[first:] >= EMPTY * smooth[peak])
    last = first + (int(behind[0]) if len(behind) else len(smooth) - 1 - first)
    return float((x[first] + x[last]) / 2)
