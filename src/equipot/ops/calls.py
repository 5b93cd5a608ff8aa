"""What calls of the C++ library share: checks of arrays, Functions for eager code, and registration with torch.library."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

SUFFIX = {torch.float32: "f32", torch.float64: "f64"}
library = torch.library.Library("equipot", "FRAGMENT")


def array(operation: str, name: str, x: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """The tensor, dense; ValueError if it is not as the library must have it."""
    if x.shape != shape or x.dtype != dtype or dtype not in SUFFIX or not x.is_cpu:
        wanted = f"{tuple(shape)} {dtype if dtype in SUFFIX else 'float32 or float64'}"
        raise ValueError(f"{operation}: {name} is {tuple(x.shape)} {x.dtype} on {x.device}; expected {wanted} on cpu")
    return x.contiguous()


def species_array(operation: str, species: Tensor | None, n_atoms: int) -> Tensor | None:
    """The species, dense; ValueError if they are not (n_atoms,) int64."""
    if species is None:
        return None
    if species.dtype != torch.int64 or species.shape != (n_atoms,) or not species.is_cpu:
        raise ValueError(
            f"{operation}: species is {tuple(species.shape)} {species.dtype} on {species.device}; expected ({n_atoms},) int64 on cpu"
        )
    return species.contiguous()


def filled(outputs: list[Tensor | None], like: Tensor) -> tuple[Tensor, ...]:
    """What an operation returns, which must be tensors: an empty one stands for what was not wanted."""
    return tuple(like.new_empty(0) if x is None else x for x in outputs)


def only(grads: tuple[Tensor, ...], need: list[bool]) -> list[Tensor | None]:
    """The gradients that were wanted."""
    return [x if needed else None for x, needed in zip(grads, need, strict=True)]


def fake(*likes: Tensor, need: list[bool]) -> tuple[Tensor, ...]:
    """Of the shapes of what `filled` returns, without values: what tracing needs."""
    return tuple(t.new_empty(t.shape) if needed else t.new_empty(0) for t, needed in zip(likes, need, strict=True))


def save(ctx: Any, inputs: tuple, output: Any) -> None:
    """Keeps the inputs of a Function: all tensors but the last, which is `ctx.key`."""
    *tensors, ctx.key = inputs
    ctx.save_for_backward(*tensors)
    ctx.set_materialize_grads(False)


def save_with_need(ctx: Any, inputs: tuple, output: Any) -> None:
    """The same of a Function whose very last input says which gradients are wanted."""
    *rest, ctx.need = inputs
    save(ctx, tuple(rest), output)


def save_nothing(ctx: Any, inputs: tuple, output: Any) -> None:
    """For a derivative rule that only raises."""


def function_of(name: str, kernel: Callable, rule: Callable, setup: Callable) -> type[Function]:
    """The Function NAME of eager code, of the parts that `register` takes for traced code."""

    def forward(ctx: Any, *inputs: Any) -> Any:
        setup(ctx, inputs, None)
        return kernel(*inputs)

    return type(name, (Function,), {"forward": staticmethod(forward), "backward": staticmethod(rule)})


def register(name: str, arguments: str, result: str, kernel, fake_kernel, rule, setup) -> None:
    """Defines equipot::NAME for compiled and traced code: the same kernel and derivative rule as eager code has."""
    library.define(f"{name}({arguments}) -> {result}", tags=(torch.Tag.pt2_compliant_tag,))
    library.impl(name, kernel, "CPU")
    torch.library.register_fake(f"equipot::{name}", fake_kernel, lib=library)
    torch.library.register_autograd(f"equipot::{name}", rule, setup_context=setup, lib=library)
