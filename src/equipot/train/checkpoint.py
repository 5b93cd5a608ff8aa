"""last.ckpt: everything an exact continuation needs, as tensors and plain data; nothing in it is executed when it is opened."""

import hashlib
import io
import logging
import pickle
from pathlib import Path
from typing import Any

import torch

from equipot import __version__
from equipot.errors import UserError
from equipot.model.file import write_whole
from equipot.train.module import TrainingModule
from equipot.train.setup import Prepared

log = logging.getLogger("equipot.train")
SCHEMA = 1


def fingerprint(prepared: Prepared, module: TrainingModule) -> dict[str, Any]:
    """What must be the same for a run to be continued: the model, the frames and their order; also the batch size, which alone may change."""
    train = module.config.train
    return {
        "data": {name: prepared.hashes[name] for name in _training_files(module)},
        "split": len(prepared.train),
        "choice of training frames": _digest([f.source for f in prepared.train.frames]),
        "seed": train.seed,
        "member": train.member,
        "spec": prepared.spec.to_dict(),
        "dtype": train.dtype,
        "batch_size": train.batch_size,
        "optimizer": train.optimizer,
        "averaged": train.ema is not None,
    }


def _digest(names: list[str]) -> str:
    return hashlib.sha256("\n".join(names).encode()).hexdigest()


def _training_files(module: TrainingModule) -> list[str]:
    files = module.config.data.train
    return [files] if isinstance(files, str) else list(files)


def save_checkpoint(path: Path, module: TrainingModule, mark: dict[str, Any]) -> None:
    """Write the state whole or not at all."""
    buffer = io.BytesIO()
    torch.save({"schema": SCHEMA, "equipot": __version__, "fingerprint": mark, **module.training_state()}, buffer)
    write_whole(path, buffer.getvalue())


def _same_place(position: int, before: int, now: int, n: int) -> int:
    """The number of batches after which as many of n frames, or fewer than a batch less, have been seen as after `position` of the former size."""
    seen = position * before
    return -(-n // now) if seen >= n else seen // now


def load_checkpoint(path: Path, module: TrainingModule, mark: dict[str, Any]) -> None:
    """Restore the state. Raises UserError if it is missing, damaged or of another run.

    With another batch size the order of the frames stays, and the epoch goes on where it was; at most one batch of frames comes a second time.
    """
    if not path.is_file():
        raise UserError(f"{path}: nothing to resume: leave --resume out to start this run")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        schema = state["schema"]
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, TypeError, pickle.UnpicklingError):
        raise UserError(f"{path}: damaged, or not a checkpoint of equipot: remove it and start anew") from None
    if schema != SCHEMA:
        raise UserError(f"{path}: its schema is {schema}, this version reads {SCHEMA}: resume it with equipot {state['equipot']}")
    for key, value in mark.items():
        before = state["fingerprint"].get(key, value)  # an older one says less
        if before != value and key == "batch_size":
            log.info("train.batch_size was %d and is %d from here on", before, value)
            state["position"] = _same_place(state["position"], before, value, mark["split"])
        elif before != value:
            raise UserError(
                f"{path}: the interrupted run had another {key}: resume with the configuration in its folder, or choose another out"
            )
    module.load_training_state(state)
