"""What there is to report: read by `collect`, added to by `complete`, shown by the sections."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from equipot.data.frame import Frame
from equipot.model import Potential
from equipot.train.evaluation import Evaluation, compare

MODEL, METRICS, CONFIG, ERRORS, CHECKS, LOG = "best.equipot", "metrics.csv", "config.yaml", "evaluation.json", "check.json", "run.log"
XYZ = (".xyz", ".extxyz", ".xyz.gz", ".extxyz.gz")
LOG_SUFFIX = ".log.csv"
ROUNDS = "rounds.csv"


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
    """One molecular dynamics run: the columns of its log by name, and an even choice of its frames; either may be empty."""

    name: str
    log: dict[str, np.ndarray]
    frames: list[Atoms] = field(default_factory=list)

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
    members: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)  # metrics of an ensemble's members
    rounds: dict[str, np.ndarray] = field(default_factory=dict)  # of active learning
    observables: list[dict[str, Any]] = field(default_factory=list)  # summaries of what `equipot observe` wrote
    warnings: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)  # what is not in the page, and how to have it

    @property
    def provenance(self) -> dict[str, Any]:
        return self.header.get("provenance") or {}
