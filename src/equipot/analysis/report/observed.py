"""The section on observables: what `equipot observe` wrote to folders of results."""

import re
from pathlib import Path
from typing import Any

from equipot.analysis.report.blocks import Block, Facts, Figure, Note, Section, Table, number
from equipot.analysis.report.content import Content

JSON = "observables.json"


def find(folder: Path) -> list[Path]:
    """Folders of results in a folder, itself included."""
    return sorted(file.parent for file in folder.rglob(JSON) if file.is_file())


def observables(content: Content) -> Section | None:
    """Facts, values, overlaps with the reference, and every curve, of each folder of results."""
    blocks: list[Block] = []
    for index, found in enumerate(content.observables):
        blocks += _one(index, found)
    return Section("observables", "Observables", blocks) if blocks else None


def _one(index: int, found: dict[str, Any]) -> list[Block]:
    blocks: list[Block] = [Facts({"of": found["title"]} | found["facts"])]
    blocks += [
        Table(t["columns"], [[_cell(v, c) for v, c in zip(row, t["columns"], strict=True)] for row in t["rows"]], t["title"])
        for t in found["tables"]
    ]
    blocks += [Figure(_name(index, f["name"]), f["title"], f["data"], f["layout"], f["caption"]) for f in found["figures"]]
    captions = {f["caption"] for f in found["figures"]}
    blocks += [Note(words, "warn") for words in dict.fromkeys(found["notes"]) if words not in captions]
    return blocks + [Note(f"No {name}: {reason}", "warn") for name, reason in found["missing"].items()]


def _name(index: int, name: str) -> str:
    return f"observed-{index}-" + re.sub(r"[^\w.-]+", "_", name)


def _cell(value: Any, column: str) -> Any:
    """Errors with two figures, other numbers with five."""
    return number(value, 2 if "error" in column else 5) if value is None or isinstance(value, float) else value
