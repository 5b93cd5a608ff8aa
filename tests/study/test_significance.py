"""Tests of differences on synthetic seeds: what differs is found, what does not is left alone, and too few seeds say nothing."""

import numpy as np
import pytest

from equipot.study.significance import FEWEST, LEVEL, estimate, holm, judge, welch


def seeds(mean: float, spread: float, n: int, seed: int) -> list[float]:
    return list(np.random.default_rng(seed).normal(mean, spread, n))


def test_the_standard_error_is_that_of_the_mean():
    found = estimate([1.0, 2.0, 3.0])
    assert (found.mean, found.n) == (2.0, 3) and found.error == pytest.approx(1 / np.sqrt(3))
    assert estimate([1.0]).error is None


def test_holm_on_an_example_by_hand():
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06})
    assert holm({"a": 0.6, "b": 0.7}) == {"a": 1.0, "b": 1.0}


def test_a_clear_winner_is_named():
    found = judge({"a": seeds(1.0, 0.02, 4, 0), "b": seeds(1.5, 0.02, 4, 1), "c": seeds(2.6, 0.3, 4, 2)})
    assert found.best == "a" and found.significant and set(found.p) == {"b", "c"} and max(found.p.values()) < LEVEL
    assert judge({"a": seeds(1.0, 0.02, 4, 0), "b": seeds(1.5, 0.02, 4, 1)}, higher=True).best == "b"


def test_a_winner_within_the_scatter_is_not_named():
    found = judge({"a": seeds(1.0, 0.2, 5, 0), "b": seeds(1.05, 0.2, 5, 1), "c": seeds(3.0, 0.02, 5, 2)})
    assert not found.significant and "does not differ significantly" in found.why


def test_a_winner_over_all_but_one_is_not_named():
    found = judge({"a": seeds(1.0, 0.05, 4, 0), "b": seeds(1.01, 0.05, 4, 1), "c": seeds(9.0, 0.05, 4, 2)})
    assert found.p["c"] < LEVEL < max(found.p.values()) and not found.significant
    assert "not differ significantly from b" in found.why and "it does from c" in found.why


@pytest.mark.parametrize("n", [1, 2])
def test_too_few_seeds_name_no_winner_however_far_apart(n):
    found = judge({"a": seeds(1.0, 1e-6, 3, 0), "b": seeds(100.0, 1e-6, n, 1)})
    assert found.best == "a" and not found.significant and f"below {FEWEST}" in found.why and not found.p


def test_seeds_without_any_scatter_are_not_taken_for_certainty():
    assert welch([1.0, 1.0, 1.0], [2.0, 2.0, 2.0]) == 1.0


def test_false_winners_are_as_rare_as_the_level_says():
    """Eight equal variants: a winner may be named in about 5 % of studies at most."""
    rng = np.random.default_rng(3)
    named = sum(judge({str(i): rng.normal(1.0, 0.1, 3) for i in range(8)}).significant for _ in range(300))
    assert named <= 0.07 * 300


def test_welch_does_not_pool_variances():
    """With one wide sample of few seeds the pooled test claims too much."""
    from scipy.stats import ttest_ind

    narrow, wide = seeds(1.0, 0.01, 20, 0), [0.4, 2.6, 1.6]
    assert welch(narrow, wide) > 3 * ttest_ind(narrow, wide).pvalue
