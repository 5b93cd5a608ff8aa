"""Edges' radial part: the basis e_n(r) and the weights R_pk(r) of the convolution."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from equipot.nn.perceptron import Perceptron
from equipot.ops import geometry
from equipot.ops.groups import product_by_group
from equipot.ops.pairs import expand_pairs
from equipot.ops.plan import Edges
from equipot.ops.registry import REFERENCE, Ops


def _itself(r: Tensor, r0: Tensor) -> Tensor:
    return r


def _agnesi(r: Tensor, r0: Tensor) -> Tensor:
    return geometry.agnesi_transform(r, r0)


def _soft(r: Tensor, r0: Tensor) -> Tensor:
    return geometry.soft_transform(r, r0)


TRANSFORMS = {"none": _itself, "agnesi": _agnesi, "soft": _soft}
"""By name, what turns the distance r and the pair's r0, both (P,) in Å, into the argument of the basis."""

ENVELOPES: dict[str, Callable[["RadialBasis", Tensor], Tensor]] = {
    "polynomial": lambda basis, r: geometry.polynomial_envelope(r, basis.cutoff, basis.p),
    "cosine": lambda basis, r: geometry.cosine_envelope(r, basis.cutoff),
}
"""By name, u(r) of a basis, (P,)."""

FAMILIES: dict[str, Callable[["RadialBasis", Tensor], Tensor]] = {
    "bessel": lambda basis, x: geometry.bessel_basis(x, basis.frequencies, basis.prefactor),
    "gaussian": lambda basis, x: geometry.gaussian_basis(x, basis.centres, basis.width),
    "chebyshev": lambda basis, x: geometry.chebyshev_basis(x, basis.n, basis.cutoff),
}
"""By name, the functions f_n(x) of a basis, (P, n)."""


def _one_by_one(basis: "RadialBasis", x: Tensor, r: Tensor) -> Tensor:
    return FAMILIES[basis.kind](basis, x) * ENVELOPES[basis.envelope](basis, r).unsqueeze(1)


def _fused(basis: "RadialBasis", x: Tensor, r: Tensor) -> Tensor:
    return basis.ops.enveloped_bessel(r, basis.frequencies, basis.prefactor, basis.cutoff, basis.envelope, basis.p)


class RadialBasis(nn.Module):
    """e_n(r) = f_n(r) · u(r), shape (P, n), one row per pair of atoms; zero from the cutoff on.

    `transform_radius` is r0 of every pair of elements, (n_elements, n_elements) in Å, where the distance is transformed first, by the one of
    TRANSFORMS that `transform` names (the envelope always sees r itself); None where it is not. `stretch` (n_elements, n_elements), by the elements
    of centre and neighbour: a pair with a shorter cutoff sees r · stretch, which is `cutoff` at its own; None where all pairs have the one cutoff.
    Bessel functions of the distance itself are the operation of `ops`; everything else is plain torch on every backend.
    """

    def __init__(
        self,
        kind: str,
        n: int,
        cutoff: float,
        prefactor: str,
        trainable: bool,
        envelope: str,
        p: int,
        transform: str = "none",
        transform_radius: Tensor | None = None,
        stretch: Tensor | None = None,
        ops: Ops = REFERENCE,
    ):
        super().__init__()
        self.ops = ops
        self.kind, self.n, self.cutoff, self.p, self.envelope = kind, n, cutoff, p, envelope
        self.prefactor = math.sqrt(2.0 / cutoff) if prefactor == "sqrt" else 2.0 / cutoff
        dtype = torch.get_default_dtype()
        if kind == "bessel":
            frequencies = torch.arange(1, n + 1, dtype=torch.float64) * (math.pi / cutoff)
            if trainable:
                self.frequencies = nn.Parameter(frequencies.to(dtype))
            else:
                self.register_buffer("frequencies", frequencies.to(dtype), persistent=False)
        if kind == "gaussian":
            self.register_buffer("centres", torch.linspace(0.0, cutoff, n, dtype=dtype), persistent=False)
            self.width = cutoff / max(n - 1, 1)
        self.transform = TRANSFORMS[transform]
        self.register_buffer("transform_radius", transform_radius, persistent=False)
        self.register_buffer("stretch", stretch, persistent=False)
        self._values = _fused if kind == "bessel" and transform_radius is None else _one_by_one

    def forward(self, r: Tensor, species_sender: Tensor, species_receiver: Tensor) -> Tensor:
        x = r
        if self.stretch is not None:
            x = r = r * self.stretch[species_receiver, species_sender].to(r.dtype)
        if self.transform_radius is not None:
            x = self.transform(r, self.transform_radius[species_sender, species_receiver].to(r.dtype))
        return self._values(self, x, r)


