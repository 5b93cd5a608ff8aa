"""How far the variants of a study lie apart on a set: do design choices matter more out of domain than in?"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from equipot.study.measured import IN_DOMAIN, OUT_OF_DOMAIN, Measured
from equipot.study.significance import FEWEST, widened

RESAMPLES = 2000
METHOD = (
    "Spread: standard deviation over variants of ln(error), the error being the mean over seeds; 'less noise' has the mean squared relative standard "
    "error of the seeds taken off. Ratio: largest over smallest error. Order: Spearman's correlation of the variants' errors with those in domain."
)


@dataclass(frozen=True)
class Spread:
    """Of one measure on one set over the variants of one size."""

    where: str
    domain: str
    ratio: float  # of the largest to the smallest mean error
    spread: float  # standard deviation of ln(mean error)
    without_noise: float | None  # the same, less what the scatter of seeds adds; None for single seeds
    order: float | None  # rank correlation with the first in-domain set; None for that set
    n_variants: int


@dataclass(frozen=True)
class Comparison:
    """ln of (spread out of domain / spread in domain) with its 95 % bootstrap interval over seeds, widened; None below three seeds."""

    inside: str
    outside: str
    log_ratio: float
    interval: tuple[float, float] | None

    @property
    def words(self) -> str:
        factor = f"variants spread {np.exp(self.log_ratio):.2f} times as far on {self.outside} as on {self.inside}"
        if self.interval is None:
            return f"{factor}; with fewer than {FEWEST} seeds nothing is claimed from that."
        low, high = np.exp(self.interval)
        verdict = "more" if low > 1 else "less" if high < 1 else "neither more nor less, as far as the seeds can tell,"
        return f"{factor} (95 % interval {low:.2f} to {high:.2f}): the choices matter {verdict} out of domain."


def spreads(measured: Measured, measure: str, size: int) -> list[Spread]:
    """The spread on every set where three variants or more have a positive error."""
    inside = next((s for s, domain in measured.sets.items() if domain == IN_DOMAIN), None)
    base = measured.by_variant(inside, measure, size) if inside else {}
    found = []
    for where, domain in measured.sets.items():
        values = measured.by_variant(where, measure, size)
        means = np.array([np.mean(v) for v in values.values()])
        if len(means) < 3 or (means <= 0).any():
            continue
        variance = float(np.var(np.log(means), ddof=1))
        noise = _noise(values)
        order = _order(base, values) if where != inside else None
        rest = None if noise is None else float(np.sqrt(max(0.0, variance - noise)))
        found.append(Spread(where, domain, float(means.max() / means.min()), float(np.sqrt(variance)), rest, order, len(means)))
    return found


def compare(measured: Measured, measure: str, size: int) -> list[Comparison]:
    """Each out-of-domain set against the first in-domain one, over the variants and seeds that both have."""
    inside = next((s for s, domain in measured.sets.items() if domain == IN_DOMAIN), None)
    outsides = [s for s, domain in measured.sets.items() if domain == OUT_OF_DOMAIN]
    return [c for s in outsides if inside and (c := _comparison(measured, measure, size, inside, s))]


def _comparison(measured: Measured, measure: str, size: int, inside: str, outside: str) -> Comparison | None:
    pairs = [[measured.values(s, measure, v, size) for s in (inside, outside)] for v in measured.variants]
    pairs = [pair for pair in pairs if all(pair)]  # of the others every run has failed
    seeds = sorted(set.intersection(*(set(values) for pair in pairs for values in pair))) if pairs else []
    if len(pairs) < 3 or not seeds:
        return None
    tables = list(zip(*pairs, strict=True))
    errors = np.array([[[values[s] for s in seeds] for values in table] for table in tables])  # set, variant, seed
    if (errors <= 0).any():
        return None
    estimate = float(_log_ratio(errors.mean(axis=2)))
    if len(seeds) < FEWEST:
        return Comparison(inside, outside, estimate, None)
    drawn = np.random.default_rng(0).integers(0, len(seeds), (RESAMPLES, len(seeds)))
    resampled = _log_ratio(np.moveaxis(errors[:, :, drawn].mean(axis=3), 2, 0))
    low, high = np.quantile(resampled, [0.025, 0.975])
    return Comparison(inside, outside, estimate, widened(estimate, float(low), float(high), len(seeds)))


def _log_ratio(errors: np.ndarray) -> np.ndarray:
    """(…, 2 sets, variants) → ln of the ratio of the spreads."""
    spread = np.log(errors).std(axis=-1, ddof=1)
    return np.log(spread[..., 1] / spread[..., 0])


def _noise(values: Mapping[str, list[float]]) -> float | None:
    if any(len(v) < 2 for v in values.values()):
        return None
    return float(np.mean([np.var(v, ddof=1) / len(v) / np.mean(v) ** 2 for v in values.values()]))


def _order(first: Mapping[str, list[float]], second: Mapping[str, list[float]]) -> float | None:
    from scipy.stats import spearmanr

    common = [v for v in first if v in second]
    if len(common) < 3:
        return None
    return float(spearmanr([np.mean(first[v]) for v in common], [np.mean(second[v]) for v in common]).statistic)
