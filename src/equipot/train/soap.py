"""SOAP: Adam in the eigenbasis of Shampoo's preconditioner."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from equipot.train.matrices import Matrices, of_same_shape


class Soap(Optimizer):
    """Vyas et al., "SOAP: improving and stabilizing Shampoo using Adam" (2024, arXiv:2409.11321), on every matrix W (m, n) of the weights.

    L ← β L + (1 − β) G Gᵀ, R ← β R + (1 − β) Gᵀ G with eigenvectors P and Q, renewed every `every` updates by one QR step of power iteration;
    M ← β M + (1 − β) G; V ← β V + (1 − β) (Pᵀ G Q)²; W ← W − γ P [Pᵀ M̂ Q / (√V̂ + ε)] Qᵀ, hats: bias corrected.
    A side longer than `largest` keeps its own axes. Parameters that are in no matrix are updated by Adam with (0.9, 0.999).

    matrices: as `weight_matrices` gives them; of one parameter, all of its numbers or none.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        matrices: Iterable[Matrices],
        lr: float,
        weight_decay: float = 0.0,
        beta: float = 0.95,
        eps: float = 1e-10,
        every: int = 10,
        largest: int = 256,
    ):
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay})
        self.beta, self.eps, self.every, self.largest = beta, eps, every, largest
        self.shapes = of_same_shape(matrices)
        in_matrices = {id(m.parameter) for group in self.shapes.values() for m in group}
        self.others = [p for group in self.param_groups for p in group["params"] if id(p) not in in_matrices]
        self.n = 0
        self.memory: dict[str, dict[str, Tensor]] = {}

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update from the gradients that are there; a missing one counts as zero."""
        loss = closure() if closure is not None else None
        self.n += 1
        self.update(self.param_groups[0]["lr"], self.corrections())
        if self.is_due:
            self.renew()
        return loss

    def corrections(self) -> tuple[float, float, float]:
        """1 − β^n after n updates: of the matrices, of Adam's first and of its second moments."""
        return 1.0 - self.beta**self.n, 1.0 - 0.9**self.n, 1.0 - 0.999**self.n

    @property
    def is_due(self) -> bool:
        """Whether the bases are to be renewed after this update."""
        return self.n % self.every == 0

    @torch.no_grad()
    def update(self, rate: float | Tensor, corrections: Sequence[float | Tensor]) -> None:
        """The weights and all averages of update n; numbers may be on the device, where a captured update reads them."""
        decay = self.param_groups[0]["weight_decay"]
        if decay:
            torch._foreach_mul_([p for group in self.param_groups for p in group["params"]], 1.0 - rate * decay)
        for (rows, columns), group in self.shapes.items():
            gradient = torch.cat([m.of(_gradient(m.parameter)) for m in group])
            changes = self._direction(f"{rows}x{columns}", gradient, corrections[0]).mul_(-rate)
            first = 0
            for m in group:
                number = m.parameter.numel() // (m.rows * m.columns) if m.start is None else m.parameter.numel() // m.parameter.shape[-1]
                m.add_(changes[first : first + number])
                first += number
        for i, parameter in enumerate(self.others):
            change = self._adam(f"other {i}", _gradient(parameter), *corrections[1:])
            if isinstance(rate, Tensor):
                parameter.sub_(change.mul_(rate))
            else:
                parameter.sub_(change, alpha=rate)

    @torch.no_grad()
    def renew(self, in_place: bool = False) -> None:
        """One step of power iteration for every basis; in place where a captured update reads them."""
        for memory in self.memory.values():
            for side in ("left", "right"):
                if side in memory:
                    basis = _renewed(memory[side], memory[f"{side} basis"])
                    memory[f"{side} basis"] = memory[f"{side} basis"].copy_(basis) if in_place else basis

    def to(self, device: torch.device) -> None:
        """Go where the weights are."""
        self.memory = {name: {key: value.to(device) for key, value in kept.items()} for name, kept in self.memory.items()}

    def _direction(self, name: str, gradient: Tensor, corrected: float | Tensor) -> Tensor:
        beta, memory = self.beta, self.memory.get(name)
        if memory is None:
            memory = self.memory[name] = {"m": torch.zeros_like(gradient), "v": torch.zeros_like(gradient)}
            for side, outer in self._outer(gradient).items():
                memory[side] = outer * (1.0 - beta)
                memory[f"{side} basis"] = torch.linalg.eigh(outer)[1].flip(-1)  # largest first: QR keeps that order
        else:
            for side, outer in self._outer(gradient).items():
                memory[side].lerp_(outer, 1.0 - beta)
        left, right = memory.get("left basis"), memory.get("right basis")
        memory["m"].lerp_(gradient, 1.0 - beta)
        turned = _turn(gradient, left, right)
        memory["v"].mul_(beta).addcmul_(turned, turned, value=1.0 - beta)
        step = _turn(memory["m"], left, right) / (corrected * ((memory["v"] / corrected).sqrt_() + self.eps))
        return _turn(step, None if left is None else left.mT, None if right is None else right.mT)

    def _outer(self, gradient: Tensor) -> dict[str, Tensor]:
        """G Gᵀ and Gᵀ G of the sides that are turned."""
        rows, columns = gradient.shape[-2:]
        sides = {}
        if 1 < rows <= self.largest:
            sides["left"] = gradient @ gradient.mT
        if 1 < columns <= self.largest:
            sides["right"] = gradient.mT @ gradient
        return sides

    def _adam(self, name: str, gradient: Tensor, corrected: float | Tensor, corrected_square: float | Tensor) -> Tensor:
        memory = self.memory.setdefault(name, {"m": torch.zeros_like(gradient), "v": torch.zeros_like(gradient)})
        memory["m"].lerp_(gradient, 0.1)
        memory["v"].mul_(0.999).addcmul_(gradient, gradient, value=0.001)
        return (memory["m"] / corrected) / ((memory["v"] / corrected_square).sqrt_() + self.eps)

    def state_dict(self) -> dict[str, Any]:
        groups = [{key: value for key, value in group.items() if key != "params"} for group in self.param_groups]
        return {"groups": groups, "n": self.n, "memory": self.memory}

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for group, values in zip(self.param_groups, state_dict["groups"], strict=True):
            group.update(values)
        self.n = state_dict["n"]
        self.memory = state_dict["memory"]
        self.to(self.param_groups[0]["params"][0].device)


def _gradient(parameter: Tensor) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def _turn(x: Tensor, left: Tensor | None, right: Tensor | None) -> Tensor:
    """Pᵀ X Q; None: the identity."""
    if left is not None:
        x = left.mT @ x
    return x if right is None else x @ right


def _renewed(average: Tensor, basis: Tensor) -> Tensor:
    """The basis after one step of power iteration; the average is scaled first, since gradients may be of any size."""
    size = average.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None].clamp_min(torch.finfo(average.dtype).tiny)
    return torch.linalg.qr((average / size) @ basis)[0]
