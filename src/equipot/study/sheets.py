"""Which tables a study has: from measured rows to sheets."""

from equipot.study import curves, significance, spread
from equipot.study.measured import COST, DONE, PROBE, Measured
from equipot.study.significance import Verdict, estimate, judge
from equipot.study.tables import Entry, Sheet

QUANTITIES = {"energy_per_atom": "energy per atom", "forces": "forces", "stress": "stress"}
STATISTICS = ("mae", "rmse")
_MILLI = ("energy", "forces", "stress", "shape", "range", "curvature", "limit")
COSTS = {
    "parameters": "parameters",
    "updates": "updates",
    "train_seconds": "training, s",
    "inference_us_per_atom": "inference, µs per atom",
}


def shown_unit(measure: str, unit: str) -> tuple[float, str]:
    """The factor and unit in which a measure is shown: errors in meV and its like."""
    if measure.startswith(_MILLI) and unit.startswith("eV"):
        return 1000.0, f"m{unit}"
    return 1.0, unit


def label(measure: str, unit: str) -> str:
    """`forces MAE, meV/Å` for forces_mae."""
    quantity, _, statistic = measure.rpartition("_")
    words = (
        f"{QUANTITIES.get(quantity, quantity.replace('_', ' '))} {statistic.upper()}"
        if statistic in STATISTICS
        else measure.replace("_", " ")
    )
    return f"{words}, {unit}" if unit else words


def verdict(measured: Measured, where: str, measure: str, size: int) -> Verdict | None:
    """Which variant has the smallest value of a measure, and whether that can be said."""
    return judge(measured.by_variant(where, measure, size))


def errors(measured: Measured, size: int, statistic: str) -> Sheet | None:
    """Variants by sets: errors at one number of training structures; None where nothing was measured."""
    columns, places = ["variant"], []
    for where, domain in measured.sets.items():
        for quantity in QUANTITIES:
            measure = f"{quantity}_{statistic}"
            if measured.by_variant(where, measure, size):
                factor, unit = shown_unit(measure, measured.units[measure])
                columns.append(f"{where} ({domain}) {label(measure, unit)}" if domain else f"{where} {label(measure, unit)}")
                places.append((where, measure, factor, _best(measured, where, measure, size)))
    if not places:
        return None
    rows = [[v, *(_entry(measured, w, m, v, size, f, best) for w, m, f, best in places)] for v in measured.variants]
    return Sheet(
        f"errors-n{size}-{statistic}", f"{statistic.upper()} with {size} training structures", columns, rows, method=significance.METHOD
    )


def curve(measured: Measured, where: str, measure: str) -> Sheet | None:
    """Variants by sizes, with the exponent of each; None for fewer than two sizes."""
    sizes = [n for n in measured.sizes if measured.by_variant(where, measure, n)]
    if len(sizes) < 2:
        return None
    factor, unit = shown_unit(measure, measured.units[measure])
    best = {n: _best(measured, where, measure, n) for n in sizes}
    laws = {v: law for v in measured.variants if (law := curves.fit(measured.curve(where, measure, v)))}
    rows = []
    for v in measured.variants:
        fitted = [laws[v].words, f"{100 * laws[v].misfit:.1f}"] if v in laws else ["", ""]
        rows.append([v, *(_entry(measured, where, measure, v, n, factor, best[n]) for n in sizes), *fitted])
    steepest = curves.steepest(laws)
    note = f"Largest exponent: {steepest.why}." if steepest and len(laws) > 1 else ""
    title = f"{where}: {label(measure, unit)}, by training structures"
    return Sheet(
        f"curve-{where}-{measure}", title, ["variant", *(str(n) for n in sizes), "exponent", "off the law, %"], rows, note, curves.METHOD
    )


def costs(measured: Measured) -> Sheet | None:
    """What every variant costs, by size."""
    present = [m for m in COSTS if m in measured.measures(COST)]
    if not present:
        return None
    several = len(measured.sizes) > 1
    rows = []
    for v in measured.variants:
        for n in measured.sizes:
            found = [_entry(measured, COST, m, v, n, 1.0, None) for m in present]
            found = [round(e.estimate.mean) if e and m in ("parameters", "updates") else e for m, e in zip(present, found, strict=True)]
            if any(f is not None for f in found):
                rows.append([v, *([n] if several else []), *found, _converged(measured, v, n)])
    columns = ["variant", *(["structures"] if several else []), *(COSTS[m] for m in present), "converged"]
    note = "Converged: runs that the study's own criterion calls settled, of those that ended. Times are of this machine and what else ran on it."
    return Sheet("cost", "Cost", columns, rows, note)


