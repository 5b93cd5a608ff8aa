"""One matrix per group of rows: the element of an atom, or the elements of the ends of an edge, chooses it."""

import torch
from torch import Tensor

from equipot.ops.passes import traced

FEW = 8  # groups, each of which multiplies the work; a copy of a matrix for every row costs memory instead


def product_by_group(x: Tensor, weight: Tensor, group: Tensor) -> Tensor:
    """y[r] = x[r] W[group[r]]: x (R, K) or (R, m, K), weight (G, K, K'), group (R,) int64 → (R, K') or (R, m, K').

    Rows are sorted by group and each group is one matrix product. The sizes of the groups are values, which a trace cannot see: there, rows are
    multiplied with every matrix and chosen by a mask where groups are few, else each with a copy of its own matrix.
    """
    if traced():
        return product_of_any_sizes(x, weight, group)
    order = torch.argsort(group, stable=True)
    parts = x.index_select(0, order).split(torch.bincount(group, minlength=weight.shape[0]).tolist())
    return torch.cat([part @ w for part, w in zip(parts, weight.unbind(0), strict=True)]).index_select(0, torch.argsort(order))


def product_of_any_sizes(x: Tensor, weight: Tensor, group: Tensor) -> Tensor:
    """The same without a look at values: no shape depends on one, so that a trace can see it, a CUDA graph hold it and the host need not wait."""
    n_groups, k, k_out = weight.shape
    if n_groups > FEW:
        rows = x.reshape(x.shape[0], -1, k)
        return torch.bmm(rows, weight.index_select(0, group)).reshape(*x.shape[:-1], k_out)
    chosen = (group.unsqueeze(1) == torch.arange(n_groups, device=group.device)).to(x.dtype)
    chosen = chosen.reshape(x.shape[0], *[1] * (x.dim() - 2), n_groups, 1)
    return (x.unsqueeze(-2) * chosen).flatten(-2) @ weight.reshape(n_groups * k, k_out)
