"""Power laws of which the exponent is known."""

import numpy as np
import pytest

from equipot.study.curves import fit, steepest

SIZES = (25, 50, 100, 200, 400)


def runs(exponent: float, n_seeds: int, noise: float, seed: int = 0, prefactor: float = 3.0, per_seed: float = 0.0):
    """seed -> size -> error, with noise of ln(error) for each run and, common to a seed's curve, of its exponent."""
    rng = np.random.default_rng(seed)
    own = rng.normal(0, per_seed, n_seeds)
    return {s: {n: prefactor * n ** -(exponent + own[s]) * np.exp(rng.normal(0, noise)) for n in SIZES} for s in range(n_seeds)}


def test_an_exact_law_is_found_exactly():
    law = fit(runs(0.7, 3, 0.0))
    assert (law.exponent, law.prefactor) == (pytest.approx(0.7), pytest.approx(3.0))
    assert law.interval == pytest.approx((0.7, 0.7), abs=1e-9) and law.misfit == pytest.approx(0.0, abs=1e-9)
    assert law(np.array([100])) == pytest.approx(3.0 * 100**-0.7)


@pytest.mark.parametrize(("n_seeds", "per_seed"), [(3, 0.0), (3, 0.08), (6, 0.08)])
def test_the_interval_covers_the_truth_about_as_often_as_it_says(n_seeds, per_seed):
    laws = [fit(runs(0.5, n_seeds, 0.1, seed, per_seed=per_seed)) for seed in range(200)]
    covered = np.mean([law.interval[0] <= 0.5 <= law.interval[1] for law in laws])
    assert 0.90 <= covered <= 0.995
    assert np.mean([law.exponent for law in laws]) == pytest.approx(0.5, abs=0.02)


def test_below_three_seeds_there_is_no_interval():
    law = fit(runs(0.5, 2, 0.1))
    assert law.interval is None and "no interval" in law.words
    assert steepest({"a": law, "b": fit(runs(0.9, 2, 0.0))}).significant is False


def test_two_sizes_or_errors_of_zero_make_no_law():
    assert fit({0: {25: 1.0, 50: 0.5}, 1: {25: 1.1, 50: 0.6}}) is None
    assert fit({0: {25: 1.0, 50: 0.5, 100: 0.0}}) is None
    assert fit({}) is None


def test_a_steeper_curve_is_told_from_a_flat_one_and_not_from_its_like():
    steep, flat, like = fit(runs(0.8, 4, 0.03, 0)), fit(runs(0.4, 4, 0.03, 1)), fit(runs(0.8, 4, 0.03, 2))
    assert steepest({"l1": steep, "l0": flat}).best == "l1" and steepest({"l1": steep, "l0": flat}).significant
    assert not steepest({"l1": steep, "l2": like}).significant


def test_a_missing_run_costs_its_point_alone():
    some = runs(0.6, 3, 0.0)
    del some[1][400]
    assert fit(some).exponent == pytest.approx(0.6)


def test_a_curve_that_levels_off_has_a_misfit():
    level = {s: {n: e + 0.2 for n, e in curve.items()} for s, curve in runs(1.0, 3, 0.01).items()}
    assert fit(level).misfit > 5 * fit(runs(1.0, 3, 0.01)).misfit
