"""The state of a learning on disk: learn.json, written whole, and steps that are done when their record is there."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from equipot import __version__
from equipot.errors import UserError
from equipot.learn.config_file import Plan
from equipot.train.setup import data_hashes
from equipot.whole_file import write_whole

STATE = "learn.json"
_MAY_CHANGE = {("rounds",), ("goal",), ("budget",), ("out",), ("explore",), ("select", "max"), ("select", "min_distance")}
_MAY_CHANGE |= {("label", key) for key in ("processes", "threads", "timeout", "modules")}
_MAY_CHANGE |= {("train", "name"), ("train", "out"), ("train", "train", "threads"), ("train", "train", "device")}


def once(file: Path, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The record of a step: from its file, or of the work, which is then done and recorded last of all, with the seconds it took."""
    if file.is_file():
        return json.loads(file.read_text())
    start = time.monotonic()
    found = work()
    found["seconds"] = round(time.monotonic() - start, 1)
    write_whole(file, json.dumps(found, indent=1).encode())
    return found


def described(plan: Plan) -> dict[str, Any]:
    """What must not change while a learning goes on: settings, and the files it starts from."""
    settings = plan.config.model_dump(mode="json")
    settings["train"] = plan.training.model_dump(mode="json")
    return {"equipot": __version__, "settings": settings, "data": data_hashes(plan.training.data)}


def write_state(out: Path, plan: Plan, status: str, reason: str, rounds: list[dict[str, Any]]) -> None:
    """learn.json: settings, hashes of the files, status (running, done or stopped), its reason, and the record of every round."""
    content = {**described(plan), "status": status, "reason": reason, "rounds": rounds}
    write_whole(out / STATE, json.dumps(content, indent=1).encode())


def read_state(out: Path) -> dict[str, Any] | None:
    """What learn.json holds; None where there is none. Raises UserError where it cannot be read."""
    if not (out / STATE).is_file():
        return None
    try:
        return dict(json.loads((out / STATE).read_text()))
    except ValueError:
        raise UserError(f"{out / STATE}: damaged: take another out") from None


def require_same(out: Path, old: dict[str, Any], plan: Plan) -> None:
    """Raises UserError where the folder was begun with other settings or other data."""
    new = described(plan)
    changes = [c for c in _changes(old.get("settings", {}), new["settings"]) if c[0] not in _MAY_CHANGE and c[0][:1] not in _MAY_CHANGE]
    if changes:
        path, before, now = changes[0]
        more = f" (and {len(changes) - 1} more)" if len(changes) > 1 else ""
        raise UserError(
            f"{out}: was begun with another configuration: {'.'.join(path)} was {before!r}, now {now!r}{more}: take another out, or undo the change"
        )
    for file, digest in old.get("data", {}).items():
        if new["data"].get(file, digest) != digest:
            raise UserError(f"{out}: {file} has changed since the learning was begun: take another out, or put the file back")


def _changes(old: Any, new: Any, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [*old, *(k for k in new if k not in old)]
        return [change for k in keys for change in _changes(old.get(k), new.get(k), (*path, k))]
    return [] if old == new else [(path, old, new)]
