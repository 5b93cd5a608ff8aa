"""Learning curves: the power law error = a · n^(−b), its exponent b, and how well the seeds determine it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from equipot.study.significance import CONFIDENCE, FEWEST, Verdict, judge, widened

FEWEST_SIZES = 3
RESAMPLES = 2000
METHOD = (
    f"error = a n^(-b), least squares in logarithms over all runs. Interval of b: {CONFIDENCE:.0%}, bootstrap over seeds, a seed with its whole "
    "curve being drawn as one, widened by sqrt(S/(S-1)) and the ratio of Student's to the normal quantile for S seeds (a plain percentile interval "
    "of few seeds is too narrow). Off the law: root mean square of what is left at each size, averaged over seeds: large where the curve is no power law. "
    f"Below {FEWEST} seeds there is no interval, and no slope is claimed; below {FEWEST_SIZES} sizes there is no fit."
)
Runs = Mapping[int, Mapping[int, float]]  # seed -> size -> error


@dataclass(frozen=True)
class PowerLaw:
    """error = prefactor · n^(−exponent); `interval` of the exponent, None where the seeds are too few; `by_seed`: each seed's own exponent.

    `misfit`: root mean square of the residuals of ln(error), averaged over seeds at each size: what is curved rather than scattered.
    """

    prefactor: float
    exponent: float
    interval: tuple[float, float] | None
    by_seed: dict[int, float]
    misfit: float

    def __call__(self, n: np.ndarray) -> np.ndarray:
        return self.prefactor * np.asarray(n, dtype=np.float64) ** -self.exponent

    @property
    def words(self) -> str:
        """The exponent as it can be quoted."""
        if self.interval is None:
            return f"b = {self.exponent:.2f} ({len(self.by_seed)} seed{'s' if len(self.by_seed) != 1 else ''}: no interval)"
        return f"b = {self.exponent:.2f} [{self.interval[0]:.2f}, {self.interval[1]:.2f}]"


def fit(runs: Runs, seed: int = 0) -> PowerLaw | None:
    """The law through the runs of one variant; None with fewer than three sizes or an error that is not positive.

    Seeds that lack a size count with those they have; only seeds with two sizes or more have an exponent of their own.
    """
    points = [(s, math.log(n), e) for s, curve in runs.items() for n, e in curve.items()]
    if len({x for _, x, _ in points}) < FEWEST_SIZES or any(not e > 0.0 or not math.isfinite(e) for *_, e in points):
        return None
    seeds = sorted({s for s, *_ in points})
    sums = np.zeros((len(seeds), 5))  # per seed: number, Σx, Σy, Σx², Σxy
    for s, x, e in points:
        y = math.log(e)
        sums[seeds.index(s)] += (1.0, x, y, x * x, x * y)
    intercept, slope = _line(sums.sum(axis=0))
    own = {s: -float(_line(row)[1]) for s, row in zip(seeds, sums, strict=True) if len(runs[s]) >= 2}
    interval = _interval(sums, -float(slope), seed) if len(own) == len(seeds) >= FEWEST else None
    residuals: dict[float, list[float]] = {}
    for _, x, e in points:
        residuals.setdefault(x, []).append(math.log(e) - float(intercept + slope * x))
    misfit = float(np.sqrt(np.mean([np.mean(r) ** 2 for r in residuals.values()])))
    return PowerLaw(math.exp(float(intercept)), -float(slope), interval, own, misfit)


def steepest(laws: Mapping[str, PowerLaw]) -> Verdict | None:
    """Which variant's exponent is the largest, and whether the seeds' own exponents tell it from the others (see `significance`)."""
    return judge({name: list(law.by_seed.values()) for name, law in laws.items()}, higher=True)


def _line(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Intercept and slope of least squares from (…, 5) sums."""
    n, x, y, xx, xy = np.moveaxis(sums, -1, 0)
    slope = (n * xy - x * y) / (n * xx - x * x)
    return (y - slope * x) / n, slope


def _interval(sums: np.ndarray, exponent: float, seed: int) -> tuple[float, float]:
    n, tail = len(sums), (1.0 - CONFIDENCE) / 2.0
    drawn = np.random.default_rng(seed).integers(0, n, (RESAMPLES, n))
    exponents = -_line(sums[drawn].sum(axis=1))[1]
    low, high = np.quantile(exponents, [tail, 1.0 - tail])
    return widened(exponent, float(low), float(high), n)
