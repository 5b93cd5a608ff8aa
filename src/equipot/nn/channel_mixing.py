"""Convolutions whose radial weights couple channels: R_pkk'(r), a weight for every pair of an incoming and an outgoing channel of a path.

  A_i,p l3 m3 k' = Σ_j K^{-1/2} Σ_k R_pkk' Σ_m1m2 C h_j,l1m1k Y_l2m2

It is the uncoupled convolution of features that hold every channel K times, k' fastest, summed over k behind it: the same fast operation.
"""

import math

import torch
from torch import Tensor, nn

from equipot.math import Irreps
from equipot.ops.plan import ConvolutionPlan, Edges


def spread_irreps(irreps: Irreps) -> Irreps:
    """Irreps with every block's K channels K times."""
    return Irreps(tuple((b.mul**2, b.l, b.p) for b in irreps))


class Spread(nn.Module):
    """What `normaliser` makes of the features, every channel K times: (N, irreps.dim) → (N, spread_irreps(irreps).dim)."""

    def __init__(self, normaliser: nn.Module, irreps: Irreps):
        super().__init__()
        self.normaliser, self.irreps = normaliser, irreps

    def forward(self, x: Tensor, species: Tensor, basis: Tensor, edges: Edges) -> Tensor:
        x = self.normaliser(x, species, basis, edges)
        blocks = (x[:, b.start : b.stop].reshape(-1, b.dim, b.mul) for b in self.irreps)
        return torch.cat([block.repeat_interleave(block.shape[2], dim=2).flatten(1) for block in blocks], dim=1)


class SumChannels(nn.Module):
    """`linear` of K^{-1/2} Σ_k over the incoming channels of every path: (N, coupled.irreps_out.dim) → the output of `linear`.

    `coupled` is the plan of the convolution that ran, with K² channels in every path; `linear` takes K of each.
    """

    def __init__(self, coupled: ConvolutionPlan, linear: nn.Module):
        super().__init__()
        self.linear = linear
        self.widths = [(b, [math.isqrt(p.n_channels) for p in coupled.paths if (p.l3, p.p3) == (b.l, b.p)]) for b in coupled.irreps_out]

    @property
    def weight(self) -> nn.Parameter:
        """That of the linear map."""
        return self.linear.weight

    def forward(self, x: Tensor) -> Tensor:
        parts = []
        for block, widths in self.widths:
            x_nmc = x[:, block.start : block.stop].reshape(-1, block.dim, block.mul)
            paths = x_nmc.split([k * k for k in widths], dim=2)
            sums = [path.unflatten(2, (k, k)).sum(2) * k**-0.5 for path, k in zip(paths, widths, strict=True)]
            parts.append(torch.cat(sums, dim=2).flatten(1))
        return self.linear(torch.cat(parts, dim=1))
