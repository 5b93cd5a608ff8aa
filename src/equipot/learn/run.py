"""A whole active learning: sets, then rounds until the goal, the budget or their number is reached, or nothing new is found."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from equipot.errors import UserError
from equipot.learn import rounds as steps
from equipot.learn.config_file import FILE, Plan, dump_plan
from equipot.learn.label_pool import try_out
from equipot.learn.sets import Sets, read_sets, write_sets
from equipot.learn.state import once, read_state, require_same, write_state
from equipot.learn.table import PICTURE, draw, write_table
from equipot.whole_file import write_whole

log = logging.getLogger("equipot.learn")
SETS = "sets"


@dataclass(frozen=True)
class Outcome:
    """How a learning ended: status "done" or "stopped", why, and the record of every round."""

    out: Path
    status: str
    reason: str
    rounds: list[dict[str, Any]]


def learn(plan: Plan, resume: bool = False) -> Outcome:
    """Learn as the plan says, or go on where it stopped; at any time OUT/learn.json and OUT/rounds.csv tell how far it has come.

    Round K trains an ensemble on all labels there are and evaluates it (round-K/train), explores with it (candidates.extxyz), selects from what it
    is unsure of (selected.extxyz) and labels that (labelled.extxyz); `rounds` rounds and a last training. A step whose record is there is not done
    again. Raises UserError for mistakes, before anything is written where they can be seen before, and `train.callbacks.Interrupted`.
    """
    out = Path(plan.config.out)
    _free(out, plan, resume)
    steps.require_ensemble(plan)
    sets = read_sets(plan)
    if not (out / SETS / "sets.json").is_file():
        try_out(plan.config.label)
    once(out / SETS / "sets.json", lambda: write_sets(plan, sets, out / SETS))
    write_whole(out / FILE, dump_plan(plan).encode())
    found: list[dict[str, Any]] = []
    write_state(out, plan, "running", "", found)
    status, reason = _learn(plan, out, sets, found)
    _record(out, plan, found, status, reason)
    draw([out], out / PICTURE)
    log.info("%s: %s", status, reason)
    return Outcome(out, status, reason, found)


def _learn(plan: Plan, out: Path, sets: Sets, found: list[dict[str, Any]]) -> tuple[str, str]:
    """The rounds, appended to `found` step by step; returns status and reason of the end."""
    config = plan.config
    for number in range(config.rounds + 1):
        record: dict[str, Any] = {}
        found.append(record)

        def note(step: str, result: dict[str, Any], record: dict[str, Any] = record) -> dict[str, Any]:
            record[step] = result
            _record(out, plan, found)
            return result

        trained = note("train", steps.train_round(plan, out, number))
        if config.goal and (reached := _reached(plan, trained["errors"])):
            return "done", f"the goal is reached: {reached}"
        if number == config.rounds:
            return "done", f"all {config.rounds} rounds are done"
        used = sum(r["select"]["n_selected"] for r in found[:-1])
        left = None if config.budget is None else config.budget.labels - used
        if left is not None and left <= 0:
            return "done", f"the budget of {config.budget.labels} labels is used up"
        steps.forget_nothing(out, number)
        note("explore", steps.explore_round(plan, out, number, sets.starts))
        if not note("select", steps.select_round(plan, out, number, left))["n_selected"]:
            return "stopped", f"round {number}: {steps.why_nothing(plan, record)}"
        note("label", steps.label_round(plan, out, number))
    raise AssertionError("the last round returns")


def _reached(plan: Plan, errors: dict[str, dict[str, float]]) -> str:
    """The errors that are as small as the goal wants them; empty where one is not. Raises UserError where there is none to compare."""
    goal = plan.config.goal
    name = goal.on or next(iter(errors))
    said = []
    for measure, wanted in goal.wanted().items():
        if measure not in errors[name]:
            raise UserError(f"goal.{measure}: the set {name} has no such labels: set another goal")
        if errors[name][measure] > wanted:
            return ""
        said.append(f"{measure} {errors[name][measure]:.4g} on {name}, {wanted:g} was wanted")
    return "; ".join(said)


def _record(out: Path, plan: Plan, found: list[dict[str, Any]], status: str = "running", reason: str = "") -> None:
    write_state(out, plan, status, reason, found)
    write_table(out, found)


def _free(out: Path, plan: Plan, resume: bool) -> None:
    """Raises UserError where a learning would be overwritten, mixed with another, or there is none to go on with."""
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: is a file, and a learning needs a folder: set another out")
    old = read_state(out)
    if old is None:
        if resume and not (out / SETS).is_dir():
            raise UserError(f"{out}: there is no learning to resume: leave --resume out to start this one")
        return
    require_same(out, old, plan)
    if not resume:
        raise UserError(f"{out}: holds a learning already: go on with it by --resume, or set another out")
