"""What a worker does: one ordinary training run in its own folder, begun or gone on with, then its evaluations, probes and costs."""

import json
import logging
import os
import socket
import time
from pathlib import Path
from typing import Any

from equipot.errors import UserError
from equipot.study.plan import Plan, Run, read_plan, run_config, run_folder
from equipot.study.state import (
    DONE,
    FAILED,
    INTERRUPTED,
    RUNNING,
    locked,
    missing_probes,
    missing_sets,
    read_status,
    write_status,
)

log = logging.getLogger("equipot.study")


def run_one(out: Path, name: str) -> dict[str, Any]:
    """Do what a run of the study in `out` still lacks; returns its status, which is also in its folder.

    Raises Busy, and UserError where the folder holds no such run. A mistake or a failure of the program is the status `failed` with its
    reason; a request to stop is `interrupted`.
    """
    plan = read_plan(out)
    if plan is None:
        raise UserError(f"{out}: holds no plan of a study: start it with `equipot study`")
    run = plan.run(name)
    folder = run_folder(out, run)
    with locked(folder):
        status = read_status(folder)
        status |= {"status": RUNNING, "reason": "", "pid": os.getpid(), "host": socket.gethostname(), "started": time.time()}
        status["attempts"] = status.get("attempts", 0) + 1
        write_status(folder, status)
        try:
            _work(out, plan, run, status)
            status["status"] = DONE
        except KeyboardInterrupt:
            status |= {"status": INTERRUPTED, "reason": "stopped"}
        except Exception as error:
            status |= {"status": FAILED, "reason": in_one_line(error)}
            if not isinstance(error, UserError):
                log.exception("%s failed", run.name)
        status["seconds"] = status.get("seconds", 0.0) + time.time() - status["started"]
        write_status(folder, status)
    return status


def in_one_line(error: BaseException) -> str:
    """What went wrong, with the kind of error where it is not a user's mistake."""
    text = " ".join(str(error).split()) or "no message"
    return text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"[:400]


def _work(out: Path, plan: Plan, run: Run, status: dict[str, Any]) -> None:
    folder, config = run_folder(out, run), run_config(out, plan, run)
    if not status.get("trained"):
        _train(config, folder)
        status["trained"] = True
        status["sets"] = _evaluated(plan, folder)
        write_status(folder, status)
    from equipot.data.labels import Keys
    from equipot.data.readers import read_frames
    from equipot.data.units import Units
    from equipot.model import load_model
    from equipot.study.cost import inference_time, n_parameters, training_cost
    from equipot.train.callbacks import BEST
    from equipot.train.evaluation import evaluate_frames
    from equipot.train.run import device_of
    from equipot.train.setup import make_potential

    potential = load_model(folder / BEST, device=device_of(config))
    how = Keys(**config.data.keys.model_dump()), Units(**config.data.units.model_dump())
    for name in missing_sets(plan, status):
        file = config.data.test_sets()[name]
        measures = evaluate_frames(potential, read_frames(file, *how)).measures
        status["sets"][name] = {"file": plan.evaluate[name]["file"], "measures": measures}
        write_status(folder, status)
    if "cost" not in status:
        first = next(iter(config.data.test_sets().values()), config.data.train)
        cost = {"parameters": n_parameters(make_potential(potential.spec, config)), **training_cost(folder, config)}
        status["cost"] = cost | {"inference_us_per_atom": inference_time(potential, read_frames(first, *how))}
        write_status(folder, status)
    for name in missing_probes(plan, status):
        status.setdefault("probes", {})[name] = {"definition": plan.probes[name], **_probe(name, plan.probes[name], folder)}
        write_status(folder, status)


def _train(config: Any, folder: Path) -> None:
    """Train, or go on from last.ckpt. Raises KeyboardInterrupt where the training was asked to stop."""
    from equipot.train.callbacks import LAST, Interrupted
    from equipot.train.run import train

    resume = (folder / LAST).is_file() and config.train.fit == "gradient"
    try:
        train(config, resume=resume, overwrite=not resume)
    except Interrupted:
        raise KeyboardInterrupt from None


def _evaluated(plan: Plan, folder: Path) -> dict[str, Any]:
    """The sets that the training has evaluated itself at its end."""
    try:
        content = json.loads((folder / "evaluation.json").read_text())
    except (OSError, ValueError):
        return {}
    measures = {name: {k: v for k, v in content[name].items() if isinstance(v, int | float)} for name in plan.evaluate if name in content}
    return {name: {"file": plan.evaluate[name]["file"], "measures": found} for name, found in measures.items()}


def _probe(name: str, given: Any, folder: Path) -> dict[str, Any]:
    """Measures of a probe as [value, unit], or why it failed: a probe that fails does not undo the run."""
    from equipot.study.probes import ProbeSpec, evaluate_probe
    from equipot.train.config_file import Source, expand_variables

    target = folder / "probes" / name
    target.mkdir(parents=True, exist_ok=True)
    try:
        given = expand_variables({"probes": given}, Source({}, "study.yaml"), ("probes",))["probes"]
        found = evaluate_probe(ProbeSpec.model_validate(given).model_copy(update={"name": name}), folder / "best.equipot", target)
    except Exception as error:
        log.exception("probe %s failed", name)
        return {"failed": in_one_line(error)}
    return {"measures": {measure: [float(value), unit] for measure, (value, unit) in found.items()}}
