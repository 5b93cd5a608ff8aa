"""Sees where a step would make the host wait for a device, or copy from host to device: what no CUDA graph can hold."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from equipot.nn import perceptron
from equipot.ops import passes

aten = torch.ops.aten
WAITS = {
    aten._local_scalar_dense,
    aten.bincount,
    aten.equal,
    aten.lift_fresh,  # a number or list of the host becomes a tensor
    aten.masked_select,
    aten.nonzero,
    aten.repeat_interleave,
    aten._unique2,
    aten.linalg_eigh,
    aten._linalg_eigh,
    aten.linalg_qr,
    aten._linalg_det,
}
INDEXED = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_}


class Waits(AssertionError):
    """The step made the host wait."""


class _Watch(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if func.overloadpacket in WAITS:
            raise Waits(str(func))
        indices = args[1] if func.overloadpacket in INDEXED else []
        if any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in indices):
            raise Waits(f"{func} with a mask")
        return func(*args, **(kwargs or {}))


def _refuse(name: str) -> Callable:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise Waits(name)

    return refuse


@contextmanager
def no_host_waits() -> Iterator[None]:
    """Raises Waits where the block would wait. It takes the paths that it takes without anyone watching."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (passes, perceptron):
            patch.setattr(module, "plain", lambda *_: True)
        try:
            from equipot.ops.triton import launch
        except ImportError:
            pass
        else:
            patch.setattr(launch, "plain", lambda *_: True)
            direct = launch.direct
            patch.setattr(launch, "direct", lambda *a, **k: _unseen(direct, *a, **k))
        for name in ("tolist", "numpy", "cpu"):
            patch.setattr(torch.Tensor, name, _refuse(f"Tensor.{name}"))
        for name in ("from_numpy", "as_tensor"):
            patch.setattr(torch, name, _refuse(f"torch.{name}"))
        with _Watch():
            yield


def _unseen(call: Callable, *args: Any, **kwargs: Any) -> None:
    """A launch: what Triton's interpreter does to imitate one is no part of the step."""
    with _disable_current_modes(), pytest.MonkeyPatch.context() as patch:
        for name in ("tolist", "numpy", "cpu"):
            patch.setattr(torch.Tensor, name, ORIGINAL[name])
        for name in ("from_numpy", "as_tensor"):
            patch.setattr(torch, name, ORIGINAL[name])
        call(*args, **kwargs)


ORIGINAL = {name: getattr(torch.Tensor, name) for name in ("tolist", "numpy", "cpu")}
ORIGINAL |= {name: getattr(torch, name) for name in ("from_numpy", "as_tensor")}
