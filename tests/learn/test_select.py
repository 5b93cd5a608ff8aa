"""Which candidates are taken."""

from dataclasses import replace

import numpy as np
import pytest
from test_fingerprint import guises, molecule

from equipot.learn.config import SelectConfig
from equipot.learn.select import select


def candidates(n: int = 6):
    """Different molecules, the more uncertain the later, each followed by its guises."""
    found = []
    for seed in range(n):
        frame = replace(molecule(seed), info={"forces_std": 0.1 * (seed + 1)})
        found += [frame, *guises(frame).values()]
    return found


@pytest.mark.parametrize("strategy", ["spread", "farthest", "random"])
def test_near_duplicates_are_taken_once_and_known_ones_never(strategy):
    frames = candidates()
    chosen = select(frames, [guises(molecule(2))["rotated"]], SelectConfig(strategy=strategy, max=100), 100, [0])
    families = [i // 6 for i in chosen.taken]
    assert sorted(families) == [0, 1, 3, 4, 5]
    assert chosen.n_duplicates == len(frames) - 5
    assert all(d > 0.02 for d in chosen.distances)


def test_with_no_least_distance_all_stay():
    assert len(select(candidates(), [], SelectConfig(min_distance=0.0), 100, [0]).taken) == 36


def test_the_most_uncertain_come_first_and_no_more_than_wanted():
    chosen = select(candidates(), [], SelectConfig(), 2, [0])
    assert [i // 6 for i in chosen.taken] == [5, 4]


def test_random_does_not_look_at_the_spread_and_repeats():
    frames = candidates()
    options = SelectConfig(strategy="random")
    draws = [tuple(i // 6 for i in select(frames, [], options, 3, [seed]).taken) for seed in range(8)]
    assert len(set(draws)) > 4
    assert draws[3] == tuple(i // 6 for i in select(frames, [], options, 3, [3]).taken)


def test_farthest_takes_what_is_least_like_the_known():
    near, known = molecule(0), molecule(0)
    rng = np.random.default_rng(0)
    steps = [0.05, 0.4, 0.1]
    frames = [replace(near, positions=near.positions + s * rng.normal(size=(7, 3)), info={"forces_std": 1.0}) for s in steps]
    assert select(frames, [known], SelectConfig(strategy="farthest"), 1, [0]).taken == [1]
