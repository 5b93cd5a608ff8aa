"""A study as runs: every variant with every size and every seed, and the file that keeps them, plan.json."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from equipot import __version__
from equipot.errors import UserError
from equipot.study.spec import BudgetSpec
from equipot.study.study_file import Study
from equipot.train.config import RunConfig
from equipot.train.config_file import Source, checked_config
from equipot.whole_file import write_whole

PLAN = "plan.json"
RUNS = "runs"
SCHEMA = 1
UNBOUNDED_EPOCHS = 1_000_000  # where time bounds a run


@dataclass(frozen=True)
class Run:
    """One training run of a study. `config` is the raw configuration without name, folder, threads and test sets."""

    name: str
    variant: str
    size: int
    seed: int
    config: dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """All runs of a study and what is measured of them."""

    name: str
    base: dict[str, Any]
    runs: list[Run]
    evaluate: dict[str, dict[str, Any]] = field(default_factory=dict)  # name -> file, kind, labels
    probes: dict[str, Any] = field(default_factory=dict)
    executor: dict[str, Any] = field(default_factory=dict)
    data: dict[str, str] = field(default_factory=dict)  # sha256 of every file
    equipot: str = __version__

    def run(self, name: str) -> Run:
        """The run of a name, or of a number counted from 0. Raises UserError if there is none."""
        if name.isdigit() and int(name) < len(self.runs):
            return self.runs[int(name)]
        for run in self.runs:
            if run.name == name:
                return run
        raise UserError(f"{name}: no run of this study; it has {len(self.runs)}, such as {self.runs[0].name}: `--list` shows them")

    def write(self, out: Path) -> None:
        """plan.json in the folder of the study."""
        write_whole(out / PLAN, json.dumps({"schema": SCHEMA, **asdict(self)}, indent=1).encode())


def read_plan(out: Path) -> Plan | None:
    """The plan in the folder of a study, None where there is none. Raises UserError for what is not one."""
    if not (out / PLAN).is_file():
        return None
    try:
        content = json.loads((out / PLAN).read_text(encoding="utf-8"))
        schema = content.pop("schema")
        if schema == SCHEMA:
            content["runs"] = [Run(**run) for run in content["runs"]]
            return Plan(**content)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{out / PLAN}: damaged, or not the plan of a study: take another out") from None
    raise UserError(f"{out / PLAN}: its schema is {schema}, this version reads {SCHEMA}: go on with equipot {content.get('equipot')}")


@dataclass(frozen=True)
class Variant:
    """A variant whose configuration and data have been checked; `available` structures can be trained on."""

    raw: dict[str, Any]
    config: RunConfig
    available: int


def expand(study: Study, variants: Mapping[str, Variant], sets: dict[str, dict[str, Any]], data: dict[str, str]) -> Plan:
    """The plan of a study. Raises UserError where two runs would have the same name."""
    spec = study.spec
    runs = []
    for name, variant in variants.items():
        for size in spec.sizes or [variant.available]:
            for seed in spec.seeds:
                runs.append(Run(f"{name}-n{size}-s{seed}", name, size, seed, _run_config(variant, size, seed, spec.budget)))
    repeated = [name for name, n in Counter(run.name for run in runs).items() if n > 1]
    if repeated:
        raise UserError(f"{study.source.file}: two runs are called {repeated[0]}: no size and no seed may be listed twice")
    base = {k: v for k, v in spec.base.items() if k not in ("name", "out")}
    return Plan(spec.name, base, runs, sets, dict(spec.probes), spec.executor.model_dump(mode="json"), data)


def _run_config(variant: Variant, size: int, seed: int, budget: BudgetSpec | None) -> dict[str, Any]:
    raw = variant.raw
    train = {**(raw.get("train") or {}), "seed": seed}
    if budget is not None and budget.max_updates is not None:
        epochs = -(-budget.max_updates // -(-size // variant.config.train.batch_size))
        train |= {"max_updates": budget.max_updates, "max_time": None, "max_epochs": epochs}
        if budget.validations is not None:
            train["validate_every"] = max(1, epochs // budget.validations)
    elif budget is not None:
        train |= {"max_time": budget.max_time, "max_updates": None, "max_epochs": UNBOUNDED_EPOCHS}
    return raw | {"data": {**raw["data"], "n_train": size}, "train": train}


def run_folder(out: Path, run: Run) -> Path:
    """Where a run of the study in `out` lives."""
    return out / RUNS / run.name


def run_config(out: Path, plan: Plan, run: Run) -> RunConfig:
    """The whole configuration of a run: an ordinary one, with the evaluation sets as its tests."""
    raw = dict(run.config)
    raw |= {"name": run.name, "out": str(run_folder(out, run))}
    raw["data"] = raw["data"] | ({"test": {name: s["file"] for name, s in plan.evaluate.items()}} if plan.evaluate else {})
    raw["train"] = raw["train"] | {"threads": plan.executor.get("threads", 1)}
    return checked_config(Source(raw, run.name))
