"""Figures of a report as plain data for plotly.js; colours by theme are set in the page."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from equipot.analysis.palette import COLOURS, GREY, colour
from equipot.analysis.report.blocks import Figure

MOST_POINTS = 2500  # of one set in a scatter plot
MOST_BINS, FEWEST_BINS = 61, 9
Series = tuple[str, np.ndarray, np.ndarray]  # name, x, y


def dash(index: int) -> str:
    """The stroke of the index-th series, so that none looks like another when colours come round again."""
    return ("solid", "dash", "dot", "dashdot")[index // len(COLOURS) % 4]


def lines(
    name: str, title: str, series: Sequence[Series], x: str, y: str, log: bool = False, caption: str = "", shape: str = "linear"
) -> Figure:
    """Curves over a common axis; points that are not finite are left out."""
    data = []
    for i, (label, xs, ys) in enumerate(series):
        keep = np.isfinite(ys) & ((ys > 0) if log else True)
        style = {"color": colour(i), "width": 1.8, "shape": shape, "dash": dash(i)}
        data.append({"type": "scatter", "mode": "lines", "name": label, "x": _short(xs[keep]), "y": _short(ys[keep]), "line": style})
    return Figure(name, title, data, {"xaxis": {"title": {"text": x}}, "yaxis": {"title": {"text": y}, **_scale(log, data)}}, caption)


def parity(name: str, title: str, series: Sequence[Series], unit: str, caption: str = "") -> Figure:
    """Predicted (y) against reference (x), the worst points and an even choice of the others, with the line of agreement."""
    data, low, high = [], np.inf, -np.inf
    widest_first = sorted(range(len(series)), key=lambda i: -float(np.mean((series[i][2] - series[i][1]) ** 2)))
    for i in widest_first:
        label, reference, predicted = series[i]
        low, high = min(low, reference.min(), predicted.min()), max(high, reference.max(), predicted.max())
        chosen = representative(reference, predicted)
        marker = {"color": colour(i), "size": 4, "opacity": 0.55}
        points = {"x": _short(reference[chosen], 5), "y": _short(predicted[chosen], 5)}
        data.append({"type": "scatter", "mode": "markers", "name": label, "legendrank": i, "marker": marker, **points})
    margin = 0.03 * (high - low) + 1e-9
    ends = _short(np.array([low - margin, high + margin]))
    diagonal = {"type": "scatter", "mode": "lines", "x": ends, "y": ends, "line": {"color": GREY, "width": 1, "dash": "dot"}}
    data.insert(0, {**diagonal, "showlegend": False, "hoverinfo": "skip"})
    axes = {
        "xaxis": {"title": {"text": f"reference, {unit}"}, "range": ends},
        "yaxis": {"title": {"text": f"predicted, {unit}"}, "range": ends},
    }
    return Figure(name, title, data, axes, caption)


def histogram(name: str, title: str, series: Sequence[tuple[str, np.ndarray]], x: str, caption: str = "") -> Figure:
    """Distributions of errors over the range that holds 99 % of them, in as many bins as the smallest series bears."""
    reach = max((float(np.quantile(np.abs(values), 0.99)) for _, values in series), default=1.0) or 1e-9
    fewest = min(len(values) for _, values in series)
    n_bins = int(np.clip(2.5 * np.cbrt(fewest), FEWEST_BINS, MOST_BINS)) | 1  # odd: one bin stands on zero
    edges = np.linspace(-reach, reach, n_bins + 1)
    centres = (edges[1:] + edges[:-1]) / 2
    curves = []
    for label, values in series:
        counts, _ = np.histogram(values, edges)
        curves.append((label, centres, 100.0 * counts / len(values)))
    figure = lines(name, title, curves, x, "% of all per bin", caption=caption, shape="hvh")
    figure.layout["xaxis"]["zeroline"] = True
    return figure


def distribution(name: str, title: str, series: Sequence[tuple[str, np.ndarray]], x: str, caption: str = "") -> Figure:
    """Distributions of quantities that are not negative, from their least to what holds 99.5 % of them."""
    low = min(float(values.min()) for _, values in series)
    high = max(float(np.quantile(values, 0.995)) for _, values in series)
    n_bins = int(np.clip(2.5 * np.cbrt(min(len(values) for _, values in series)), FEWEST_BINS, MOST_BINS))
    edges = np.linspace(low, max(high, low + 1e-9), n_bins + 1)
    curves = [(label, edges[:-1] + np.diff(edges) / 2, 100.0 * np.histogram(values, edges)[0] / len(values)) for label, values in series]
    return lines(name, title, curves, x, "% of all per bin", caption=caption, shape="hvh")


def dimers(name: str, curves: dict[str, dict[str, Any]], caption: str = "") -> Figure:
    """E(r) of each pair of elements; a dot where the training data begin."""
    data = []
    for i, (pair, curve) in enumerate(curves.items()):
        r, energy = np.array(curve["r"], dtype=float), np.array(curve["energy"], dtype=float)
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": pair,
                "x": _short(r),
                "y": _short(energy),
                "line": {"color": colour(i), "width": 1.8, "dash": dash(i)},
            }
        )
        seen = curve.get("closest_in_data")
        if seen and np.isfinite(energy).all() and r[0] <= seen <= r[-1]:
            dot = {"x": [round(seen, 3)], "y": [round(float(np.interp(seen, r, energy)), 4)]}
            data.append({"type": "scatter", "mode": "markers", "name": f"{pair}: data begin", "showlegend": False, **dot})
            data[-1]["marker"] = {"color": colour(i), "size": 9, "line": {"color": "#ffffff", "width": 1.5}}
    values = np.concatenate([np.array(c["energy"], dtype=float) for c in curves.values()]) if curves else np.zeros(1)
    low = float(np.nanmin(np.where(np.isfinite(values), values, np.nan))) if np.isfinite(values).any() else -1.0
    layout = {
        "xaxis": {"title": {"text": "distance, Å"}},
        "yaxis": {"title": {"text": "E − E(atoms), eV"}, "range": [1.1 * min(low, -0.5), 10.0]},
    }
    return Figure(name, "Two atoms alone", data, layout, caption)


def representative(reference: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Indices of all points, or of the worst tenth of `MOST_POINTS` and an even choice of the others."""
    if len(reference) <= MOST_POINTS:
        return np.arange(len(reference))
    order = np.argsort(-np.abs(predicted - reference), kind="stable")
    worst, rest = order[: MOST_POINTS // 10], np.sort(order[MOST_POINTS // 10 :])
    even = rest[np.linspace(0, len(rest) - 1, MOST_POINTS - len(worst)).astype(int)]
    return np.concatenate([even, worst])


def _short(values: np.ndarray, digits: int = 6) -> list[float | None]:
    """Rounded to significant figures, a page being no archive; None for what is not finite."""
    return [float(f"{v:.{digits}g}") if np.isfinite(v) else None for v in values]


def _scale(log: bool, data: list[dict[str, Any]]) -> dict[str, Any]:
    """A logarithmic axis has ticks at powers of ten, over less than three decades also at 2 and 5, written in full."""
    values = [y for trace in data for y in trace["y"] if y]
    if not log or not values:
        return {"type": "log"} if log else {}
    low, high = np.log10(min(values)), np.log10(max(values))
    steps = (1, 2, 5) if high - low < 3 else (1,)
    ticks = [(step, power) for power in range(int(np.floor(low)) - 1, int(np.ceil(high)) + 1) for step in steps]
    return {"type": "log", "tickvals": [step * 10.0**power for step, power in ticks], "ticktext": [_tick(*tick) for tick in ticks]}


def _tick(step: int, power: int) -> str:
    """step · 10^power: 0.01 … 10,000 in full, else as a power of ten."""
    if -3 <= power <= 4:
        return f"{step * 10.0**power:,.{max(0, -power)}f}"
    return f"10<sup>{power}</sup>" if step == 1 else f"{step}·10<sup>{power}</sup>"
