"""What an observable is: curves with errors, figures with errors, and remarks."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from equipot.analysis.observables.blocks import Blocked
from equipot.errors import UserError


class CannotObserveError(UserError):
    """An observable this trajectory cannot give; the message says why, and what would."""


@dataclass(frozen=True, eq=False)
class Curve:
    """A function with its estimate in every block, e.g. g(r) of one pair of elements."""

    name: str
    x: np.ndarray  # (n,)
    blocks: Blocked  # of (n,)

    @property
    def y(self) -> np.ndarray:
        return self.blocks.mean

    @property
    def error(self) -> np.ndarray:
        """(n,) one standard deviation; NaN from a single block."""
        return self.blocks.error


@dataclass(frozen=True)
class Value:
    """A number with one standard deviation, NaN where there is none."""

    name: str
    value: float
    error: float
    unit: str

    @staticmethod
    def of(name: str, blocks: Blocked, unit: str) -> "Value":
        return Value(name, float(blocks.mean), float(blocks.error), unit)


@dataclass(frozen=True, eq=False)
class Observable:
    """One quantity of a trajectory or crystal. `together`: its curves share one picture, else each has its own."""

    name: str  # as --only takes it
    title: str
    x_label: str
    y_label: str
    curves: list[Curve] = field(default_factory=list)
    values: list[Value] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    together: bool = False
    ticks: list[tuple[float, str]] = field(default_factory=list)  # named points of the x axis
    data: dict[str, Any] = field(default_factory=dict)  # what else there is, as plain data

    def curve(self, name: str) -> Curve | None:
        return next((c for c in self.curves if c.name == name), None)