class LinearWeights(nn.Module):
    """R[p] = e_n W / √n, one matrix for all. Basis (P, n) of the pairs, result (P, n_weights)."""

    def __init__(self, n_basis: int, n_weights: int):
        super().__init__()
        self.scale = 1.0 / math.sqrt(n_basis)
        self.weight = nn.Parameter(torch.randn(n_basis, n_weights, dtype=torch.get_default_dtype()))

    def forward(self, basis: Tensor, species: Tensor, edges: Edges) -> Tensor:
        return basis @ (self.weight * self.scale)


class DirectWeights(nn.Module):
    """R_pk[e] = e_{k mod n}: the radial functions themselves, no parameters. Basis (P, n) of the pairs, result (E, n_weights)."""

    def __init__(self, n_basis: int, n_weights: int):
        super().__init__()
        self.register_buffer("_function", torch.arange(n_weights) % n_basis, persistent=False)

    def forward(self, basis: Tensor, species: Tensor, edges: Edges) -> Tensor:
        return expand_pairs(basis.index_select(1, self._function), edges.pair, edges.pair_edges)


class TableWeights(nn.Module):
    """R[e] = Σ_n e_n W[z, n], a matrix per element of the sender, or per pair of elements; Xavier start, no further factor."""

    def __init__(self, n_basis: int, n_weights: int, n_elements: int, both: bool):
        super().__init__()
        self.n_elements, self.both = n_elements, both
        rows = n_elements**2 if both else n_elements
        bound = math.sqrt(6.0 / ((n_basis + rows) * n_weights))
        self.weight = nn.Parameter((2 * torch.rand(rows, n_basis, n_weights, dtype=torch.get_default_dtype()) - 1) * bound)

    def forward(self, basis: Tensor, species: Tensor, edges: Edges) -> Tensor:
        row = species[edges.sender]
        if self.both:
            row = row * self.n_elements + species[edges.receiver]
        basis = expand_pairs(basis, edges.pair, edges.pair_edges)
        return product_by_group(basis, self.weight, row)


class PerceptronWeights(nn.Module):
    """R = MLP(e_n), a row per pair; with `elements` the one-hot sender, or sender and receiver, come before the basis, and a row per edge."""

    def __init__(
        self,
        n_basis: int,
        n_weights: int,
        widths: tuple[int, ...],
        activation: str,
        normalisation: str,
        elements: str,
        n_elements: int,
        ops: Ops = REFERENCE,
    ):
        super().__init__()
        self.elements, self.n_elements = elements, n_elements
        n_extra = {"none": 0, "sender": n_elements, "both": 2 * n_elements}[elements]
        self.mlp = Perceptron((n_extra + n_basis, *widths, n_weights), activation, normalisation, ops)

    def forward(self, basis: Tensor, species: Tensor, edges: Edges) -> Tensor:
        if self.elements == "none":
            return self.mlp(basis)
        basis = expand_pairs(basis, edges.pair, edges.pair_edges)
        ends = [edges.sender] if self.elements == "sender" else [edges.sender, edges.receiver]
        one_hot = [torch.nn.functional.one_hot(species[end], self.n_elements).to(basis.dtype) for end in ends]
        return self.mlp(torch.cat([*one_hot, basis], dim=1))
