"""The section on active learning: what each round of `equipot learn` brought."""

import numpy as np

from equipot.analysis.report.blocks import Block, Cell, Section, Table, number
from equipot.analysis.report.content import Content
from equipot.analysis.report.plots import lines

QUANTITIES = {"forces_mae": ("force MAE", "meV/Å"), "energy_per_atom_mae": ("energy MAE", "meV per atom")}
COUNTS = {"n_candidates": "candidates", "n_blown_up": "blown up", "n_labelled": "labelled", "n_failed": "not labelled"}
OF_NEW = "new_"  # errors on what a round labelled, before it was learned from


def learning(content: Content) -> Section | None:
    """Errors against the number of labels, and a row for each round."""
    rounds = content.rounds
    if not rounds:
        return None
    labels, blocks = rounds["n_labels"], []
    columns = [c for c in rounds if c.endswith(tuple(QUANTITIES)) and np.isfinite(rounds[c]).any()]
    for quantity, (title, unit) in QUANTITIES.items():
        series = [(_set_name(c, quantity), labels, 1000.0 * rounds[c]) for c in columns if c.endswith(quantity)]
        if series:
            blocks.append(
                lines(f"rounds-{quantity.replace('_', '-')}", f"{title} by labels", series, "labelled structures", unit, log=True)
            )
    return Section("learning", "Active learning", [*blocks, _table(content, columns)])


def _table(content: Content, columns: list[str]) -> Block:
    rounds = content.rounds
    counts = {name: heading for name, heading in COUNTS.items() if name in rounds}
    headings = [f"{_set_name(c, q)}: {t} ({u})" for c in columns for q, (t, u) in QUANTITIES.items() if c.endswith(q)]
    rows = [
        [int(n), int(rounds["n_labels"][i]), *(number(1000.0 * rounds[c][i]) for c in columns), *(_count(rounds[c][i]) for c in counts)]
        for i, n in enumerate(rounds["round"])
    ]
    return Table(["round", "labels", *headings, *counts.values()], rows, "Counts are of what a round found for the next one.")


def _set_name(column: str, quantity: str) -> str:
    name = column.removesuffix(f"_{quantity}").removesuffix(quantity)
    return "newly labelled" if column.startswith(OF_NEW) else name


def _count(value: float) -> Cell:
    return Cell(f"{value:.0f}", float(value)) if np.isfinite(value) else number(None)
