"""Pictures of observables as PNG, by matplotlib."""

import io
import math
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from equipot.analysis.observables.result import Curve, Observable
from equipot.analysis.palette import COLOURS

REFERENCE = "#222222"
MANY = 8  # curves: more are drawn in one colour and without a legend
POINTS = 4000


def draw(observable: Observable, reference: Observable | None = None) -> bytes:
    """A PNG: a panel per curve, or one for all where they belong together; the reference in black or dashed, errors as bands."""
    curves = observable.curves
    if observable.together or len(curves) == 1:
        figure = Figure(figsize=(6.4, 4.2), dpi=130, layout="constrained")
        _together(figure.subplots(), observable, reference)
    else:
        n_columns = min(3, len(curves))
        n_rows = math.ceil(len(curves) / n_columns)
        figure = Figure(figsize=(3.4 * n_columns + 0.4, 2.5 * n_rows + 0.5), dpi=130, layout="constrained")
        axes = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
        for i, curve in enumerate(curves):
            _panel(axes[i], observable, curve, reference)
        for unused in axes[len(curves) :]:
            unused.set_axis_off()
        figure.supxlabel(observable.x_label, fontsize=9)
        figure.supylabel(observable.y_label, fontsize=9)
    figure.suptitle(observable.title, fontsize=11)
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def _together(axes: Any, observable: Observable, reference: Observable | None) -> None:
    many = len(observable.curves) > MANY or observable.ticks
    alone = len(observable.curves) == 1
    for i, curve in enumerate(observable.curves):
        colour = COLOURS[0 if many else i % len(COLOURS)]
        there = reference.curve(curve.name) if reference is not None else None
        points = "o" if len(curve.x) <= 12 else "-"
        _line(axes, curve, colour, "" if many else "trajectory" if alone else curve.name, points)
        if there is not None and alone:
            _line(axes, there, REFERENCE, "reference", "-", faint=True)
        elif there is not None:
            _line(axes, there, colour, "" if many else f"{curve.name}, reference", "--")
    axes.set_xlabel(observable.x_label)
    axes.set_ylabel(observable.y_label)
    if observable.ticks:
        _ticks(axes, observable.ticks)
    if not many and len(axes.get_lines()) > 1:
        axes.legend(frameon=False, fontsize=8)
    _plain(axes)


def _panel(axes: Any, observable: Observable, curve: Curve, reference: Observable | None) -> None:
    there = reference.curve(curve.name) if reference is not None else None
    if there is not None:
        _line(axes, there, REFERENCE, "reference", "-", width=2.2, faint=True)
    _line(axes, curve, COLOURS[0], "trajectory", "-" if len(curve.x) > 40 else "o-")
    axes.set_title(curve.name, fontsize=9)
    if there is not None:
        axes.legend(frameon=False, fontsize=7)
    _plain(axes)


def _line(axes: Any, curve: Curve, colour: str, label: str, style: str, width: float = 1.3, faint: bool = False) -> None:
    step = max(1, math.ceil(len(curve.x) / POINTS))
    x, y, error = curve.x[::step], curve.y[::step], curve.error[::step]
    axes.plot(x, y, style, color=colour, label=label or None, linewidth=width, markersize=3.5, alpha=0.45 if faint else 1.0)
    if np.isfinite(error).any():
        axes.fill_between(x, y - error, y + error, color=colour, alpha=0.15 if faint else 0.25, linewidth=0)


def _ticks(axes: Any, ticks: list[tuple[float, str]]) -> None:
    """Names of special points; two at one place are a jump of the path."""
    names: dict[float, str] = {}
    for at, name in ticks:
        key = round(at, 6)
        names[key] = f"{names[key]}|{name}" if key in names else name
    axes.set_xticks(list(names), list(names.values()))
    axes.set_xlim(min(names), max(names))
    for at in names:
        axes.axvline(at, color="#bbbbbb", linewidth=0.6, zorder=0)
    axes.axhline(0.0, color="#bbbbbb", linewidth=0.6, zorder=0)


def _plain(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
