"""The spread of variants in and out of domain, on errors made with a known one."""

import numpy as np
import pytest

from equipot.study.measured import Measured, Row
from equipot.study.spread import compare, spreads


def study(inside: float, outside: float, noise: float, n_seeds: int, seed: int = 0) -> Measured:
    """Eight variants whose ln(error) spreads by `inside` and `outside`."""
    rng = np.random.default_rng(seed)
    levels = np.linspace(-1, 1, 8) / np.std(np.linspace(-1, 1, 8), ddof=1)
    rows = []
    for v, level in enumerate(levels):
        for where, domain, width in (("cold", "in-domain", inside), ("hot", "out-of-domain", outside)):
            for s in range(n_seeds):
                value = np.exp(width * level + rng.normal(0, noise))
                rows.append(Row(f"v{v}-{s}", f"v{v}", 100, s, where, domain, "forces_mae", value, "eV/Å"))
    return Measured(rows)


def test_the_spread_is_found():
    cold, hot = spreads(study(0.1, 0.4, 1e-6, 3), "forces_mae", 100)
    assert (cold.spread, hot.spread) == (pytest.approx(0.1, rel=1e-3), pytest.approx(0.4, rel=1e-3))
    assert cold.order is None and hot.order == pytest.approx(1.0)
    assert hot.ratio == pytest.approx(np.exp(0.4 * 2 / np.std(np.linspace(-1, 1, 8), ddof=1)), rel=1e-3)


def test_the_scatter_of_seeds_is_taken_off():
    found = [spreads(study(0.2, 0.4, 0.3, 4, seed), "forces_mae", 100)[0] for seed in range(60)]
    assert np.mean([f.spread**2 for f in found]) > 1.35 * 0.2**2
    assert np.mean([f.without_noise**2 for f in found]) == pytest.approx(0.2**2, rel=0.2)


def test_a_larger_spread_out_of_domain_is_claimed_with_three_seeds_and_not_with_two():
    (found,) = compare(study(0.1, 0.4, 0.01, 3), "forces_mae", 100)
    assert np.exp(found.log_ratio) == pytest.approx(4.0, rel=0.1) and found.interval[0] > 0 and "more out of domain" in found.words
    (few,) = compare(study(0.1, 0.4, 0.01, 2), "forces_mae", 100)
    assert few.interval is None and "nothing is claimed" in few.words


def test_a_variant_that_failed_everywhere_costs_no_comparison():
    whole = study(0.1, 0.4, 0.01, 3)
    rest = Measured([row for row in whole.rows if row.variant != "v3"] + [Row("v3-0", "v3", 100, 0, status="failed", reason="x")])
    assert "v3" in rest.variants
    (found,) = compare(rest, "forces_mae", 100)
    assert found.interval is not None and found.interval[0] > 0


def test_equal_spreads_are_seldom_told_apart():
    found = [compare(study(0.3, 0.3, 0.05, 3, seed), "forces_mae", 100)[0].interval for seed in range(60)]
    assert sum(low > 0 or high < 0 for low, high in found) <= 6
