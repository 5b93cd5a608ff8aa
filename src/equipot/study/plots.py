"""Which plots a study has: errors in against out of domain, learning curves, cost against error, probes."""

from collections.abc import Sequence

import numpy as np

from equipot.study import curves
from equipot.study.drawing import Drawing, Series
from equipot.study.measured import COST, IN_DOMAIN, OUT_OF_DOMAIN, Measured
from equipot.study.probe_curves import ProbeCurve
from equipot.study.sheets import COSTS, QUANTITIES, label, shown_unit
from equipot.study.significance import estimate

STATISTIC = "mae"
HIGHEST = 10.0  # eV above the zero, shown of a probe without a reference
PARETO = "Dashed: the Pareto front, the points that no other beats in both."


def ablations(measured: Measured, size: int) -> list[Drawing]:
    """For each quantity and out-of-domain set: its error against that on the first in-domain set, a mark for each variant."""
    inside = next((s for s, d in measured.sets.items() if d == IN_DOMAIN), None)
    outsides = [s for s, d in measured.sets.items() if d == OUT_OF_DOMAIN]
    found = []
    for where in outsides if inside else []:
        for measure in _measures(measured, where):
            first, second = (measured.by_variant(s, measure, size) for s in (inside, where))
            both = [v for v in measured.variants if v in first and v in second]
            if not both:
                continue
            factor, unit = shown_unit(measure, measured.units[measure])
            series = [_mark(measured, v, first[v], second[v], factor, v) for v in both]
            title = f"Error on {where} against {inside}, {size} structures"
            axes = f"{inside}: {label(measure, unit)}", f"{where}: {label(measure, unit)}"
            caption = "Mean and standard error over seeds."
            found.append(Drawing(f"ablation-{where}-{measure}-n{size}", title, *axes, series, True, True, None, caption))
    return found


def learning_curves(measured: Measured) -> list[Drawing]:
    """Error against the number of training structures on logarithmic axes, with the power law of each variant; for two sizes or more."""
    found = []
    for where in measured.sets:
        for measure in _measures(measured, where):
            series = [s for v in measured.variants for s in _curve(measured, where, measure, v)]
            if len({x for s in series if s.mode == "markers" for x in s.x}) < 2:
                continue
            _, unit = shown_unit(measure, measured.units[measure])
            caption = "Mean and standard error over seeds; lines: error = a n^(-b)."
            title, ticks = f"Learning curve: {where}", [float(n) for n in measured.sizes]
            found.append(
                Drawing(
                    f"curve-{where}-{measure}", title, "training structures", label(measure, unit), series, True, True, None, caption, ticks
                )
            )
    return found


def costs(measured: Measured, size: int) -> list[Drawing]:
    """Force (or energy) error on every set against each cost, with the Pareto front."""
    found = []
    for where in measured.sets:
        measure = next((m for m in (f"forces_{STATISTIC}", f"energy_per_atom_{STATISTIC}") if measured.by_variant(where, m, size)), None)
        for cost in COSTS if measure else []:
            prices, wrongs = measured.by_variant(COST, cost, size), measured.by_variant(where, measure, size)
            both = [v for v in measured.variants if v in prices and v in wrongs]
            if len(both) < 2 or cost == "updates":
                continue
            factor, unit = shown_unit(measure, measured.units[measure])
            points = np.array([[np.mean(prices[v]), factor * np.mean(wrongs[v])] for v in both])
            front = points[pareto(points)].repeat(2, axis=0)  # stairs: cheapest to dearest, then down
            stairs = Series("Pareto front", front[1:, 0], front[:-1, 1], None, "lines", "dash")
            series = [stairs, *(_mark(measured, v, prices[v], wrongs[v], factor, v, 1.0) for v in both)]
            title = f"Error on {where} against {COSTS[cost].split(',')[0]}, {size} structures"
            name = f"cost-{cost}-{where}-n{size}"
            found.append(Drawing(name, title, COSTS[cost], f"{where}: {label(measure, unit)}", series, True, True, None, PARETO))
    return found


