"""Site energy of a layer from its invariant scalars."""

from torch import Tensor, nn

from equipot.math import Irreps
from equipot.nn.perceptron import Perceptron
from equipot.ops.registry import REFERENCE, Ops


class Readout(nn.Module):
    """E_i = MLP(h_i,0e): linear without hidden widths. Input (N, irreps.dim), output (N,)."""

    def __init__(self, irreps: Irreps, widths: tuple[int, ...], activation: str, normalisation: str, ops: Ops = REFERENCE):
        super().__init__()
        self.block = irreps.find(0, 1)
        if self.block is None:
            raise ValueError(f"a readout needs invariant scalars (0e); {irreps} has none")
        self.mlp = Perceptron((self.block.mul, *widths, 1), activation, normalisation, ops)

    def forward(self, h: Tensor) -> Tensor:
        return self.mlp(h[:, self.block.start : self.block.stop]).squeeze(1)

    def last_features(self, h: Tensor) -> Tensor:
        """(N, width) ∂E_i/∂w of the last weights w: all that the readout does before its last, linear map."""
        return self.mlp.last_features(h[:, self.block.start : self.block.stop])


class SumReadout(nn.Module):
    """E_i = Σ_k h_i,0e k, without weights. Input (N, irreps.dim), output (N,)."""

    def __init__(self, irreps: Irreps):
        super().__init__()
        self.block = irreps.find(0, 1)
        if self.block is None:
            raise ValueError(f"a readout needs invariant scalars (0e); {irreps} has none")

    def forward(self, h: Tensor) -> Tensor:
        return h[:, self.block.start : self.block.stop].sum(1)

    def last_features(self, h: Tensor) -> Tensor:
        """(N, K) the scalars, as if they had weights of 1."""
        return h[:, self.block.start : self.block.stop]


class NoReadout(nn.Module):
    """A layer that contributes no energy."""

    def forward(self, h: Tensor) -> Tensor:
        return h.new_zeros(h.shape[0])

    def last_features(self, h: Tensor) -> Tensor:
        """(N, 0): none."""
        return h.new_zeros(h.shape[0], 0)
