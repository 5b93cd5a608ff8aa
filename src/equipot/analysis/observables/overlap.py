"""How far two trajectories agree: overlap of curves and differences of values, with errors, and what noise alone would make of them."""

import math
from dataclasses import dataclass

import numpy as np

from equipot.analysis.observables.blocks import Blocked
from equipot.analysis.observables.result import Curve, Observable, Value

DRAWS = 1000
CONFIDENCE = 0.95
MANY_SIGMA = 3.0
ROUNDING = 1e-9


@dataclass(frozen=True)
class Overlap:
    """Of one curve with the reference's: 1 where they are equal, 0 where they have nothing in common."""

    observable: str
    curve: str
    overlap: float
    error: float  # one standard deviation, from blocks of both drawn anew
    floor: float  # two samples of the same system would reach this or more in 95 % of cases
    mean_difference: float  # mean of |f − g| over the range, in the curve's unit

    @property
    def within_noise(self) -> bool | None:
        """Whether noise alone explains the difference; None where there are no errors."""
        return None if math.isnan(self.floor) else self.overlap >= self.floor - ROUNDING


@dataclass(frozen=True)
class Difference:
    """Of a value from the reference's."""

    observable: str
    name: str
    value: float
    reference: float
    error: float  # of the difference, one standard deviation
    unit: str

    @property
    def within_noise(self) -> bool | None:
        return None if math.isnan(self.error) else abs(self.value - self.reference) <= MANY_SIGMA * self.error


def compare(here: Observable, there: Observable, seed: int = 0) -> tuple[list[Overlap], list[Difference]]:
    """Overlaps of the curves and differences of the values that both have, by name."""
    rng = np.random.default_rng(seed)
    pairs = [(c, r) for c in here.curves if (r := there.curve(c.name)) is not None]
    overlaps = [overlap_of(here.name, c, r, rng) for c, r in pairs] if here.y_label == there.y_label else []
    others = {v.name: v for v in there.values}
    differences = [_difference(here.name, v, others[v.name]) for v in here.values if v.name in others and others[v.name].unit == v.unit]
    return [o for o in overlaps if o is not None], differences


def overlap_of(observable: str, curve: Curve, reference: Curve, rng: np.random.Generator) -> Overlap | None:
    """1 − ∫|f − g| dx / ∫(|f| + |g|) dx over the range both have; None where they share none, or both vanish.

    For normalised densities this is ∫ min(f, g), one less the total variation distance. Its error comes from means of blocks drawn anew on both
    sides; the floor from the same draws about the mean of the two curves, as if both were samples of one system.
    """
    x = curve.x[(curve.x >= reference.x[0] - 1e-9) & (curve.x <= reference.x[-1] + 1e-9)]
    if len(x) < 2:
        return None
    f, g = on_grid(curve, x), on_grid(reference, x)
    both = (f.mean + g.mean) / 2
    if not np.abs(both).max() > 0:
        return None
    shift_f, shift_g = f.resampled(rng, DRAWS), g.resampled(rng, DRAWS)
    known = f.n_blocks > 1 and g.n_blocks > 1
    spread = _overlap(f.mean + shift_f, g.mean + shift_g).std() if known else np.nan
    floor = np.quantile(_overlap(both + shift_f, both + shift_g), 1.0 - CONFIDENCE) if known else np.nan
    value = float(_overlap(f.mean, g.mean))
    return Overlap(observable, curve.name, value, float(spread), float(floor), float(np.abs(f.mean - g.mean).mean()))


def on_grid(curve: Curve, x: np.ndarray) -> Blocked:
    """The curve's blocks at other points, by straight lines."""
    if len(x) == len(curve.x) and np.allclose(x, curve.x):
        return curve.blocks
    return Blocked(np.array([np.interp(x, curve.x, block) for block in curve.blocks.values]), curve.blocks.weights)


def _overlap(f: np.ndarray, g: np.ndarray) -> np.ndarray:
    """Along the last axis, whose points are evenly spaced."""
    return 1.0 - np.abs(f - g).sum(axis=-1) / (np.abs(f) + np.abs(g)).sum(axis=-1)


def _difference(observable: str, here: Value, there: Value) -> Difference:
    return Difference(observable, here.name, here.value, there.value, math.hypot(here.error, there.error), here.unit)
