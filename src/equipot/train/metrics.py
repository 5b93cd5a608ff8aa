"""metrics.csv: a row per epoch, errors in meV, meV/Å and meV/Å³."""

import csv
import io
import math
from pathlib import Path

from equipot.model.file import write_whole

_HEAD = ("epoch", "updates", "elapsed_s", "step_ms", "learning_rate", "train_loss", "valid_loss")
_UNITS = {"energy_per_atom": "meV", "forces": "meV_A", "stress": "meV_A3"}
_ERRORS = {f"{part}_{q}_{kind}": unit for part in ("train", "valid") for q, unit in _UNITS.items() for kind in ("mae", "rmse")}
COLUMNS = (*_HEAD, *(f"{name}_{unit}" for name, unit in _ERRORS.items()))


class MetricsFile:
    """The file, to which rows are added at the end."""

    def __init__(self, path: Path, updates: int = 0, extra: tuple[str, ...] = ()):
        """Start anew, or, with `updates` above 0, keep the rows up to there: those after the last checkpoint are computed again.

        `extra`: columns behind the usual ones.
        """
        self.path, self.extra = path, extra
        kept = [row for row in _rows(path) if int(row["updates"]) <= updates] if updates and path.is_file() else []
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, (*COLUMNS, *extra), extrasaction="ignore", restval="")
        writer.writeheader()
        writer.writerows(kept)
        write_whole(path, buffer.getvalue().encode())

    def add(self, row: dict[str, float]) -> None:
        """One epoch; `row` as the module gives it, in eV and Å."""
        shown = {name: _text(name, row[name]) for name in (*_HEAD, *self.extra) if name in row}
        shown |= {f"{name}_{unit}": f"{1000.0 * row[name]:.6g}" for name, unit in _ERRORS.items() if name in row}
        with open(self.path, "a", newline="") as file:
            csv.DictWriter(file, (*COLUMNS, *self.extra), restval="").writerow(shown)


def _text(name: str, value: float) -> str:
    if name in ("epoch", "updates"):
        return str(int(value))
    return "" if math.isnan(value) else f"{value:.6g}"


def _rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return [row for row in csv.DictReader(file) if (row.get("updates") or "").isdigit() and None not in row.values()]
