"""The do-nothing and the small choices of a layer: normalisers and self-connections, one module each, all of one signature per slot."""

import torch
from torch import Tensor, nn

from equipot.math import Irreps
from equipot.nn.perceptron import Perceptron
from equipot.ops.pairs import expand_pairs
from equipot.ops.plan import Edges
from equipot.ops.reference import segment_sum


class Unnormalised(nn.Module):
    """Leaves x as it is."""

    def forward(self, x: Tensor, species: Tensor, basis: Tensor, edges: Edges) -> Tensor:
        return x


class DivideBy(nn.Module):
    """x[n] / value[z_n]; `value` is (n_elements,), N or √N of each element."""

    def __init__(self, value: Tensor):
        super().__init__()
        self.register_buffer("_inverse", (1.0 / value.double()).to(torch.get_default_dtype()), persistent=False)
        self.uniform = float(self._inverse[0]) if bool((value == value[0]).all()) else None

    def forward(self, x: Tensor, species: Tensor, basis: Tensor, edges: Edges) -> Tensor:
        if self.uniform is not None:
            return x * self.uniform
        return x * self._inverse[species].unsqueeze(1)


class DivideByDensity(nn.Module):
    """x[i] / (1 + Σ_{j ∈ N(i)} tanh(f(e_ij)²)), f a linear map of the radial basis (e3nn normalisation)."""

    def __init__(self, n_basis: int):
        super().__init__()
        self.mlp = Perceptron((n_basis, 1), "silu", "e3nn")

    def forward(self, x: Tensor, species: Tensor, basis: Tensor, edges: Edges) -> Tensor:
        density = segment_sum(expand_pairs(torch.tanh(self.mlp(basis) ** 2), edges.pair, edges.pair_edges), edges.receiver, x.shape[0])
        return x / (1.0 + density)


class NoSkip(nn.Module):
    """Nothing is added behind the nonlinearity."""

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return x


class IdentitySkip(nn.Module):
    """x + the blocks of h that x has: the old features (N, irreps_in.dim) as they are, behind the nonlinearity's (N, irreps_out.dim)."""

    def __init__(self, irreps_in: Irreps, irreps_out: Irreps):
        super().__init__()
        self.blocks = [irreps_in.find(b.l, b.p) for b in irreps_out]

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return x + torch.cat([h[:, b.start : b.stop] for b in self.blocks], dim=1)


class NoSelf(nn.Module):
    """No self-connection: adds nothing."""

    def forward(self, message: Tensor, h: Tensor, species: Tensor, attributes: Tensor | None) -> Tensor:
        return message


class Residual(nn.Module):
    """message + W h, the same W for all elements."""

    def __init__(self, linear: nn.Module):
        super().__init__()
        self.linear = linear

    def forward(self, message: Tensor, h: Tensor, species: Tensor, attributes: Tensor | None) -> Tensor:
        return message + self.linear(h)


class ElementResidual(nn.Module):
    """message + W(z) h, one W per element of the centre."""

    def __init__(self, linear: nn.Module):
        super().__init__()
        self.linear = linear

    def forward(self, message: Tensor, h: Tensor, species: Tensor, attributes: Tensor | None) -> Tensor:
        return message + self.linear(h, species, attributes)


class Selector(nn.Module):
    """W(z) message: the centre's element selects the map; the old features are dropped."""

    def __init__(self, linear: nn.Module):
        super().__init__()
        self.linear = linear

    def forward(self, message: Tensor, h: Tensor, species: Tensor, attributes: Tensor | None) -> Tensor:
        return self.linear(message, species, attributes)
