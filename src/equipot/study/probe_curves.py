"""The curves that probes left in the folders of the runs, averaged over seeds."""

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from equipot.study.measured import Measured


@dataclass(frozen=True)
class ProbeCurve:
    """One curve of a variant: coordinate (n,), energies (n,) eV above the curve's zero, averaged over `n_seeds` seeds."""

    variant: str
    curve: str
    axis: str
    x: np.ndarray
    predicted: np.ndarray
    reference: np.ndarray | None
    n_seeds: int


def read_curves(out: Path, measured: Measured, name: str, size: int) -> list[ProbeCurve]:
    """The curves of a probe at one size, a mean over seeds where they have the same coordinates; what is not there is left out."""
    members = {r.run: r.variant for r in measured.rows if r.size == size}
    tables: dict[tuple[str, str], list[ProbeCurve]] = {}
    for run, variant in members.items():
        for file in _files(out / "runs" / run, name):
            for found in _read(file, variant):
                tables.setdefault((variant, found.curve), []).append(found)
    return [_mean(same) for same in tables.values()]


def _files(folder: Path, name: str) -> list[Path]:
    return [f for f in (folder / "probes" / name / f"probe-{name}.csv", folder / f"probe-{name}.csv") if f.is_file()][:1]


def _read(file: Path, variant: str) -> Iterable[ProbeCurve]:
    with file.open(encoding="utf-8", newline="") as text:
        rows = list(csv.DictReader(text))
    for curve in dict.fromkeys(row.get("curve") or "all" for row in rows):
        mine = [row for row in rows if (row.get("curve") or "all") == curve]
        zero = float(mine[0].get("zero") or 0.0)
        x, predicted = (np.array([float(row[c]) for row in mine]) for c in ("coordinate", "prediction"))
        labelled = all(row.get("reference") for row in mine)
        reference = np.array([float(row["reference"]) for row in mine]) - zero if labelled else None
        yield ProbeCurve(variant, curve, mine[0].get("axis") or "coordinate", x, predicted - zero, reference, 1)


def _mean(same: list[ProbeCurve]) -> ProbeCurve:
    first = same[0]
    alike = [c for c in same if c.x.shape == first.x.shape and np.allclose(c.x, first.x)]
    predicted = np.mean([c.predicted for c in alike], axis=0)
    return ProbeCurve(first.variant, first.curve, first.axis, first.x, predicted, first.reference, len(alike))