def pareto(points: np.ndarray) -> np.ndarray:
    """Numbers of the (n, 2) points that no other point undercuts or equals in both coordinates and undercuts in one, by the first coordinate."""
    order = np.lexsort((points[:, 1], points[:, 0]))
    front, lowest = [], np.inf
    for i in order:
        if points[i, 1] < lowest:
            front.append(int(i))
            lowest = points[i, 1]
    return np.array(front, dtype=int)


def probes(name: str, found: Sequence[ProbeCurve], variants: Sequence[str]) -> list[Drawing]:
    """For each curve of a probe: energy along the coordinate, prediction beside reference, and the error where there is a reference."""
    drawings = []
    names = list(dict.fromkeys(c.curve for c in found))
    for curve in names:
        mine = [c for c in found if c.curve == curve]
        lines = [Series(c.variant, c.x, c.predicted, variants.index(c.variant), "lines") for c in mine]
        known = next((c for c in mine if c.reference is not None), None)
        title, stem = (name, f"probe-{name}") if len(names) == 1 else (f"{name}: {curve}", f"probe-{name}-{curve}")
        if known is not None:
            lines.append(Series("reference", known.x, known.reference, None, "lines", "dash"))
        counted = "E − lowest reference, eV" if known is not None else "E − zero, eV"
        drawings.append(Drawing(stem, title, mine[0].axis, counted, lines, y_range=_range(mine)))
        if known is not None:
            errors = [
                Series(c.variant, c.x, 1000 * (c.predicted - c.reference), variants.index(c.variant), "lines")
                for c in mine
                if c.reference is not None
            ]
            drawings.append(Drawing(f"{stem}-error", f"{title}: error", mine[0].axis, "E predicted − reference, meV", errors))
    return drawings


def _range(found: Sequence[ProbeCurve]) -> tuple[float, float]:
    known = [c.reference for c in found if c.reference is not None]
    if known:
        low, high = min(float(r.min()) for r in known), max(float(r.max()) for r in known)
        margin = 0.25 * (high - low) + 1e-3
        return low - margin, high + margin
    low = min(float(c.predicted.min()) for c in found)
    high = max(float(c.predicted.max()) for c in found)
    return 1.1 * min(low, -0.1), min(HIGHEST, 1.05 * high + 0.1)


def _measures(measured: Measured, where: str) -> list[str]:
    present = measured.measures(where)
    return [m for q in QUANTITIES if (m := f"{q}_{STATISTIC}") in present]


def _mark(
    measured: Measured, variant: str, x: Sequence[float], y: Sequence[float], factor: float, name: str, x_factor: float | None = None
) -> Series:
    first, second = estimate(x), estimate(y)
    scale = factor if x_factor is None else x_factor
    errors = [None if e.error is None else np.array([f * e.error]) for e, f in ((first, scale), (second, factor))]
    index = measured.variants.index(variant)
    return Series(
        name, np.array([scale * first.mean]), np.array([factor * second.mean]), index, x_error=errors[0], y_error=errors[1], labels=[name]
    )


def _curve(measured: Measured, where: str, measure: str, variant: str) -> list[Series]:
    by_size = {n: list(measured.values(where, measure, variant, n).values()) for n in measured.sizes}
    by_size = {n: values for n, values in by_size.items() if values}
    if not by_size:
        return []
    factor, _ = shown_unit(measure, measured.units[measure])
    estimates = [estimate(values) for values in by_size.values()]
    x = np.array(list(by_size), dtype=float)
    index = measured.variants.index(variant)
    errors = np.array([factor * (e.error or 0.0) for e in estimates])
    marks = Series(variant, x, np.array([factor * e.mean for e in estimates]), index, y_error=errors)
    law = curves.fit(measured.curve(where, measure, variant))
    if law is None:
        return [marks]
    fine = np.geomspace(x[0], x[-1], 20)
    return [marks, Series(f"{variant}: {law.words}", fine, factor * law(fine), index, "lines")]
