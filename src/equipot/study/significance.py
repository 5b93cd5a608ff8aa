"""Whether a difference between variants is more than that between seeds: Welch's test, Holm's correction, and no claim below three seeds."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import stats

LEVEL = 0.05
FEWEST = 3  # seeds
CONFIDENCE = 0.95
METHOD = (
    f"The best of a column is bold where it differs from every other at the {LEVEL:.0%} level: Welch's two-sided t-test over seeds, p-values of the "
    f"best against the others corrected by Holm's method. Below {FEWEST} seeds of any variant no winner is named."
)


@dataclass(frozen=True)
class Estimate:
    """Mean over seeds, its standard error (None for one seed) and the number of seeds."""

    mean: float
    error: float | None
    n: int


@dataclass(frozen=True)
class Verdict:
    """Which variant is best, and whether that can be said.

    `p`: Holm-corrected p-value of the best against each other variant; empty where nothing was tested. `why`: a sentence.
    """

    best: str
    significant: bool
    why: str
    p: dict[str, float] = field(default_factory=dict)


def estimate(values: Sequence[float]) -> Estimate:
    """Mean and standard error s/√n, s with n − 1."""
    values = np.asarray(values, dtype=np.float64)
    error = float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else None
    return Estimate(float(values.mean()), error, len(values))


def welch(first: Sequence[float], second: Sequence[float]) -> float:
    """Two-sided p-value of equal means with unequal variances; 1 where neither sample spreads, so that there is nothing to measure by."""
    if np.ptp(first) == 0.0 and np.ptp(second) == 0.0:
        return 1.0
    return float(stats.ttest_ind(first, second, equal_var=False).pvalue)


def holm(p: Mapping[str, float]) -> dict[str, float]:
    """Step-down correction: the k-th smallest of m p-values times m − k + 1, never below an earlier one, at most 1."""
    corrected, highest = {}, 0.0
    for rank, name in enumerate(sorted(p, key=p.__getitem__)):
        highest = max(highest, min(1.0, (len(p) - rank) * p[name]))
        corrected[name] = highest
    return {name: corrected[name] for name in p}


def judge(values: Mapping[str, Sequence[float]], higher: bool = False) -> Verdict | None:
    """The best of the variants by the mean of their values, smaller being better unless `higher`; None where there are no values."""
    means = {name: float(np.mean(v)) for name, v in values.items() if len(v)}
    if not means:
        return None
    best = (max if higher else min)(means, key=means.__getitem__)
    others = [name for name in means if name != best]
    if not others:
        return Verdict(best, False, "one variant: nothing to compare")
    few = [name for name in means if len(values[name]) < FEWEST]
    if few:
        return Verdict(best, False, f"{few[0]} has {_seeds(len(values[few[0]]))}: no winner is named below {FEWEST}")
    p = holm({name: welch(values[best], values[name]) for name in others})
    nearest = max(p, key=p.__getitem__)
    if p[nearest] < LEVEL:
        return Verdict(best, True, f"{best} differs from every other (p ≤ {p[nearest]:.2g})", p)
    apart = [name for name in others if p[name] < LEVEL]
    rest = f"; it does from {', '.join(apart)} (p ≤ {max(p[name] for name in apart):.2g})" if apart else ""
    return Verdict(best, False, f"{best} does not differ significantly from {nearest} (p = {p[nearest]:.2g}){rest}", p)


def widened(value: float, low: float, high: float, n: int) -> tuple[float, float]:
    """A 95 % bootstrap interval of n seeds, its distance from the value times √(n/(n−1)) · t/z, without which few seeds cover too seldom.

    t and z are the quantiles of Student's distribution with n − 1 degrees of freedom and of the normal one.
    """
    tail = (1.0 - CONFIDENCE) / 2.0
    factor = math.sqrt(n / (n - 1)) * float(stats.t.ppf(1.0 - tail, n - 1) / stats.norm.ppf(1.0 - tail))
    return value + factor * (low - value), value + factor * (high - value)


def _seeds(n: int) -> str:
    return f"{n} seed{'' if n == 1 else 's'}"
