"""The gated nonlinearity."""

import torch
from torch import Tensor, nn

from equipot.conventions import SECOND_MOMENT
from equipot.math import Irreps


def gate_input(irreps: Irreps, has_even_scalars: bool) -> Irreps:
    """Irreps a gate needs to give `irreps`: one more scalar for every channel of l > 0, even if even scalars can be reached.

    Otherwise the gates are odd, and what they multiply has the opposite parity of what comes out.
    """
    parity = 1 if has_even_scalars else -1
    gated = tuple((b.mul, b.l, b.p * parity) for b in irreps if b.l)
    return Irreps((*irreps.scalars, *gated, (sum(mul for mul, *_ in gated), 0, parity)))


class Gate(nn.Module):
    """Scalars s ← c·act(s), SiLU for even and tanh for odd; each channel of l > 0 times c·act(its gate), second-moment factors c.

    Input (N, gate_input(irreps).dim): in the gates' scalar block the scalars come first, then the gates in the order of the blocks of
    `irreps`. Output (N, irreps.dim).
    """

    def __init__(self, irreps: Irreps, has_even_scalars: bool):
        super().__init__()
        self.irreps = irreps
        self.irreps_in = gate_input(irreps, has_even_scalars)
        self.gate_parity = 1 if has_even_scalars else -1

    def forward(self, x: Tensor) -> Tensor:
        gates = None
        parts: list[Tensor] = []
        for parity, act in ((1, "silu"), (-1, "tanh")):
            block = self.irreps_in.find(0, parity)
            if block is None:
                continue
            function = torch.nn.functional.silu if act == "silu" else torch.tanh
            values = function(x[:, block.start : block.stop]) * SECOND_MOMENT[act]
            n_scalars = self.irreps.mul(0, parity)
            if parity == self.gate_parity:
                gates = values[:, n_scalars:]
            if n_scalars:
                parts.append(values[:, :n_scalars])
        first = 0
        for out in self.irreps:
            if out.l == 0:
                continue
            block = self.irreps_in.find(out.l, out.p * self.gate_parity)
            x_nmk = x[:, block.start : block.stop].reshape(-1, out.dim, out.mul)
            parts.append((x_nmk * gates[:, None, first : first + out.mul]).reshape(-1, out.dim * out.mul))
            first += out.mul
        return torch.cat(parts, dim=1)