def probe(measured: Measured, name: str, size: int) -> Sheet | None:
    """Measures of one probe by variant."""
    where = PROBE + name
    measures = [m for m in measured.measures(where) if measured.by_variant(where, m, size)]
    if not measures:
        return None
    columns, rows = ["variant"], [[v] for v in measured.variants]
    for measure in measures:
        factor, unit = shown_unit(measure, measured.units[measure])
        columns.append(label(measure, unit))
        best = _best(measured, where, measure, size) if measure.endswith(STATISTICS) else None
        for row, v in zip(rows, measured.variants, strict=True):
            row.append(_entry(measured, where, measure, v, size, factor, best))
    return Sheet(f"probe-{name}-n{size}", f"Probe {name} with {size} training structures", columns, rows)


def spreads(measured: Measured, size: int, statistic: str = "mae") -> Sheet | None:
    """How far the variants lie apart on each set."""
    rows = []
    for quantity, words in QUANTITIES.items():
        for s in spread.spreads(measured, f"{quantity}_{statistic}", size):
            rows.append([words, f"{s.where} ({s.domain})", s.ratio, s.spread, s.without_noise, s.order])
    columns = ["error", "set", "worst / best", "spread", "spread, less noise", "order as in domain"]
    title = f"How far the variants lie apart, {statistic.upper()}, {size} training structures"
    return Sheet(f"spread-n{size}", title, columns, rows, spread.METHOD) if rows else None


def runs(measured: Measured) -> Sheet:
    """Every run that has ended, with what failed of it."""
    rows = []
    for name in measured.runs:
        mine = [r for r in measured.rows if r.run == name]
        first = mine[0]
        found = {r.measure: r.value for r in mine if r.set == COST}
        failed = [f"{r.set}: {r.reason}" if r.set else r.reason for r in mine if r.status != DONE]
        settled = {None: "", 1.0: "yes", 0.0: "no"}.get(found.get("converged"), "")
        state = "failed" if any(r.status != DONE and not r.set for r in mine) else "done"
        rows.append([name, first.variant, first.size, first.seed, state, found.get("train_seconds"), settled, "; ".join(failed)])
    return Sheet("runs", "Runs", ["run", "variant", "structures", "seed", "state", "training, s", "converged", "what failed"], rows)


def everything(measured: Measured) -> Sheet:
    """A row per variant, size, set and measure, in the units of the results."""
    rows = []
    for where in [*measured.sets, COST, *(PROBE + p for p in measured.probes)]:
        for measure in measured.measures(where):
            for size in measured.sizes:
                judged = verdict(measured, where, measure, size) if measure.endswith(STATISTICS) and where != COST else None
                for v, values in measured.by_variant(where, measure, size).items():
                    best = judged is not None and judged.significant and judged.best == v
                    p = judged.p.get(v) if judged else None
                    domain, unit = measured.sets.get(where, ""), measured.units[measure]
                    rows.append([v, size, where, domain, measure, unit, Entry(estimate(values), best), None if p is None else f"{p:.3g}"])
    columns = ["variant", "structures", "set", "domain", "measure", "unit", "mean", "p against the best"]
    return Sheet("summary", "All means", columns, rows, method=significance.METHOD)


def _best(measured: Measured, where: str, measure: str, size: int) -> str | None:
    judged = verdict(measured, where, measure, size)
    return judged.best if judged and judged.significant else None


def _entry(measured: Measured, where: str, measure: str, variant: str, size: int, factor: float, best: str | None) -> Entry | None:
    values = measured.values(where, measure, variant, size)
    if not values:
        return None
    return Entry(estimate([factor * v for v in values.values()]), variant == best)


def _converged(measured: Measured, variant: str, size: int) -> str:
    values = measured.values(COST, "converged", variant, size)
    return f"{sum(v > 0.5 for v in values.values())} of {len(values)}" if values else ""
