"""A plot as plain data, drawn twice: for the report's page by plotly (here) and into files by matplotlib (`drawing_files`)."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from equipot.analysis.report.blocks import Figure
from equipot.analysis.report.plots import COLOURS, colour

SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x")
GREY = "#7a8594"


@dataclass(frozen=True)
class Series:
    """Points or a curve: x, y (n,), errors of either, a label per point. `index`: colour and symbol; None: grey, such as a reference."""

    name: str
    x: np.ndarray
    y: np.ndarray
    index: int | None = 0
    mode: str = "markers"  # or "lines"
    dash: str = "solid"  # of lines; "dash", "dot"
    x_error: np.ndarray | None = None
    y_error: np.ndarray | None = None
    labels: list[str] = field(default_factory=list)
    legend: bool = True

    @property
    def colour(self) -> str:
        return GREY if self.index is None else colour(self.index)

    @property
    def symbol(self) -> str:
        return SYMBOLS[(self.index or 0) // len(COLOURS) % len(SYMBOLS)]


@dataclass(frozen=True)
class Drawing:
    """A plot with its axes; `name` is that of its files and unique in a page."""

    name: str
    title: str
    x: str
    y: str
    series: list[Series]
    log_x: bool = False
    log_y: bool = False
    y_range: tuple[float, float] | None = None
    caption: str = ""


def figure(drawing: Drawing) -> Figure:
    """The plot for a page."""
    data = [_trace(s) for s in drawing.series]
    x = {"title": {"text": drawing.x}, **_log(drawing.log_x, [s.x for s in drawing.series])}
    y = {"title": {"text": drawing.y}, **_log(drawing.log_y, [s.y for s in drawing.series])}
    if drawing.y_range is not None:
        y["range"] = [_short(v) for v in drawing.y_range]
    return Figure(drawing.name, drawing.title, data, {"xaxis": x, "yaxis": y}, drawing.caption)


def _trace(series: Series) -> dict[str, Any]:
    trace: dict[str, Any] = {
        "type": "scatter",
        "mode": series.mode,
        "name": series.name,
        "x": [_short(v) for v in series.x],
        "y": [_short(v) for v in series.y],
        "showlegend": series.legend,
    }
    if series.mode == "lines":
        trace["line"] = {"color": series.colour, "width": 1.8, "dash": series.dash}
    else:
        trace["marker"] = {"color": series.colour, "size": 9, "symbol": series.symbol}
    if series.labels:
        trace |= {"text": series.labels, "hovertemplate": "%{text}<br>%{x}, %{y}<extra></extra>"}
    for axis, error in (("x", series.x_error), ("y", series.y_error)):
        if error is not None:
            trace[f"error_{axis}"] = {
                "type": "data",
                "array": [_short(v) for v in error],
                "color": series.colour,
                "thickness": 1.2,
                "width": 3,
            }
    return trace


def _short(value: float) -> float | None:
    return float(f"{value:.6g}") if np.isfinite(value) else None


def _log(log: bool, values: list[np.ndarray]) -> dict[str, Any]:
    """A logarithmic axis, with ticks at 2 and 5 where it has less than three decades."""
    if not log:
        return {}
    known = np.concatenate([v[np.isfinite(v) & (v > 0)] for v in values]) if values else np.ones(1)
    wide = len(known) > 0 and known.max() / known.min() >= 1000.0
    return {"type": "log", "dtick": 1 if wide else "D2", "exponentformat": "power" if wide else "none"}
