"""Which implementation of the operations runs: decided once, when a model is built."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from equipot.ops import reference


@dataclass(frozen=True)
class Ops:
    """One implementation of every operation; signatures as in `ops.reference`."""

    name: str
    edge_convolution: Callable[..., Tensor]
    irreps_linear: Callable[..., Tensor]


REFERENCE = Ops("reference", reference.edge_convolution, reference.irreps_linear)


def select(backend: str = "auto") -> Ops:
    """The operations of a backend."""
    return REFERENCE
