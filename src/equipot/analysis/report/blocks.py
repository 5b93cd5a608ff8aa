"""What a report page is made of: sections of tables, figures and words. Figures are plain data for plotly.js."""

import math
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Cell:
    """A table's cell: what is shown, what it is sorted by, and a class of style ("good", "bad", "warn", "dim")."""

    text: str
    sort: float | str | None = None
    style: str = ""
    detail: str = ""  # a second line, dimmed

    @property
    def key(self) -> float | str:
        return self.text if self.sort is None else self.sort

    @property
    def numeric(self) -> bool:
        return isinstance(self.key, int | float)


@dataclass(frozen=True)
class Table:
    """Rows under headings; sortable by any column in the page. Cells that are not `Cell`s are shown as they are."""

    columns: list[str]
    rows: list[list[Any]]
    caption: str = ""
    kind: str = "table"

    @property
    def cells(self) -> list[list[Cell]]:
        return [[value if isinstance(value, Cell) else _cell(value) for value in row] for row in self.rows]


@dataclass(frozen=True)
class Facts:
    """Names and values: a table of two columns without headings."""

    rows: dict[str, str]
    caption: str = ""
    kind: str = "facts"


@dataclass(frozen=True)
class Figure:
    """A plot: `data` and `layout` as plotly.js takes them, with the caption below."""

    name: str  # unique in the page
    title: str
    data: list[dict[str, Any]]
    layout: dict[str, Any] = field(default_factory=dict)
    caption: str = ""
    kind: str = "figure"


@dataclass(frozen=True)
class Note:
    """A sentence; style "" or "warn"."""

    text: str
    style: str = ""
    kind: str = "note"


@dataclass(frozen=True)
class Code:
    """Text as it stands, folded away under its title."""

    title: str
    text: str
    kind: str = "code"


@dataclass(frozen=True)
class Scene:
    """One structure of a 3D view: symbols, positions (n, 3) Å, the cell (rows) or nothing, and per atom what is drawn besides.

    error: length of the force error, meV/Å; arrows: reference and predicted force (n, 3) each, eV/Å.
    """

    label: str
    symbols: list[str]
    positions: list[list[float]]
    cell: list[list[float]] | None = None
    error: list[float] | None = None
    arrows: dict[str, list[list[float]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Viewer:
    """Structures in 3D, one at a time: chosen from a list, or (`animated`) run through as a film."""

    name: str  # unique in the page
    title: str
    scenes: list[Scene]
    animated: bool = False
    caption: str = ""
    kind: str = "viewer"


@dataclass(frozen=True)
class Link:
    """A page beside this one; `href` is relative to the page."""

    text: str
    href: str
    detail: str = ""
    kind: str = "link"


Block = Table | Facts | Figure | Note | Code | Viewer | Link


@dataclass(frozen=True)
class Tile:
    """One figure of the summary at the top."""

    value: str
    unit: str
    label: str
    style: str = ""


@dataclass(frozen=True)
class Section:
    """A part of the page; neighbouring figures stand side by side where there is room."""

    name: str
    title: str
    blocks: list[Block]

    @property
    def groups(self) -> list[list[Block]]:
        """Neighbouring figures in one group, every other block alone."""
        grouped: list[list[Block]] = []
        for block in self.blocks:
            if block.kind == "figure" and grouped and grouped[-1][0].kind == "figure":
                grouped[-1].append(block)
            else:
                grouped.append([block])
        return grouped


def number(value: float | None, digits: int = 3) -> Cell:
    """A number with so many significant figures, sorted by its value; nothing for None."""
    if value is None or math.isnan(value):
        return Cell("", float("-inf"), "dim")
    return Cell(significant(value, digits), float(value))


def significant(value: float, digits: int = 3) -> str:
    """Significant figures without a power of ten where that is readable."""
    if value == 0:
        return "0"
    if not 1e-3 <= abs(value) < 1e6:
        return f"{value:.{digits - 1}e}"
    return f"{value:,.{max(0, digits - 1 - math.floor(math.log10(abs(value))))}f}"


def _cell(value: Any) -> Cell:
    if isinstance(value, float):
        return number(value)
    return Cell(f"{value:,}", value) if isinstance(value, int) else Cell(str(value))
