"""Random graphs, plans and inputs for the tests of `edge_convolution`."""

from collections.abc import Callable

import torch
from torch import Tensor

from equipot.math import Irreps
from equipot.ops.plan import ConvolutionPlan, Edges, plan_convolution

PLANS = {  # irreps of h, l_max of Y, irreps kept
    "scalars": ("16x0e", 0, "0e"),
    "first layer": ("16x0e", 3, "0e+1o+2e+3o"),
    "nequip l=1": ("32x0e+32x1o", 1, "0e+1o"),
    "nequip l=2, both parities": ("8x0e+8x0o+8x1e+8x1o+8x2e+8x2o", 2, "0e+0o+1e+1o+2e+2o"),
    "ragged channels": ("1x0e+3x0o+20x1o+16x1e+33x2e+5x3o", 3, "0e+1o+1e+2e+3o"),
    "l=4": ("2x0e+1x2e+5x4e+3x4o", 4, "0e+1o+3e+4e+4o"),
    "beyond the specialised degrees": ("3x0e+2x5o+1x8e", 6, "0e+1o+5o+6e+8e"),
    "few of many": ("4x0e+4x1o+4x2e+4x3o", 1, "2e"),
}


def plan_of(name: str) -> ConvolutionPlan:
    """One of PLANS."""
    irreps, l_max, keep = PLANS[name]
    return plan_convolution(Irreps.parse(irreps), l_max, Irreps.parse(keep))


def random_edges(n_atoms: int, n_edges: int, seed: int = 0) -> Edges:
    """Any sender to any receiver: repeated edges, self-edges and lonely atoms included. Every edge is its own pair."""
    generator = torch.Generator().manual_seed(seed)
    receiver = torch.sort(torch.randint(max(1, n_atoms), (n_edges,), generator=generator)).values
    sender = torch.randint(max(1, n_atoms), (n_edges,), generator=generator)
    edge = torch.arange(n_edges)
    return Edges(
        sender=sender,
        receiver=receiver,
        receiver_start=_starts(receiver, n_atoms),
        by_sender=torch.argsort(sender, stable=True),
        sender_start=_starts(sender, n_atoms),
        pair=edge,
        pair_edges=torch.stack([edge, edge], dim=1),
    )


def paired(edges: Edges, seed: int = 0) -> Edges:
    """The same edges, most of them two to a pair, in any order."""
    generator = torch.Generator().manual_seed(seed)
    n_edges = edges.sender.shape[0]
    order = torch.randperm(n_edges, generator=generator)
    n_double = n_edges // 3
    doubles, singles = order[: 2 * n_double].reshape(-1, 2), order[2 * n_double :, None].expand(-1, 2)
    pair_edges = torch.cat([doubles, singles])[torch.randperm(n_edges - n_double, generator=generator)]
    pair = torch.empty(n_edges, dtype=torch.int64)
    for column in pair_edges.unbind(1):
        pair[column] = torch.arange(len(pair_edges))
    return edges._replace(pair=pair, pair_edges=pair_edges.contiguous())


def _starts(index: Tensor, n: int) -> Tensor:
    return torch.cat([torch.zeros(1, dtype=torch.int64), torch.bincount(index, minlength=n)[:n].cumsum(0)])


def random_inputs(plan: ConvolutionPlan, n_atoms: int, n_edges: int, dtype: torch.dtype, seed: int = 0) -> list[Tensor]:
    """h, y, w that require a gradient."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [(n_atoms, plan.irreps_in.dim), (n_edges, plan.n_harmonics), (n_edges, plan.n_weights)]
    return [torch.randn(shape, dtype=dtype, generator=generator).requires_grad_() for shape in shapes]


def derivatives(
    convolve: Callable[..., Tensor], inputs: list[Tensor], edges: Edges, plan: ConvolutionPlan, seed: int = 1
) -> dict[str, Tensor]:
    """A, its gradients with a random cotangent, and theirs: everything the operation can give, by name."""
    generator = torch.Generator().manual_seed(seed)

    def random_like(x: Tensor) -> Tensor:
        return torch.randn(x.shape, dtype=x.dtype, generator=generator)

    value = convolve(*inputs, edges, plan)
    cotangent = random_like(value).requires_grad_()
    first = torch.autograd.grad(value, inputs, cotangent, create_graph=True)
    second = torch.autograd.grad(first, [cotangent, *inputs], [random_like(x) for x in first])
    names = ["A", "gh", "gy", "gw", "dg", "dh", "dy", "dw"]
    return dict(zip(names, [x.detach() for x in (value, *first, *second)], strict=True))
