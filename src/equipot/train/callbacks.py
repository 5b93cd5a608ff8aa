"""What happens around the updates: the end of a run, its files, Ctrl-C."""

import json
import logging
import signal
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

from equipot.model.file import save_model
from equipot.train.checkpoint import save_checkpoint
from equipot.train.metrics import MetricsFile
from equipot.train.module import TrainingModule

log = logging.getLogger("equipot.train")
BEST, LAST, METRICS, BAD_BATCH = "best.equipot", "last.ckpt", "metrics.csv", "nan_batch.json"


class Interrupted(Exception):
    """The run was asked to stop and has saved its state."""


class Stop(pl.Callback):
    """Ends the run when its time, epochs or updates are over, or nothing has become better for `patience` validations."""

    def __init__(self, validate_every: int, patience: int | None):
        self.validate_every, self.patience, self.reason = validate_every, patience, ""

    def on_train_epoch_start(self, trainer: pl.Trainer, module: TrainingModule) -> None:
        due = (module.epoch + 1) % self.validate_every == 0
        trainer.check_val_every_n_epoch = 1 if due else 2**31

    def on_train_batch_end(self, trainer: pl.Trainer, module: TrainingModule, *_: Any) -> None:
        if module.progress.is_over(module.updates, module.clock.elapsed):
            trainer.should_stop, trainer.check_val_every_n_epoch = True, 1

    def on_train_epoch_end(self, trainer: pl.Trainer, module: TrainingModule) -> None:
        if self.patience is not None and module.waited >= self.patience:
            self.reason = f"no progress in {self.patience} validations"
            trainer.should_stop = True


class RunFiles(pl.Callback):
    """Closes each epoch and keeps metrics.csv, best.equipot and last.ckpt.

    The best weights are kept in memory and written with the checkpoint, at most every `checkpoint_seconds` and at the end, so that small models
    with short epochs do not spend their time writing files.
    """

    def __init__(self, folder: Path, provenance: dict[str, Any], mark: dict[str, Any], metrics: MetricsFile, seconds: float):
        self.folder, self.provenance, self.mark, self.metrics, self.seconds = folder, provenance, mark, metrics, seconds
        self.pending: tuple[dict[str, torch.Tensor], dict[str, float]] | None = None
        self.written = time.monotonic()

    def on_train_epoch_end(self, trainer: pl.Trainer, module: TrainingModule) -> None:
        row = module.finish_epoch()
        self.metrics.add(row)
        if module.improved() or trainer.limit_val_batches == 0:
            self.pending = (module.averaged_state(), row)
        if time.monotonic() - self.written >= self.seconds:
            self.write(module)

    def write(self, module: TrainingModule) -> None:
        """Bring the best model and the checkpoint up to date, in this order: a checkpoint never knows a better model than the file."""
        self.write_best(module)
        save_checkpoint(self.folder / LAST, module, self.mark)
        self.written = time.monotonic()

    def write_best(self, module: TrainingModule) -> None:
        """Bring the best model up to date."""
        if self.pending is None:
            return
        state, row = self.pending
        facts = {"epoch": row["epoch"], "updates": row["updates"], "elapsed_s": round(row["elapsed_s"], 1)}
        errors = {k: v for k, v in row.items() if k.startswith(("train_", "valid_"))}
        trained = datetime.now(UTC).isoformat(timespec="seconds")
        save_model(module.potential, self.folder / BEST, {**self.provenance, **facts, "metrics": errors, "trained": trained}, state)
        self.pending = None

    def on_train_end(self, trainer: pl.Trainer, module: TrainingModule) -> None:
        self.write(module)


class CatchInterrupt(pl.Callback):
    """Ctrl-C or a termination signal: the update at hand is finished, the state is written, the run ends with Interrupted. A second one ends it at once."""

    def __init__(self, files: RunFiles):
        self.files, self.asked, self.before = files, False, {}

    def _ask(self, number: int, frame: Any) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True

    def on_train_start(self, trainer: pl.Trainer, module: TrainingModule) -> None:
        if threading.current_thread() is threading.main_thread():
            self.before = {s: signal.signal(s, self._ask) for s in (signal.SIGINT, signal.SIGTERM)}

    def restore(self) -> None:
        """Put back the handlers of signals that were there."""
        for number, handler in self.before.items():
            signal.signal(number, handler)
        self.before = {}

    def on_train_batch_end(self, trainer: pl.Trainer, module: TrainingModule, *_: Any) -> None:
        if module.position < module.progress.updates_per_epoch:  # else the epoch is validated and closed first
            self._leave(trainer, module)

    def on_train_epoch_end(self, trainer: pl.Trainer, module: TrainingModule) -> None:
        self._leave(trainer, module)

    def _leave(self, trainer: pl.Trainer, module: TrainingModule) -> None:
        if self.asked and not trainer.should_stop:
            self.files.write(module)
            raise Interrupted


class TensorBoard(pl.Callback):
    """The metrics of every epoch as TensorBoard events, where tensorboard is installed."""

    def __init__(self, folder: Path):
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            self.writer = None
            log.info("no TensorBoard events: tensorboard is not installed")
        else:
            self.writer = SummaryWriter(str(folder))

    def on_train_epoch_end(self, trainer: pl.Trainer, module: TrainingModule) -> None:
        if self.writer is None:
            return
        for name, value in module.row.items():
            self.writer.add_scalar(name.replace("_", "/", 1) if name.startswith(("train_", "valid_")) else name, value, module.updates)

    def close(self) -> None:
        """Write what is left."""
        if self.writer is not None:
            self.writer.close()


def write_bad_batch(path: Path, module: TrainingModule, what: str, value: float, sources: list[str]) -> None:
    """nan_batch.json: which frames the update stopped at."""
    content = {"what": what, "value": str(value), "epoch": module.epoch, "update": module.updates, "frames": sources}
    path.write_text(json.dumps(content, indent=1))
