"""Labels for structures: one small file each while they come, then one file of those that succeeded and one of those that failed."""

import hashlib
import json
import logging
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from equipot.data.frame import Frame
from equipot.data.labels import as_stress
from equipot.data.writer import write_frames
from equipot.errors import UserError
from equipot.learn.config import LabelConfig
from equipot.learn.label_pool import label_all
from equipot.whole_file import write_whole

log = logging.getLogger("equipot.learn")
LABELLED, FAILED = "labelled.extxyz", "failed.extxyz"


def label_frames(frames: Sequence[Frame], folder: Path, options: LabelConfig, what: str, try_again: bool = False) -> dict[str, Any]:
    """Label the frames into `folder`: labelled.extxyz, and failed.extxyz with the reason of each; returns how many of each there are.

    Labels that are already in the folder, of the same structure by the same calculator, are kept: a call that was killed goes on. So are
    failures, unless they are to be tried again. Raises UserError where all fail, naming the first reason, and where the calculator cannot be made.
    """
    pieces = folder / "labels"
    pieces.mkdir(parents=True, exist_ok=True)
    marks = [_mark(frame, options) for frame in frames]
    found = {i: answer for i, mark in enumerate(marks) if (answer := _kept(pieces / f"{i:05d}.json", mark)) is not None}
    if try_again:
        found = {i: answer for i, answer in found.items() if "failed" not in answer}
    missing = [(i, _structure(frame)) for i, frame in enumerate(frames) if i not in found]
    log.info("labelling %d %s with %s%s", len(frames), what, options.calculator, f", {len(found)} are done" if found else "")
    for i, answer in label_all(missing, options, folder / "scratch"):
        found[i] = answer
        write_whole(pieces / f"{i:05d}.json", json.dumps({"structure": marks[i], **answer}).encode())
        if "failed" in answer:
            log.warning("%s %d could not be labelled: %s", what, i, answer["failed"])
    good = [_labelled(frames[i], found[i]) for i in sorted(found) if "failed" not in found[i]]
    bad = [replace(frames[i], info=frames[i].info | {"reason": _plain(found[i]["failed"])}) for i in sorted(found) if "failed" in found[i]]
    if bad:
        write_frames(bad, folder / FAILED, overwrite=True)
    else:
        (folder / FAILED).unlink(missing_ok=True)
    if not good and bad:
        shutil.rmtree(pieces)  # all to be tried again
        raise UserError(
            f"{folder}: none of the {len(bad)} {what} could be labelled, the first because: {bad[0].info['reason']}: mend that, and go on by "
            "--resume"
        )
    write_frames(good, folder / LABELLED, overwrite=True)
    return {"n_labelled": len(good), "n_failed": len(bad)}


def tidy(folder: Path) -> None:
    """Remove the small files of labels that are in the large one."""
    for name in ("labels", "scratch"):
        shutil.rmtree(folder / name, ignore_errors=True)


def _structure(frame: Frame) -> dict[str, Any]:
    """The arguments of `ase.Atoms`."""
    return {name: getattr(frame, name).tolist() for name in ("numbers", "positions", "cell", "pbc")}


def _plain(text: str) -> str:
    """Without what the comment line of extended xyz gives a meaning to."""
    return text.replace('"', "'").replace("\\", "/")


def _mark(frame: Frame, options: LabelConfig) -> str:
    said = [_structure(frame), options.calculator, options.arguments]
    return hashlib.sha256(json.dumps(said, sort_keys=True, default=str).encode()).hexdigest()


def _kept(file: Path, mark: str) -> dict[str, Any] | None:
    try:
        answer = json.loads(file.read_text())
    except (OSError, ValueError):
        return None
    return answer if answer.pop("structure", None) == mark else None


def _labelled(frame: Frame, answer: dict[str, Any]) -> Frame:
    stress = as_stress(answer["stress"], frame.source) if "stress" in answer else None
    return replace(frame, energy=answer["energy"], forces=np.array(answer["forces"]), stress=stress)
