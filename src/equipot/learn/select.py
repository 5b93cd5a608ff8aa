"""Which candidates are labelled: an order, and no near-duplicates."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from equipot.data.frame import Frame
from equipot.learn.config import SelectConfig
from equipot.learn.fingerprint import Fingerprint, fingerprint, nearest


class Selection(NamedTuple):
    """Numbers of the candidates taken, in the order in which they were, and how many stood too near to a known or taken one."""

    taken: list[int]
    n_duplicates: int  # among those looked at
    distances: list[float]  # Å, of each one taken to the nearest known or taken before it; infinite where there is none


def select(candidates: Sequence[Frame], known: Sequence[Frame], options: SelectConfig, most: int, seed: Sequence[int]) -> Selection:
    """At most `most` of the candidates by the strategy, each at least `min_distance` from `known` and from all others taken.

    spread: by info["forces_std"], the largest first; random: in random order; farthest: each time the one farthest from all known and taken.
    """
    prints = [fingerprint(frame, options.cutoff) for frame in candidates]
    others = [fingerprint(frame, options.cutoff) for frame in known]
    if options.strategy == "farthest":
        return _farthest(prints, others, options.min_distance, most)
    if options.strategy == "random":
        order = np.random.default_rng(seed).permutation(len(candidates))
    else:
        order = np.argsort([-frame.info["forces_std"] for frame in candidates], kind="stable")
    return _in_order(prints, others, order, options.min_distance, most)


def _in_order(prints: Sequence[Fingerprint], known: list[Fingerprint], order: np.ndarray, least: float, most: int) -> Selection:
    taken, distances, n_duplicates = [], [], 0
    for i in order:
        if len(taken) == most:
            break
        away = nearest(prints[i], known)
        if away < least:
            n_duplicates += 1
            continue
        known = [*known, prints[i]]
        taken.append(int(i))
        distances.append(away)
    return Selection(taken, n_duplicates, distances)


def _farthest(prints: Sequence[Fingerprint], known: Sequence[Fingerprint], least: float, most: int) -> Selection:
    away = np.array([nearest(one, known) for one in prints])
    taken, distances = [], []
    while len(taken) < min(most, len(prints)):
        i = int(np.argmax(away))
        if away[i] < least or away[i] < 0:
            break
        taken.append(i)
        distances.append(float(away[i]))
        away = np.minimum(away, [nearest(one, [prints[i]]) for one in prints])
        away[taken] = -1.0
    return Selection(taken, int(((away >= 0) & (away < least)).sum()), distances)
