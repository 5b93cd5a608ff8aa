"""Angular distributions: the angle two neighbours make at an atom."""

import numpy as np

from equipot.analysis.observables.blocks import Blocked
from equipot.analysis.observables.coordination import NO_BONDS
from equipot.analysis.observables.pairs import frame_pairs, sampled_blocks
from equipot.analysis.observables.result import CannotObserveError, Curve, Observable
from equipot.analysis.observables.settings import Settings
from equipot.analysis.observables.trajectory import Trajectory

RARE = 0.02  # triples of elements seen less often than this per centre are left out


def angles(trajectory: Trajectory, settings: Settings, bonds: dict[tuple[str, str], float]) -> Observable:
    """P(θ) of the angle a-b-c at the atom b in the middle, between neighbours within bonding distance, per degree: ∫ P dθ = 1.

    Directions at random give (π/360) sin θ. Raises CannotObserveError where no pair has a bond length or no atom two neighbours.
    """
    if not bonds:
        raise CannotObserveError(NO_BONDS)
    elements = trajectory.elements
    kind = np.array([elements.index(s) for s in trajectory.symbols])
    n_kinds, n_bins = len(elements), max(3, round(180.0 / settings.angle_bin))
    limits = np.array([[bonds.get(tuple(sorted((a, b))), 0.0) for b in elements] for a in elements])
    totals, n_frames = [], 0
    for frames in sampled_blocks(trajectory, settings.blocks, settings.samples):
        total = np.zeros((n_kinds, n_kinds, n_kinds, n_bins))
        for frame in frames:
            total += _histogram(trajectory, frame, kind, limits, n_bins)
        totals.append(total)
        n_frames += len(frames)
    counts = np.array(totals)  # blocks, middle, end, other end, bin
    width, curves = 180.0 / n_bins, []
    for b, a, c in np.ndindex(n_kinds, n_kinds, n_kinds):
        if a > c:
            continue
        found = counts[:, b, a, c] + (counts[:, b, c, a] if a != c else 0.0)
        seen = found.sum(axis=1)
        if seen.sum() > RARE * n_frames * (kind == b).sum():
            per_degree = found / np.maximum(seen, 1.0)[:, None] / width
            middles = (np.arange(n_bins) + 0.5) * width
            curves.append(Curve(f"{elements[a]}-{elements[b]}-{elements[c]}", middles, Blocked.of(per_degree, seen)))
    if not curves:
        raise CannotObserveError("no atom has two neighbours within bonding distance: give longer bonds, --bond A-B=LENGTH")
    return Observable("angles", "Angular distributions", "angle, degrees", "probability per degree", curves)


def _histogram(trajectory: Trajectory, frame: int, kind: np.ndarray, limits: np.ndarray, n_bins: int) -> np.ndarray:
    """Counts of one frame: (middle, end, other end, bin), every unordered pair of neighbours once."""
    pairs = frame_pairs(trajectory, frame, float(limits.max()))
    bonded = pairs.distance < limits[kind[pairs.centre], kind[pairs.neighbour]]
    centre, end = pairs.centre[bonded], kind[pairs.neighbour[bonded]]
    unit = pairs.vector[bonded] / pairs.distance[bonded, None]
    first, second = pairs_in_groups(np.bincount(centre, minlength=len(kind)))
    cosine = np.clip((unit[first] * unit[second]).sum(axis=1), -1.0, 1.0)
    # the last bin is closed: a straight angle belongs to it, also when rounding gives 180 exactly
    bins = np.minimum((np.degrees(np.arccos(cosine)) / 180.0 * n_bins).astype(int), n_bins - 1)
    n_kinds = len(limits)
    slot = ((kind[centre[first]] * n_kinds + end[first]) * n_kinds + end[second]) * n_bins + bins
    return np.bincount(slot, minlength=n_kinds**3 * n_bins).reshape(n_kinds, n_kinds, n_kinds, n_bins)


def pairs_in_groups(sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices p < q of all pairs of members of the same group; members of group g follow those of g − 1."""
    starts = np.cumsum(sizes) - sizes
    group = np.repeat(np.arange(len(sizes)), sizes)
    place = np.arange(len(group)) - starts[group]
    later = sizes[group] - 1 - place  # members behind this one
    first = np.repeat(np.arange(len(group)), later)
    offset = np.arange(len(first)) - np.repeat(np.cumsum(later) - later, later)
    return first, first + 1 + offset
