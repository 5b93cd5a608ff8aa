"""What calls of the C++ library share: checks of arrays, and registration with torch.library."""

import torch
from torch import Tensor

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


def register(name: str, arguments: str, result: str, kernel, fake, rule, setup) -> None:
    """Defines equipot::NAME for compiled and traced code: the same kernel and derivative rule as eager code has."""
    library.define(f"{name}({arguments}) -> {result}", tags=(torch.Tag.pt2_compliant_tag,))
    library.impl(name, kernel, "CPU")
    torch.library.register_fake(f"equipot::{name}", fake, lib=library)
    torch.library.register_autograd(f"equipot::{name}", rule, setup_context=setup, lib=library)
