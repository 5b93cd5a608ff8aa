"""Plots as files: PNG and PDF by matplotlib, which is used here only."""

import io
from pathlib import Path

from equipot.errors import UserError
from equipot.study.drawing import Drawing, Series
from equipot.whole_file import write_whole

_MARKS = {"circle": "o", "square": "s", "diamond": "D", "triangle-up": "^", "x": "X"}
_DASHES = {"solid": "-", "dash": "--", "dot": ":"}
_SIZE, _DPI = (6.4, 4.4), 160
_LABELLED = 16  # points of one plot that are named beside them
_DATED_NEVER = {"PNG": {"Software": None}, "PDF": {"CreationDate": None}}  # the same plot gives the same file


def write(drawing: Drawing, folder: Path, suffixes: tuple[str, ...] = (".png", ".pdf")) -> list[Path]:
    """The plot in `folder` under its name. Raises UserError where matplotlib is missing."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise UserError("plots as files need matplotlib: pip install 'equipot[report]'") from None
    canvas = Figure(figsize=_SIZE, layout="constrained")
    FigureCanvasAgg(canvas)
    axes = canvas.subplots()
    if drawing.log_x:
        axes.set_xscale("log")
    if drawing.log_y:
        axes.set_yscale("log")
    named = sum(len(s.labels) for s in drawing.series) <= _LABELLED
    for series in drawing.series:
        _draw(axes, series, named)  # a mark that is named beside it needs no legend
    if drawing.y_range is not None:
        axes.set_ylim(*drawing.y_range)
    _plain_ticks(axes, drawing)
    axes.set_xlabel(drawing.x)
    axes.set_ylabel(drawing.y)
    axes.set_title(drawing.title, fontsize=10)
    axes.grid(True, which="major", color="#e7eaee", linewidth=0.8)
    axes.set_axisbelow(True)
    if sum(s.legend and not (named and s.labels) for s in drawing.series) > 1:
        axes.legend(fontsize=7.5, framealpha=0.85)
    files = []
    for suffix in suffixes:
        kind = suffix.lstrip(".").upper()
        content = io.BytesIO()
        canvas.savefig(content, format=kind.lower(), dpi=_DPI, metadata=_DATED_NEVER.get(kind))
        files.append(folder / f"{drawing.name}{suffix}")
        write_whole(files[-1], content.getvalue())
    return files


def _draw(axes, series: Series, named: bool) -> None:
    lines = series.mode == "lines"
    style = (
        {"linestyle": _DASHES[series.dash], "linewidth": 1.4}
        if lines
        else {"linestyle": "", "marker": _MARKS[series.symbol], "markersize": 6}
    )
    name = series.name if series.legend and not (named and series.labels) else "_nolegend_"
    axes.errorbar(
        series.x, series.y, xerr=series.x_error, yerr=series.y_error, color=series.colour, label=name, capsize=2.5, elinewidth=1, **style
    )
    if named:
        for x, y, label in zip(series.x, series.y, series.labels, strict=False):
            axes.annotate(label, (x, y), xytext=(5, 4), textcoords="offset points", fontsize=7, color=series.colour)


def _plain_ticks(axes, drawing: Drawing) -> None:
    """Numbers such as 50, not 5×10¹, on logarithmic axes."""
    from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

    for name, axis in (("x", axes.xaxis), ("y", axes.yaxis)):
        if ticks := drawing.ticks(name):
            axis.set_major_locator(FixedLocator(ticks))
            axis.set_major_formatter(StrMethodFormatter("{x:,.6g}"))
            axis.set_minor_locator(NullLocator())
