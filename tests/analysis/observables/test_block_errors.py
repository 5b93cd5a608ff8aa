"""Errors by blocks, and overlaps, are what they say they are."""

import numpy as np
import pytest
from scipy.stats import norm

from equipot.analysis.observables.blocks import Blocked, block_slices, equal_slices
from equipot.analysis.observables.overlap import compare, overlap_of
from equipot.analysis.observables.result import Curve, Observable, Value

X = np.linspace(-6.0, 6.0, 61)


def sampled_density(centre: float, rng: np.random.Generator, n_blocks: int = 8, n: int = 400) -> Curve:
    """A Gaussian's density as blocks of samples see it."""
    edges = np.linspace(-6.1, 6.1, 62)
    blocks = [np.histogram(rng.normal(centre, 1.0, n), edges)[0] / n / (edges[1] - edges[0]) for _ in range(n_blocks)]
    return Curve("gauss", X, Blocked.of(np.array(blocks)))


def test_error_of_equal_blocks_is_the_standard_error() -> None:
    values = np.array([1.0, 2.0, 4.0, 9.0])
    assert Blocked.of(values).error == pytest.approx(values.std(ddof=1) / 2.0)


def test_blocks_without_weight_say_nothing() -> None:
    blocks = Blocked.of(np.array([1.0, 100.0, 3.0]), np.array([1.0, 0.0, 1.0]))
    assert blocks.mean == pytest.approx(2.0)
    assert blocks.error == pytest.approx(1.0)


def test_one_block_has_no_error() -> None:
    assert np.isnan(Blocked.of(np.array([[1.0, 2.0]])).error).all()


def test_errors_are_right_over_repeats() -> None:
    """Blocks of unequal weight: the spread of means over repeats is the error each of them reports."""
    rng = np.random.default_rng(0)
    weights = np.array([3.0, 2.0, 1.0, 1.0, 2.0, 3.0])
    found = [Blocked.of(rng.standard_normal(6) / np.sqrt(weights), weights) for _ in range(3000)]
    spread = np.std([f.mean for f in found])
    assert np.sqrt(np.mean([f.error**2 for f in found])) == pytest.approx(spread, rel=0.05)


def test_bootstrap_spreads_as_the_error() -> None:
    blocks = Blocked.of(np.random.default_rng(3).standard_normal((8, 2)))
    drawn = blocks.resampled(np.random.default_rng(0), 20000)
    np.testing.assert_allclose(drawn.std(axis=0), blocks.error, rtol=0.03)
    np.testing.assert_allclose(drawn.mean(axis=0), 0.0, atol=0.02)


def test_slices() -> None:
    assert [s.stop - s.start for s in block_slices(11, 4)] == [3, 3, 2, 3]
    assert len(block_slices(3, 8)) == 3
    assert {s.stop - s.start for s in equal_slices(11, 4)} == {2} and equal_slices(11, 4)[-1].stop == 11


def test_overlap_of_two_gaussians_is_the_known_one() -> None:
    """∫ min(f, g) = 2 Φ(−d/2σ); its error bar holds."""
    rng = np.random.default_rng(2)
    known = 2.0 * norm.cdf(-0.5)
    found = [overlap_of("p", sampled_density(0.0, rng, n=4000), sampled_density(1.0, rng, n=4000), rng) for _ in range(20)]
    values = np.array([f.overlap for f in found])
    assert values.mean() == pytest.approx(known, abs=0.01)
    assert values.std(ddof=1) == pytest.approx(np.mean([f.error for f in found]), rel=0.6)
    assert not any(f.within_noise for f in found)


def test_two_samples_of_one_density_stay_within_noise() -> None:
    """In about 95 % of repeats; one that is off by a third of its width is found out every time."""
    rng = np.random.default_rng(5)
    within = [overlap_of("p", sampled_density(0.0, rng), sampled_density(0.0, rng), rng).within_noise for _ in range(60)]
    assert 0.85 <= np.mean(within) <= 1.0
    off = [overlap_of("p", sampled_density(0.0, rng), sampled_density(0.35, rng), rng).within_noise for _ in range(10)]
    assert not any(off)


def test_equal_and_disjoint_curves() -> None:
    rng = np.random.default_rng(0)
    box = Curve("b", X, Blocked.of(np.where(X < -1, 1.0, 0.0)[None]))
    other = Curve("b", X, Blocked.of(np.where(X > 1, 1.0, 0.0)[None]))
    assert overlap_of("p", box, box, rng).overlap == 1.0
    assert overlap_of("p", box, other, rng).overlap == 0.0
    assert overlap_of("p", box, other, rng).within_noise is None  # one block: no errors


def test_curves_of_other_grids_meet_where_both_are() -> None:
    rng = np.random.default_rng(0)
    coarse = np.linspace(-3.0, 3.0, 25)
    line, same = Curve("b", X, Blocked.of(X[None] + 10.0)), Curve("b", coarse, Blocked.of(coarse[None] + 10.0))
    assert overlap_of("p", line, same, rng).overlap == pytest.approx(1.0)


def test_values_are_compared_by_name_and_unit() -> None:
    here = Observable("a", "", "", "", values=[Value("D", 2.0, 0.3, "u"), Value("n", 1.0, 0.1, "within 1")])
    there = Observable("a", "", "", "", values=[Value("D", 1.0, 0.4, "u"), Value("n", 1.0, 0.1, "within 2")])
    _, differences = compare(here, there)
    assert [d.name for d in differences] == ["D"] and differences[0].error == pytest.approx(0.5) and differences[0].within_noise
