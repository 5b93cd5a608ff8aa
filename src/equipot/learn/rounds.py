"""The steps of one round, each skipped where its record is there: train, explore, select, label."""

import json
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from equipot.data.frame import Frame
from equipot.data.readers import read_frames
from equipot.data.writer import write_frames
from equipot.errors import UserError
from equipot.learn.config_file import Plan
from equipot.learn.explore import BLOWN_UP, UNSURE, candidates, explore
from equipot.learn.label import LABELLED, label_frames, tidy
from equipot.learn.select import select
from equipot.learn.sets import known_frames, round_training
from equipot.learn.state import once
from equipot.model import load_model
from equipot.train.callbacks import BEST, LAST
from equipot.train.config import RunConfig
from equipot.train.evaluation import evaluate_frames
from equipot.train.run import device_of, train

log = logging.getLogger("equipot.learn")
CANDIDATES, SELECTED = "candidates.extxyz", "selected.extxyz"


def train_round(plan: Plan, out: Path, number: int) -> dict[str, Any]:
    """The ensemble of a round in round-K/train, with its errors on the test sets."""
    config, folder = round_training(plan, out, number), out / f"round-{number}"
    return once(folder / "train.json", lambda: _train(config, number))


def _train(config: RunConfig, number: int) -> dict[str, Any]:
    n_known = len(known_frames(config))
    log.info("round %d: an ensemble of %d from %d labelled structures", number, config.train.ensemble, n_known)
    folder = Path(config.out)
    begun = any((member / name).is_file() for member in folder.glob("member-*") for name in (LAST, BEST))
    train(config, resume=begun, overwrite=not begun)
    evaluations = json.loads((folder / "evaluation.json").read_text()) if config.data.test else {}
    errors = {name: {k: v for k, v in e.items() if isinstance(v, int | float)} for name, e in evaluations.items()}
    return {"n_known": n_known, "errors": errors}


def explore_round(plan: Plan, out: Path, number: int, starts: Sequence[Frame]) -> dict[str, Any]:
    """round-K/candidates.extxyz: samples above the threshold (with select.strategy random, all), each with its spread."""
    folder = out / f"round-{number}"
    return once(folder / "explore.json", lambda: _explore(plan, folder, number, starts))


def _explore(plan: Plan, folder: Path, number: int, starts: Sequence[Frame]) -> dict[str, Any]:
    options = plan.config.explore
    device = device_of(plan.training)
    walks = explore(folder / "train" / BEST, starts, options, [plan.config.seed, number], device, folder / "walkers")
    threshold = -1.0 if plan.config.select.strategy == "random" else options.threshold.forces_std
    found = candidates(walks, threshold, number)
    if found:
        write_frames(found, folder / CANDIDATES, overwrite=True)
    spreads = [sample["forces_std"] for one in walks for sample in one.samples]
    return {
        "threshold": options.threshold.forces_std,
        "n_samples": len(spreads),
        "n_above": sum(s > options.threshold.forces_std for s in spreads),
        "n_candidates": len(found),
        "n_unsure": sum(one.ended == UNSURE for one in walks),
        "n_blown_up": sum(one.ended == BLOWN_UP for one in walks),
        "steps": sum(one.steps for one in walks),
        "mean_spread": sum(spreads) / len(spreads) if spreads else None,
        "largest_spread": max(one.largest for one in walks),
    }


def select_round(plan: Plan, out: Path, number: int, left: int | None) -> dict[str, Any]:
    """round-K/selected.extxyz: at most select.max of the candidates and `left` of the budget, without near-duplicates."""
    folder = out / f"round-{number}"
    found = once(folder / "select.json", lambda: _select(plan, out, number, left))
    shutil.rmtree(folder / "walkers", ignore_errors=True)  # what they found is in candidates.extxyz
    return found


def _select(plan: Plan, out: Path, number: int, left: int | None) -> dict[str, Any]:
    folder, options = out / f"round-{number}", plan.config.select
    frames = read_frames(folder / CANDIDATES) if (folder / CANDIDATES).is_file() else []
    known = known_frames(round_training(plan, out, number))
    most = options.max if left is None else min(options.max, left)
    chosen = select(frames, known, options, most, [plan.config.seed, number, 1])
    if chosen.taken:
        write_frames([frames[i] for i in chosen.taken], folder / SELECTED, overwrite=True)
    finite = [d for d in chosen.distances if d != float("inf")]
    return {"n_selected": len(chosen.taken), "n_duplicates": chosen.n_duplicates, "least_distance": min(finite) if finite else None}


def label_round(plan: Plan, out: Path, number: int) -> dict[str, Any]:
    """round-K/labelled.extxyz and, where some failed, failed.extxyz; and the errors that the ensemble has made on what was labelled."""
    folder = out / f"round-{number}"
    found = once(folder / "label.json", lambda: _label(plan, folder))
    tidy(folder)
    return found


def _label(plan: Plan, folder: Path) -> dict[str, Any]:
    found = label_frames(read_frames(folder / SELECTED), folder, plan.config.label, "structures")
    labelled = read_frames(folder / LABELLED)
    measures = evaluate_frames(load_model(folder / "train" / BEST, device=device_of(plan.training)), labelled).measures
    return found | {"errors": {k: v for k, v in measures.items() if isinstance(v, int | float)}}


def forget_nothing(out: Path, number: int) -> None:
    """Let a round that has selected nothing explore again, as settings that were changed meanwhile say."""
    folder = out / f"round-{number}"
    if (folder / "select.json").is_file() and not json.loads((folder / "select.json").read_text())["n_selected"]:
        for name in ("select.json", "explore.json", CANDIDATES):
            (folder / name).unlink(missing_ok=True)


def why_nothing(plan: Plan, record: dict[str, Any]) -> str:
    """Why a round has selected nothing, and what could be done."""
    explored, selected = record["explore"], record["select"]
    if not explored["n_samples"]:
        return (
            f"all {plan.config.explore.walkers} trajectories ended before their first sample: shorten explore.interval, raise explore.stop, "
            "or label more structures like the first ones"
        )
    if not explored["n_candidates"]:
        return (
            f"none of {explored['n_samples']} samples has a spread above {plan.config.explore.threshold.forces_std:g} eV/Å (the largest is "
            f"{explored['largest_spread']:.3g}): the ensemble is sure of all it has met; lower the threshold, or explore longer or hotter"
        )
    return (
        f"all {selected['n_duplicates']} candidates are within {plan.config.select.min_distance:g} Å of labelled structures: explore longer or "
        "hotter, or lower select.min_distance"
    )


def require_ensemble(plan: Plan) -> None:
    """Raises UserError where the spread of forces cannot be known."""
    if plan.training.train.uncertainty:
        raise UserError("train.train.uncertainty is of one model, and the learning trains ensembles: leave it out")
