"""How far a training is, and what its learning rate is there."""

import math
import time
from typing import Any

from equipot.train.config import TrainConfig


class Clock:
    """Training time in seconds, over all parts of an interrupted run."""

    def __init__(self) -> None:
        self.before = 0.0
        self.started: float | None = None

    def start(self) -> None:
        self.started = time.monotonic()

    @property
    def elapsed(self) -> float:
        return self.before + (0.0 if self.started is None else time.monotonic() - self.started)


class Progress:
    """The part of the training that is done: the furthest of epochs, updates and time. Only time makes it depend on the machine.

    `ahead`: updates that were not made because earlier batches were larger; not 0 only where a run was resumed with another batch size.
    """

    def __init__(self, config: TrainConfig, updates_per_epoch: int):
        self.config, self.updates_per_epoch, self.ahead = config, updates_per_epoch, 0

    @property
    def last_update(self) -> int:
        """Updates after which the training ends, if time allows."""
        by_epochs = self.config.max_epochs * self.updates_per_epoch - self.ahead
        return by_epochs if self.config.max_updates is None else min(by_epochs, self.config.max_updates)

    def fraction(self, updates: int, elapsed: float) -> float:
        """Between 0 and 1."""
        done = (updates + self.ahead) / (self.config.max_epochs * self.updates_per_epoch)
        if self.config.max_updates is not None:
            done = max(done, updates / self.config.max_updates)
        if self.config.max_seconds is not None:
            done = max(done, elapsed / self.config.max_seconds)
        return min(1.0, done)

    def is_over(self, updates: int, elapsed: float) -> bool:
        return self.fraction(updates, elapsed) >= 1.0


class LearningRate:
    """base · warm-up(updates) · shape.

    Warm-up rises linearly to 1. Shape: cosine (1 + cos πx)/2 of the part x of the training that is done, but never below FLOOR; plateau: a
    factor that falls after so many validations without progress; constant: 1.
    """

    FLOOR = 1e-4
    PROGRESS = 1e-4  # relative improvement that counts

    def __init__(self, config: TrainConfig):
        self.config = config
        self.factor, self.best, self.waited = 1.0, math.inf, 0

    def value(self, updates: int, fraction: float) -> float:
        """The rate of the update after `updates` of them."""
        rate = self.config.learning_rate * min(1.0, (updates + 1) / (self.config.warmup + 1))
        if self.config.scheduler == "cosine":
            return rate * max(self.FLOOR, 0.5 * (1.0 + math.cos(math.pi * fraction)))
        return rate * self.factor

    def validated(self, measure: float) -> None:
        """Take the result of a validation in."""
        if self.config.scheduler != "plateau":
            return
        if measure < self.best * (1.0 - self.PROGRESS):
            self.best, self.waited = measure, 0
            return
        self.waited += 1
        if self.waited > self.config.plateau_patience:
            self.factor, self.waited = self.factor * self.config.plateau_factor, 0

    def state_dict(self) -> dict[str, Any]:
        return {"factor": self.factor, "best": self.best, "waited": self.waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.factor, self.best, self.waited = state["factor"], state["best"], state["waited"]
