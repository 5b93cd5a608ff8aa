"""A plot as plain data, drawn twice: for the report's page by plotly (here) and into files by matplotlib (`drawing_files`)."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from equipot.analysis.palette import COLOURS, GREY, colour
from equipot.analysis.report.blocks import Figure

SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x")


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
    x_ticks: list[float] | None = None

    def ticks(self, axis: str) -> list[float] | None:
        """Where a logarithmic axis "x" or "y" is labelled; None for a linear one."""
        if axis == "x" and self.x_ticks is not None:
            return self.x_ticks
        if not (self.log_x if axis == "x" else self.log_y):
            return None
        return log_ticks(np.concatenate([np.asarray(getattr(s, axis), dtype=float) for s in self.series]))


def figure(drawing: Drawing) -> Figure:
    """The plot for a page."""
    data = [_trace(s) for s in drawing.series]
    x = {"title": {"text": drawing.x}, **_axis(drawing.log_x, drawing.ticks("x"))}
    y = {"title": {"text": drawing.y}, **_axis(drawing.log_y, drawing.ticks("y"))}
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


def _axis(log: bool, ticks: list[float] | None) -> dict[str, Any]:
    kind: dict[str, Any] = {"type": "log"} if log else {}
    return kind | ({"tickmode": "array", "tickvals": ticks, "ticktext": [f"{t:,.6g}" for t in ticks]} if ticks else {})


def log_ticks(values: np.ndarray) -> list[float]:
    """Places on a logarithmic axis around the values: powers of ten, over less than three decades 1, 2 and 5 times these, over little even steps."""
    known = values[np.isfinite(values) & (values > 0)]
    if not len(known):
        return []
    low, high = float(known.min()), float(known.max())
    powers = range(int(np.floor(np.log10(low))) - 1, int(np.ceil(np.log10(high))) + 2)
    places = [m * 10.0**k for k in powers for m in ((1,) if high / low >= 1000.0 else (1, 2, 5))]
    inside = [t for t in places if low / 1.15 <= t <= high * 1.15]
    return inside if len(inside) > 2 else _even_ticks(low, high)


def _even_ticks(low: float, high: float) -> list[float]:
    """Three to six multiples of 1, 2 or 5 times a power of ten between two numbers and a little beyond; of one number, itself."""
    if high <= low * 1.0001:
        return [float(f"{low:.3g}")]
    raw = (high - low) / 4.0
    power = 10.0 ** np.floor(np.log10(raw))
    step = float(next(m * power for m in (1, 2, 5, 10) if m * power >= raw))
    return [float(f"{k * step:.6g}") for k in range(int(np.ceil(low / step - 0.1)), int(np.floor(high / step + 0.1)) + 1) if k > 0]
