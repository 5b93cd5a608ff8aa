"""The section on physics checks."""

from typing import Any

import numpy as np

from equipot.analysis.report.blocks import Block, Cell, Note, Section, Table, number
from equipot.analysis.report.content import Content
from equipot.analysis.report.plots import dimers, lines

VERDICTS = {(True, "law"): ("holds", "good"), (True, "behaviour"): ("fine", "good"), (False, "law"): ("broken", "bad")}
MEANING = (
    "Laws hold for any weights: a broken one is a defect. Behaviours tell of the training data: a warning is where not to trust the model."
)


def checks(content: Content) -> Section | None:
    """The list of checks and what they saw."""
    if not content.checks:
        return None
    blocks: list[Block] = [Note(MEANING), Table(["", "check", "value", "limit", "what was seen"], [_row(r) for r in content.checks])]
    details = {r["name"]: r.get("details") or {} for r in content.checks}
    curves = next((d["curves"] for d in details.values() if d.get("curves")), None)
    if curves:
        blocks.append(dimers("dimers", curves, "Dots: the closest such pair in the training data; left of it the model guesses."))
    total = np.array(details.get("energy drift", {}).get("total_energy", ()), dtype=float)
    if len(total) > 2:
        series = [("total energy", np.array(details["energy drift"]["time_fs"]), 1000.0 * (total - total[0]))]
        blocks.append(lines("check-drift", "Total energy in the check's NVE run", series, "time, fs", "E − E(0), meV"))
    return Section("checks", "Physics checks", blocks)


def _row(result: dict[str, Any]) -> list[Any]:
    if result.get("skipped"):
        return [Cell("not measured"), Cell(result["name"], detail=result["title"]), "", "", result["message"]]
    word, style = VERDICTS.get((result["passed"], result["kind"]), ("warns", "warn"))
    value = number(result["value"], 2) if result["value"] is not None else Cell("none", float("inf"), "bad")
    limit = number(result["threshold"], 2)
    return [
        Cell(word, style=style),
        Cell(result["name"], detail=result["title"]),
        value,
        Cell(limit.text, limit.sort, detail=result["unit"]),
        result["message"],
    ]
