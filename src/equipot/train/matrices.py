"""The matrices that a model's weights hold: what an optimiser that sees more than single numbers works on."""

from collections.abc import Iterable
from typing import NamedTuple

from torch import Tensor, nn

from equipot.nn.linear import ElementLinear, IrrepsLinear


class Matrices(NamedTuple):
    """Matrices of `rows` times `columns` in a parameter: those that begin at `start` in each of its rows, or all of its last two axes."""

    parameter: Tensor
    start: int | None
    rows: int
    columns: int

    def of(self, tensor: Tensor) -> Tensor:
        """The matrices in a tensor of the parameter's shape, (number, rows, columns)."""
        if self.start is None:
            return tensor.reshape(-1, self.rows, self.columns)
        flat = tensor.reshape(-1, tensor.shape[-1])
        return flat[:, self.start : self.start + self.rows * self.columns].reshape(-1, self.rows, self.columns)

    def add_(self, change: Tensor) -> None:
        """Add (number, rows, columns) to the parameter in place."""
        weights = self.parameter.data
        if self.start is None:
            weights.add_(change.reshape(weights.shape))
            return
        flat = weights.view(-1, weights.shape[-1])
        flat[:, self.start : self.start + self.rows * self.columns].add_(change.reshape(flat.shape[0], -1))


def weight_matrices(model: nn.Module) -> list[Matrices]:
    """All matrices among the weights that are trained: one per irrep (and element) of a linear map, the last two axes of other parameters."""
    linear = {id(m.weight): m for m in model.modules() if isinstance(m, IrrepsLinear | ElementLinear)}
    found: list[Matrices] = []
    for parameter in model.parameters():
        if not parameter.requires_grad or parameter.numel() == 0:
            continue
        if (module := linear.get(id(parameter))) is not None:
            start = 0
            for out in module.irreps_out:
                rows = module.irreps_in.mul(out.l, out.p)
                if rows:
                    found.append(Matrices(parameter, start, rows, out.mul))
                start += rows * out.mul
        elif parameter.ndim >= 2:
            found.append(Matrices(parameter, None, parameter.shape[-2], parameter.shape[-1]))
    return found


def of_same_shape(matrices: Iterable[Matrices]) -> dict[tuple[int, int], list[Matrices]]:
    """Those of one shape together, so that one call treats them all."""
    found: dict[tuple[int, int], list[Matrices]] = {}
    for each in matrices:
        found.setdefault((each.rows, each.columns), []).append(each)
    return found
