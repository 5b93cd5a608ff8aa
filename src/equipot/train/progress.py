"""The progress of a training: a bar on a terminal, a line now and then elsewhere."""

import logging
import sys
import time
from typing import Any

import lightning.pytorch as pl
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from equipot.train.module import TrainingModule

log = logging.getLogger("equipot.train")
EPOCHS = logging.getLogger("equipot.epochs")
"""Every epoch, for the run's log file; `log` has those that are shown."""
EPOCHS.propagate = False


def describe(row: dict[str, float]) -> str:
    """One epoch in a line; errors are MAE in meV per atom and meV/Å."""
    parts = [f"epoch {row['epoch']:.0f}", f"updates {row['updates']:.0f}", f"loss {row['train_loss']:.4g}"]
    for part in ("train", "valid"):
        if found := _errors(row, f"{part}_"):
            parts.append(f"{part} {found}")
    parts += [f"rate {row['learning_rate']:.2e}", f"{row['step_ms']:.0f} ms/update", clock(row["elapsed_s"])]
    return " · ".join(parts)


def _errors(row: dict[str, float], prefix: str = "") -> str:
    names = (("energy_per_atom", "E", "meV/atom"), ("forces", "F", "meV/Å"), ("stress", "S", "meV/Å³"))
    found = [f"{short} {1000.0 * row[key]:.3g} {unit}" for name, short, unit in names if (key := f"{prefix}{name}_mae") in row]
    return " ".join(found)


def clock(seconds: float) -> str:
    """H:MM:SS."""
    whole = int(max(0.0, seconds))
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


class ShowProgress(pl.Callback):
    """A bar with the errors of the moment and the time left; where there is no terminal, a line at most every `seconds`."""

    REFRESH = 0.5
    PATIENCE = 60.0

    def __init__(self, terminal: bool | None = None, seconds: float = 10.0):
        self.terminal = sys.stderr.isatty() if terminal is None else terminal
        self.seconds, self.shown, self.drawn = seconds, time.monotonic(), 0.0
        self.bar: Progress | None = None
        self.started = False

    def on_train_start(self, trainer: pl.Trainer, module: TrainingModule) -> None:
        if self.terminal:
            columns = (BarColumn(20), TextColumn("{task.percentage:>3.0f}%"), TextColumn("{task.description}"))
            self.bar = Progress(*columns, console=Console(stderr=True), auto_refresh=False, transient=True)
            self.bar.start()
            self.task = self.bar.add_task("", total=1.0)

    def on_train_batch_end(self, trainer: pl.Trainer, module: TrainingModule, *_: Any) -> None:
        now = time.monotonic()
        if self.bar is not None and now - self.drawn >= self.REFRESH:
            self.drawn = now
            self.bar.update(self.task, completed=module.fraction, description=_running(module), refresh=True)
        elif self.bar is None and now - self.shown >= self.PATIENCE:
            self.shown = now
            log.info("update %d · %s", module.updates, _running(module))

    def on_train_epoch_end(self, trainer: pl.Trainer, module: TrainingModule) -> None:
        now = time.monotonic()
        line = describe(module.row)
        if self.bar is None and (now - self.shown >= self.seconds or trainer.should_stop or not self.started):
            self.shown, self.started = now, True
            log.info("%s · %s left", line, clock(0.0 if trainer.should_stop else time_left(module)))
        else:
            EPOCHS.info(line)

    def close(self) -> None:
        """Take the bar away."""
        if self.bar is not None:
            self.bar.stop()
            self.bar = None


def _running(module: TrainingModule) -> str:
    """The errors of the moment and the time left."""
    parts = [f"epoch {module.epoch}", _errors(module.running_errors())]
    if found := _errors(module.row, "valid_"):
        parts.append(f"valid {found}")
    return " · ".join([*parts, f"{clock(time_left(module))} left"])


def time_left(module: TrainingModule) -> float:
    """Seconds, at the speed so far."""
    fraction, elapsed = module.fraction, module.clock.elapsed
    return elapsed * (1.0 - fraction) / fraction if fraction else 0.0
