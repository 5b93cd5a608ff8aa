"""The weights that are evaluated and saved: a moving average, the optimiser's own, or the current ones."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from equipot.train.optimizers import ScheduleFreeAdamW


class Average:
    """w̄ ← d w̄ + (1 − d) w after every update, d = min(decay, (1 + n)/(10 + n)) after n of them, so that the random start is soon forgotten.

    decay None: w̄ is w itself, or what a schedule-free optimiser averages.
    """

    def __init__(self, parameters: Sequence[Tensor], decay: float | None):
        self.parameters, self.decay, self.n = list(parameters), decay, 0
        self.values = [p.detach().clone() for p in self.parameters] if decay is not None else []

    def to(self, device: torch.device) -> None:
        """Go where the weights are."""
        self.values = [v.to(device) for v in self.values]

    @property
    def part(self) -> float:
        """1 − d of the next update."""
        return 0.0 if self.decay is None else 1.0 - min(self.decay, (1.0 + self.n) / (10.0 + self.n))

    @torch.no_grad()
    def update(self) -> None:
        """Take the current weights in."""
        if self.decay is None:
            return
        torch._foreach_lerp_(self.values, [p.detach() for p in self.parameters], self.part)
        self.n += 1

    @contextmanager
    def applied(self, optimizer: torch.optim.Optimizer) -> Iterator[None]:
        """The averaged weights in the model for as long as the block lasts."""
        averaged = optimizer.averaged() if isinstance(optimizer, ScheduleFreeAdamW) else self.values
        if not averaged:
            yield
            return
        current = [p.detach().clone() for p in self.parameters]
        _copy(self.parameters, averaged)
        try:
            yield
        finally:
            _copy(self.parameters, current)

    def state_dict(self) -> dict:
        return {"n": self.n, "values": self.values}

    @torch.no_grad()
    def load_state_dict(self, state: dict) -> None:
        self.n = state["n"]
        if self.values:
            _copy(self.values, state["values"])


@torch.no_grad()
def _copy(to: Sequence[Tensor], source: Sequence[Tensor]) -> None:
    torch._foreach_copy_(list(to), list(source))
