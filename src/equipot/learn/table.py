"""What a learning has come to: rounds.csv, and its picture, error against number of labels."""

import csv
import io
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from equipot.analysis.palette import colour
from equipot.whole_file import write_whole

log = logging.getLogger("equipot.learn")
TABLE, PICTURE = "rounds.csv", "rounds.png"
SHOWN = ("energy_per_atom_mae", "energy_per_atom_rmse", "forces_mae", "forces_rmse", "forces_spread", "stress_mae")
_STEPS = {
    "explore": ("n_samples", "n_above", "n_candidates", "n_unsure", "n_blown_up", "steps", "mean_spread", "largest_spread"),
    "select": ("n_selected", "n_duplicates", "least_distance"),
    "label": ("n_labelled", "n_failed"),
}


def rows(rounds: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One flat row a round: labels, errors on each set (eV, eV/Å), what exploring, selecting and labelling found, and seconds."""
    found = []
    for number, record in enumerate(rounds):
        row: dict[str, Any] = {"round": number, "n_labels": record["train"]["n_known"]}
        for name, errors in record["train"]["errors"].items():
            row |= {f"{name}_{measure}": errors[measure] for measure in SHOWN if measure in errors}
        for step, keys in _STEPS.items():
            row |= {key: record[step].get(key) for key in keys if step in record}
        if "label" in record:
            row |= {f"new_{m}": record["label"]["errors"][m] for m in SHOWN if m in record["label"]["errors"]}
        row |= {f"{step}_seconds": record[step]["seconds"] for step in ("train", *_STEPS) if step in record}
        found.append(row)
    return found


def write_table(out: Path, rounds: Sequence[dict[str, Any]]) -> None:
    """rounds.csv, whole; what a round does not have is empty."""
    table = rows(rounds)
    keys = list(dict.fromkeys(key for row in table for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, keys, lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    write_whole(out / TABLE, text.getvalue().encode())


def read_table(folder: Path) -> list[dict[str, float]]:
    """The rows of a rounds.csv, numbers where there are some. Raises OSError where there is none."""
    with open(folder / TABLE, newline="") as file:
        return [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]


def distinct_names(folders: Sequence[Path]) -> dict[str, Path]:
    """Each folder once, by as much of the end of its path as tells it from the others."""
    paths = [Path(path) for path in dict.fromkeys(os.path.abspath(folder) for folder in folders)]
    for n in range(1, max(len(path.parts) for path in paths) + 1):
        found = {str(Path(*path.parts[-n:])): path for path in paths}
        if len(found) == len(paths):
            break
    return found


def draw(folders: Sequence[Path], picture: Path) -> bool:
    """Errors of the folders' learnings against their numbers of labels, a panel for forces and energies of each set; False without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        log.info('no picture: matplotlib is not installed: pip install "equipot[report]"')
        return False
    tables = {name: read_table(folder) for name, folder in distinct_names(folders).items()}
    columns = dict.fromkeys(
        key for table in tables.values() for row in table for key in row if key.endswith(("forces_mae", "energy_per_atom_mae"))
    )
    columns = [c for c in columns if not c.startswith("new_")]
    if not columns:
        return False
    figure = Figure(figsize=(3.4 * len(columns) + 0.6, 3.2), dpi=130, layout="constrained")
    for axes, column in zip(figure.subplots(1, len(columns), squeeze=False)[0], columns, strict=True):
        for i, (name, table) in enumerate(tables.items()):
            known = [row for row in table if column in row]
            x, y = [row["n_labels"] for row in known], [1000.0 * row[column] for row in known]
            axes.plot(x, y, "o-", color=colour(i), label=name, linewidth=1.5, markersize=4)
        forces = column.endswith("forces_mae")
        axes.set_title(column.removesuffix("_forces_mae").removesuffix("_energy_per_atom_mae"), fontsize=10)
        axes.set_xlabel("labelled structures", fontsize=9)
        axes.set_ylabel("force MAE, meV/Å" if forces else "energy MAE, meV/atom", fontsize=9)
        axes.set_ylim(bottom=0.0)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
        if len(tables) > 1:
            axes.legend(frameon=False, fontsize=8)
    content = io.BytesIO()
    figure.savefig(content, format="png")
    write_whole(picture, content.getvalue())
    return True
