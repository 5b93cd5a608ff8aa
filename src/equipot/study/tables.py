"""Tables of a study: mean ± standard error over seeds, the best in bold where that can be said; as Markdown, CSV, LaTeX and for the report."""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

from equipot.analysis.report.blocks import Cell, Table, significant
from equipot.study.significance import Estimate

_TEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "_": r"\_",
    "#": r"\#",
    "$": r"\$",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
}
_TEX |= {"^": r"\textasciicircum{}", "±": r"$\pm$", "Å": r"{\AA}", "²": r"$^2$", "³": r"$^3$", "µ": r"$\mu$", "−": "-", "≤": r"$\le$"}


@dataclass(frozen=True)
class Entry:
    """A figure of a table: an estimate in the table's unit, and whether it is significantly the best of its column."""

    estimate: Estimate
    best: bool = False

    @property
    def text(self) -> str:
        return plus_minus(self.estimate.mean, self.estimate.error)


@dataclass(frozen=True)
class Sheet:
    """A table: cells are words, numbers, entries or None. `name` is the file's."""

    name: str
    title: str
    columns: list[str]
    rows: list[list[str | float | int | Entry | None]]
    note: str = ""
    method: str = ""  # how figures were made: said once in the page, and in every file

    @property
    def below(self) -> str:
        return " ".join(words for words in (self.note, self.method) if words)


def plus_minus(mean: float, error: float | None) -> str:
    """`12.3 ± 0.4`: the error with two significant figures, the mean with as many decimals; three figures of the mean where there is no error."""
    if not error or not math.isfinite(error):
        return significant(mean)
    decimals = max(0, 1 - math.floor(math.log10(error)))
    if decimals > 6 or abs(mean) >= 1e7:
        return f"{mean:.3g} ± {error:.1g}"
    return f"{mean:.{decimals}f} ± {error:.{decimals}f}"


def markdown(sheet: Sheet) -> str:
    """The table in Markdown, with its title and note."""

    def shown(cell) -> str:
        text = _text(cell).replace("|", "\\|")
        return f"**{text}**" if isinstance(cell, Entry) and cell.best else text

    numeric = _numeric(sheet)
    lines = [_row(c.replace("|", "\\|") for c in sheet.columns), _row("---:" if right else "---" for right in numeric)]
    lines += [_row(shown(cell) for cell in row) for row in sheet.rows]
    return f"**{sheet.title}**\n\n" + "\n".join(lines) + "\n" + (f"\n{sheet.below}\n" if sheet.below else "")


def comma_separated(sheet: Sheet) -> str:
    """The table as CSV with full figures: every entry as its mean, standard error, number of seeds and whether it is the best."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    wide = [any(isinstance(row[i], Entry) for row in sheet.rows) for i in range(len(sheet.columns))]
    parts = ("", " standard error", " seeds", " best")
    rows.writerow([c + p for c, w in zip(sheet.columns, wide, strict=True) for p in (parts if w else ("",))])
    for row in sheet.rows:
        cells = []
        for cell, w in zip(row, wide, strict=True):
            if isinstance(cell, Entry):
                e = cell.estimate
                cells += [f"{e.mean:.9g}", "" if e.error is None else f"{e.error:.4g}", e.n, int(cell.best)]
            else:
                cells += ["" if cell is None else cell, *([""] * 3 if w else [])]
        rows.writerow(cells)
    return text.getvalue()


def latex(sheet: Sheet) -> str:
    """The table for LaTeX with the package booktabs."""

    def shown(cell) -> str:
        text = _escaped(_text(cell))
        return rf"\textbf{{{text}}}" if isinstance(cell, Entry) and cell.best else text

    kinds = "".join("r" if right else "l" for right in _numeric(sheet))
    lines = [rf"\begin{{tabular}}{{{kinds}}}", r"\toprule", " & ".join(map(_escaped, sheet.columns)) + r" \\", r"\midrule"]
    lines += [" & ".join(shown(cell) for cell in row) + r" \\" for row in sheet.rows]
    return "\n".join([f"% {sheet.title}. {sheet.below}".replace("\n", " "), *lines, r"\bottomrule", r"\end{tabular}", ""])


def block(sheet: Sheet) -> Table:
    """The table for a report's page; the best figures stand out."""

    def shown(cell):
        if isinstance(cell, Entry):
            return Cell(cell.text, cell.estimate.mean, "good" if cell.best else "")
        return Cell("", float("-inf"), "dim") if cell is None else cell

    caption = f"{sheet.title}. {sheet.note}" if sheet.note else f"{sheet.title}."
    return Table(sheet.columns, [[shown(cell) for cell in row] for row in sheet.rows], caption)


FORMATS = {".md": markdown, ".csv": comma_separated, ".tex": latex}


def _text(cell: str | float | int | Entry | None) -> str:
    if cell is None:
        return ""
    if isinstance(cell, Entry):
        return cell.text
    if isinstance(cell, float):
        return significant(cell) if math.isfinite(cell) else ""
    return f"{cell:,}" if isinstance(cell, int) else cell


def _numeric(sheet: Sheet) -> Sequence[bool]:
    return [any(isinstance(row[i], Entry | float | int) for row in sheet.rows) for i in range(len(sheet.columns))]


def _row(cells) -> str:
    return "| " + " | ".join(cells) + " |"


def _escaped(text: str) -> str:
    return "".join(_TEX.get(c, c) for c in text)
