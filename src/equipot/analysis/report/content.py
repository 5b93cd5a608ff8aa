"""What there is to report of a folder or file: read, and computed where asked, into one place."""

import csv
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from equipot.analysis.predictions import read_predictions
from equipot.data.frame import Frame
from equipot.errors import UserError
from equipot.model import Potential, load_model, read_header
from equipot.train.evaluation import Evaluation, compare

MODEL, METRICS, CONFIG, ERRORS, CHECKS, LOG = "best.equipot", "metrics.csv", "config.yaml", "evaluation.json", "check.json", "run.log"
XYZ = (".xyz", ".extxyz", ".xyz.gz", ".extxyz.gz")
LOG_SUFFIX = ".log.csv"


@dataclass(frozen=True)
class PredictedSet:
    """Frames of one set with a model's predictions; `n_all`: of so many frames they are an even choice."""

    name: str
    frames: list[Frame]
    predictions: list[dict[str, Any]]
    n_all: int

    @property
    def evaluation(self) -> Evaluation:
        return compare(self.frames, self.predictions)


@dataclass(frozen=True)
class Simulation:
    """The log of one molecular dynamics run: its columns by name."""

    name: str
    log: dict[str, np.ndarray]

    @property
    def drift(self) -> float:
        """Of the conserved energy, meV per atom: its mean over the second half less that over the first; NaN where nothing is conserved."""
        drift = self.log.get("drift_meV_per_atom", np.array([np.nan]))
        half = len(drift) // 2
        return float(drift[half:].mean() - drift[:half].mean()) if half else math.nan


@dataclass
class Content:
    """All that the sections of the page are made from; what is not there is empty."""

    title: str
    path: Path
    potential: Potential | None = None
    header: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    config_text: str = ""
    metrics: dict[str, np.ndarray] = field(default_factory=dict)
    errors: dict[str, dict[str, Any]] = field(default_factory=dict)  # as `evaluate --json`, by set
    sets: list[PredictedSet] = field(default_factory=list)
    checks: list[dict[str, Any]] = field(default_factory=list)
    simulations: list[Simulation] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)  # what is not in the page, and how to have it

    @property
    def provenance(self) -> dict[str, Any]:
        return self.header.get("provenance") or {}


def collect(path: Path) -> Content:
    """What is there at `path`: a run folder, a folder of simulations, an evaluation (.json), predictions (.xyz), a model or a log.

    Raises UserError where there is nothing to report.
    """
    content = Content(title=path.resolve().name, path=path)
    if path.is_dir():
        _collect_folder(path, content)
    elif not path.exists():
        raise UserError(f"{path}: no such folder or file; a report is made of a run's folder, an evaluation or a simulation")
    elif path.name.endswith(LOG_SUFFIX):
        content.simulations = [_simulation(path, path.parent)]
    elif path.suffix == ".json":
        _collect_json(path, content)
    elif path.name.endswith(XYZ):
        content.sets = _predicted_sets(path)
    elif path.suffix == ".equipot":
        _collect_model(path, content)
    else:
        raise UserError(f"{path}: not something to report on: give a run's folder, an evaluation.json, predictions (.xyz) or a model")
    return content


def _collect_folder(folder: Path, content: Content) -> None:
    if (folder / MODEL).is_file():
        _collect_model(folder / MODEL, content)
    if (folder / CONFIG).is_file():
        import yaml

        content.config_text = (folder / CONFIG).read_text(encoding="utf-8")
        content.config = yaml.safe_load(content.config_text) or {}
    if (folder / METRICS).is_file():
        content.metrics = _columns(folder / METRICS)
    for file in sorted(folder.glob("*.json")):
        if file.name != "split.json":
            _collect_json(file, content, strict=file.name in (ERRORS, CHECKS))
    for file in sorted(p for p in folder.glob("predictions*") if p.name.endswith(XYZ)):
        content.sets += _predicted_sets(file)
    for file in sorted(p for p in folder.rglob(f"*{LOG_SUFFIX}") if p.is_file()):
        content.simulations.append(_simulation(file, folder))
    for file in [folder / ERRORS, *folder.glob("predictions*")]:
        if file.is_file() and (folder / MODEL).is_file() and file.stat().st_mtime < (folder / MODEL).stat().st_mtime:
            content.missing.append(f"{file.name} is older than the model and may be of another one: evaluate again.")
    if (folder / LOG).is_file():
        content.warnings = _warnings(folder / LOG)
    if not (content.potential or content.metrics or content.errors or content.checks or content.simulations):
        raise UserError(f"{folder}: nothing to report: no {MODEL}, {METRICS}, {ERRORS}, {CHECKS} or simulation log (*{LOG_SUFFIX}) in it")


def _collect_model(file: Path, content: Content) -> None:
    content.header, content.potential = read_header(file), load_model(file)
    content.title = str(content.provenance.get("name") or content.title)


def _collect_json(file: Path, content: Content, strict: bool = True) -> None:
    """Errors of sets or results of checks; anything else is a mistake where `strict`, else left alone."""
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError):
        data = None
    if (
        isinstance(data, dict)
        and isinstance(data.get("results"), list)
        and all(isinstance(r, dict) and "passed" in r for r in data["results"])
    ):
        content.checks = data["results"]
    elif isinstance(data, dict) and data and all(isinstance(m, dict) and "n_structures" in m for m in data.values()):
        content.errors |= data
    elif strict:
        raise UserError(f"{file}: neither errors as `equipot evaluate --json` writes them nor results of `equipot check --json`")


def _predicted_sets(path: Path) -> list[PredictedSet]:
    sets = read_predictions(path)
    return [PredictedSet(name, frames, predictions, len(frames)) for name, (frames, predictions) in sets.items()]


def _simulation(file: Path, folder: Path) -> Simulation:
    name = str(file.relative_to(folder)).removesuffix(LOG_SUFFIX)
    return Simulation(name, _columns(file))


def _columns(file: Path) -> dict[str, np.ndarray]:
    """The columns of a CSV file of numbers, NaN where there is none; raises UserError for another file."""
    with open(file, newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    try:
        return {name: np.array([float(row[name]) if row[name] else np.nan for row in rows]) for name in (rows[0] if rows else {})}
    except (TypeError, ValueError):
        raise UserError(f"{file}: damaged: not a table of numbers") from None


def _warnings(file: Path) -> list[str]:
    """Warnings and errors in the run's log, without the time."""
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    found = [line.split(f" {level} ", 1)[1] for line in lines for level in ("WARNING", "ERROR") if f" {level} " in line]
    return list(dict.fromkeys(found))
