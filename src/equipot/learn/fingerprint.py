"""How different two structures are, whatever their atoms' order, place and orientation: distances to neighbours, sorted.

Of atom i, a_izk is the distance to its k-th nearest neighbour of element z, no longer than the cutoff, which also stands where there is none.
Between two structures of the same atoms,

    D² = min_π (1 / N M) Σ_izk (a_izk − b_π(i)zk)²,

where π runs over all pairings of atoms of the same element and M is the larger of the mean numbers of neighbours: a root mean square of distances,
in Å. It does not change under rotation, reflection, translation, permutation or wrapping, and is continuous where neighbours cross the cutoff.
Sorted distances do not tell all structures apart: different ones with D = 0 exist, but none near a given one in general.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from equipot.data.frame import Frame
from equipot.data.pair_search import State, search

DIFFERENT = float("inf")  # Å, between structures of different atoms


class Fingerprint(NamedTuple):
    """Sorted distances of one structure; atoms by element."""

    numbers: np.ndarray  # (n,) sorted
    distances: np.ndarray  # (n, n_elements, K) Å, filled up with the cutoff
    n_neighbours: float  # mean number within the cutoff
    cutoff: float  # Å


def fingerprint(frame: Frame, cutoff: float) -> Fingerprint:
    """The fingerprint of a structure; raises UserError where its cell or positions make no sense."""
    state = State(frame.positions, frame.cell, frame.pbc)
    pairs = search(state, cutoff)
    vectors = state.positions[pairs.sender] - state.positions[pairs.receiver] + pairs.shift @ state.cell
    lengths = np.minimum(np.linalg.norm(vectors, axis=1), cutoff)
    elements, species = np.unique(frame.numbers, return_inverse=True)
    group = pairs.receiver * len(elements) + species[pairs.sender]
    order = np.lexsort((lengths, group))
    counts = np.bincount(group, minlength=len(species) * len(elements))
    place = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    table = np.full((len(counts), counts.max(initial=0)), cutoff)
    table[group[order], place] = lengths[order]
    by_element = np.argsort(frame.numbers, kind="stable")
    distances = table.reshape(len(species), len(elements), -1)[by_element]
    return Fingerprint(frame.numbers[by_element], distances, len(order) / len(species), cutoff)


def distance(one: Fingerprint, other: Fingerprint) -> float:
    """D between two structures, Å; infinite where they have different atoms."""

    def best(a: np.ndarray, b: np.ndarray) -> float:
        squares = ((a[:, None] - b[None]) ** 2).sum((2, 3))
        return squares[linear_sum_assignment(squares)].sum()

    return _by_element(one, other, best)


def lower_bound(one: Fingerprint, other: Fingerprint) -> float:
    """What D is at least, for far less work: the mean of squares is no less than the square of the mean, element by element."""
    return _by_element(one, other, lambda a, b: len(a) * ((a.mean(0) - b.mean(0)) ** 2).sum())


def _by_element(one: Fingerprint, other: Fingerprint, squares: Callable[[np.ndarray, np.ndarray], float]) -> float:
    """Root of the sum over elements of what `squares` makes of both structures' atoms of an element, per atom and neighbour."""
    if not np.array_equal(one.numbers, other.numbers):
        return DIFFERENT
    a, b, scale = _alike(one, other)
    total = sum(squares(a[one.numbers == z], b[one.numbers == z]) for z in np.unique(one.numbers))
    return float(np.sqrt(total / (len(a) * scale)))


def nearest(one: Fingerprint, others: Sequence[Fingerprint]) -> float:
    """The smallest D to any of the others, Å; infinite where there is none of the same atoms."""
    bounds = np.array([lower_bound(one, other) for other in others])
    best = DIFFERENT
    for i in np.argsort(bounds):
        if bounds[i] >= best:
            break
        best = min(best, distance(one, others[i]))
    return best


def _alike(one: Fingerprint, other: Fingerprint) -> tuple[np.ndarray, np.ndarray, float]:
    """Distances of both in arrays of one shape, and M."""
    width = max(one.distances.shape[2], other.distances.shape[2])
    return _filled(one, width), _filled(other, width), max(one.n_neighbours, other.n_neighbours, 1.0)


def _filled(one: Fingerprint, width: int) -> np.ndarray:
    missing = width - one.distances.shape[2]
    return np.pad(one.distances, ((0, 0), (0, 0), (0, missing)), constant_values=one.cutoff)
