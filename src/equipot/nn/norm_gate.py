"""The nonlinearity of norms: every channel of every degree scaled by a function of its own length, no gates needed."""

import torch
from torch import Tensor, nn

from equipot.math import Irreps

_SHORT = 1e-16  # squared length below which a channel counts as this long: the square root has no derivative at zero


class NormGate(nn.Module):
    """x ← SiLU(|x|) x/|x| for each channel of each (l, p), |x|² = Σ_m x_m²; an odd scalar keeps its sign, zero stays zero.

    Input and output (N, irreps.dim). Source: nequip's `nonlinearity_type: norm` (e3nn's NormActivation).
    """

    def __init__(self, irreps: Irreps):
        super().__init__()
        self.irreps = irreps

    def forward(self, x: Tensor) -> Tensor:
        parts = []
        for block in self.irreps:
            x_nmk = x[:, block.start : block.stop].reshape(-1, block.dim, block.mul)
            length = x_nmk.square().sum(1, keepdim=True).clamp(min=_SHORT).sqrt()
            # SiLU(|x|)/|x| is the logistic function of |x|
            parts.append((x_nmk * torch.sigmoid(length)).flatten(1))
        return torch.cat(parts, dim=1)
