"""What has become of the runs of a study: status.json in each run's folder, its lock, and what may not be mixed."""

import fcntl
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from equipot import __version__
from equipot.errors import UserError
from equipot.study.plan import Plan, Run, run_folder
from equipot.whole_file import write_whole

STATUS, LOCK, PEEKS = "status.json", ".lock", 20
DONE, FAILED, INTERRUPTED, RUNNING, MISSING = "done", "failed", "interrupted", "running", "missing"


class Busy(Exception):
    """Another process is at this run."""


def read_status(folder: Path) -> dict[str, Any]:
    """What the last attempt at a run wrote; empty where there was none."""
    try:
        content = json.loads((folder / STATUS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def write_status(folder: Path, status: dict[str, Any]) -> None:
    """Whole or not at all."""
    write_whole(folder / STATUS, json.dumps(status, indent=1).encode())


@contextmanager
def locked(folder: Path, patient: bool = True) -> Iterator[None]:
    """The run for this process alone; the lock goes with the process, however it ends. Raises Busy, if patient not for one who only looks."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / LOCK, "w") as file:
        for attempt in range(PEEKS):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not patient or attempt == PEEKS - 1:
                    raise Busy(f"{folder}: another process is at this run") from None
                time.sleep(0.05)
        yield


def is_locked(folder: Path) -> bool:
    """Whether a process is at this run."""
    if not (folder / LOCK).exists():
        return False
    try:
        with locked(folder, patient=False):
            return False
    except Busy:
        return True


def state(out: Path, plan: Plan, run: Run) -> str:
    """done, failed, running, interrupted or missing. What is done lacks no evaluation set and no probe of the plan."""
    folder = run_folder(out, run)
    status = read_status(folder)
    if not status:
        return MISSING
    if is_locked(folder):
        return RUNNING
    found = str(status.get("status"))
    if found == DONE and (missing_sets(plan, status) or missing_probes(plan, status)):
        return INTERRUPTED
    return INTERRUPTED if found == RUNNING else found


def missing_sets(plan: Plan, status: dict[str, Any]) -> list[str]:
    """Evaluation sets of the plan that were not measured, or as something else."""
    found = status.get("sets", {})
    return [name for name, s in plan.evaluate.items() if found.get(name, {}).get("file") != s["file"]]


def missing_probes(plan: Plan, status: dict[str, Any]) -> list[str]:
    """Probes of the plan that were not made, were made of another definition, or failed."""
    found = status.get("probes", {})
    return [name for name, p in plan.probes.items() if found.get(name, {}).get("definition") != p or found[name].get("failed")]


def begun(out: Path, plan: Plan) -> list[Run]:
    """Runs of a plan that have left something."""
    return [run for run in plan.runs if read_status(run_folder(out, run))]


def refuse_mixture(out: Path, old: Plan, new: Plan) -> None:
    """Raises UserError where runs of `new` would stand beside runs of another version, base, configuration or data, with the difference."""
    there = begun(out, old)
    if not there:
        return
    remedy = "take another out, or undo the change"
    if old.equipot != __version__:
        raise UserError(f"{out}: was begun with equipot {old.equipot}, this is {__version__}: go on with that version, or take another out")
    if changes := differences(old.base, new.base):
        raise UserError(f"{out}: was begun from another base: {listed(changes)}: {remedy}")
    planned = {run.name: run for run in new.runs}
    for run in there:
        if run.name in planned and (changes := differences(run.config, planned[run.name].config)):
            raise UserError(f"{out}: {run.name} was begun with another configuration: {listed(changes)}: {remedy}")
    for file, digest in old.data.items():
        if new.data.get(file, digest) != digest:
            raise UserError(f"{out}: {file} has changed since the study was begun: take another out, or put the file back")


def differences(old: Any, new: Any, path: tuple[str, ...] = ()) -> list[str]:
    """ "key: old -> new" for every value that is not the same."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [*old, *(k for k in new if k not in old)]
        return [line for k in keys for line in differences(old.get(k, "nothing"), new.get(k, "nothing"), (*path, str(k)))]
    return [] if old == new else [f"{'.'.join(path)}: {_short(old)} -> {_short(new)}"]


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def listed(changes: list[str], most: int = 4) -> str:
    """The first changes in one line, and how many more there are."""
    more = len(changes) - most
    return "; ".join(changes[:most]) + (f"; and {more} more" if more > 0 else "")
