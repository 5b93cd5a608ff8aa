"""The gated nonlinearity."""

from collections.abc import Iterator

from torch import Tensor, nn

from equipot.conventions import SECOND_MOMENT
from equipot.math import Irreps
from equipot.ops.plan import GateBlock, GatePlan
from equipot.ops.registry import REFERENCE, Ops

_ACTIVATION = {1: "silu", -1: "tanh"}


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

    def __init__(self, irreps: Irreps, has_even_scalars: bool, ops: Ops = REFERENCE):
        super().__init__()
        self.irreps, self.ops = irreps, ops
        self.irreps_in = gate_input(irreps, has_even_scalars)
        self.gate_parity = 1 if has_even_scalars else -1
        self._plan = GatePlan(self.irreps_in.dim, irreps.dim, tuple(self._blocks()))

    def _blocks(self) -> Iterator[GateBlock]:
        gates = self.irreps_in.find(0, self.gate_parity)
        first = 0 if gates is None else gates.start + self.irreps.mul(0, self.gate_parity)
        for out in self.irreps:
            act = _ACTIVATION[out.p if out.l == 0 else self.gate_parity]
            block = self.irreps_in.find(out.l, out.p * (self.gate_parity if out.l else 1))
            if out.l == 0:
                yield GateBlock(act, SECOND_MOMENT[act], 0, out.mul, block.start, 0, out.start)
                continue
            yield GateBlock(act, SECOND_MOMENT[act], out.dim, out.mul, first, block.start, out.start)
            first += out.mul

    def forward(self, x: Tensor) -> Tensor:
        return self.ops.gate(x, self._plan)
