"""What an operation must know about its features: paths, offsets, coefficients. Plain data, made once, shared by every implementation."""

from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
from torch import Tensor

from equipot.math import Irreps, clebsch_gordan
from equipot.math.symmetric import symmetric_coupling, symmetric_multiplicity


class Edges(NamedTuple):
    """The index tensors of a graph that operations need; see `equipot.data.graph.Graph` for their meaning."""

    sender: Tensor  # (E,) int64
    receiver: Tensor  # (E,) int64, ascending
    receiver_start: Tensor  # (N + 1,) int64
    by_sender: Tensor  # (E,) int64
    sender_start: Tensor  # (N + 1,) int64
    pair: Tensor  # (E,) int64, the row of what the two directions of a pair share
    pair_edges: Tensor  # (P, 2) int64


@dataclass(frozen=True)
class Path:
    """One coupling h(l1, p1) ⊗ Y(l2) → (l3, p3), channel by channel.

    The input block starts at `h_start` of a feature row and holds (2l1+1, n_channels); the weights are `n_channels` numbers from `w_start`;
    the output goes to channels `out_channel : out_channel + n_channels` of a block (2l3+1, out_stride) that starts at `out_start`.
    """

    l1: int
    p1: int
    l2: int
    l3: int
    p3: int
    n_channels: int
    h_start: int
    w_start: int
    out_start: int
    out_stride: int
    out_channel: int

    @property
    def y_start(self) -> int:
        return self.l2 * self.l2

    @property
    def coefficients(self) -> np.ndarray:
        """C[m1, m2, m3] = √(2 l3 + 1) · w3j, shape (2l1+1, 2l2+1, 2l3+1)."""
        return clebsch_gordan(self.l1, self.l2, self.l3)


@dataclass(frozen=True)
class ConvolutionPlan:
    """All paths of one `edge_convolution`, in the order of the radial weights.

    Paths are sorted by output irrep, then input irrep, then l2, so that paths to one irrep lie side by side in the output and the next
    linear map is one matrix product.
    """

    irreps_in: Irreps
    l_max: int
    irreps_out: Irreps  # multiplicity of (l3, p3) = sum of n_channels over the paths into it
    paths: tuple[Path, ...]

    @property
    def n_weights(self) -> int:
        return sum(p.n_channels for p in self.paths)

    @property
    def n_harmonics(self) -> int:
        return (self.l_max + 1) ** 2


@cache
def plan_convolution(irreps_in: Irreps, l_max: int, keep: Irreps) -> ConvolutionPlan:
    """The plan of every path h(l1) ⊗ Y(l2 ≤ l_max) → (l3, p1·(−1)^l2) whose output irrep occurs in `keep`.

    Multiplicities in `keep` do not matter. Raises ValueError if no path exists.
    """
    found: dict[tuple[int, int], list[tuple[int, int, int, int, int]]] = {}
    for target in keep:
        for block in irreps_in:
            for l2 in range(l_max + 1):
                if abs(block.l - l2) <= target.l <= block.l + l2 and block.p * (-1) ** l2 == target.p:
                    found.setdefault((target.l, target.p), []).append((block.l, block.p, l2, block.mul, block.start))
    if not found:
        raise ValueError(f"no coupling path from {irreps_in} with l_max={l_max} to {keep}")
    irreps_out = Irreps.parse("+".join(f"{sum(p[3] for p in ps)}x{l3}{'e' if p3 == 1 else 'o'}" for (l3, p3), ps in found.items()))
    paths: list[Path] = []
    w_start = 0
    for block in irreps_out:
        channel = 0
        for l1, p1, l2, mul, start in found[(block.l, block.p)]:
            paths.append(Path(l1, p1, l2, block.l, block.p, mul, start, w_start, block.start, block.mul, channel))
            channel += mul
            w_start += mul
    return ConvolutionPlan(irreps_in, l_max, irreps_out, tuple(paths))


class ProductTerm(NamedTuple):
    """The couplings of one order ν to one output irrep: B[m, η, k] = Σ_n coefficients[m, η, n] Π_ξ A[monomials[n, ξ], k]."""

    out: int  # number of the block in irreps_out
    monomials: np.ndarray  # (n_monomials, ν) int64, components of A
    coefficients: np.ndarray  # (2L+1, n_eta, n_monomials)
    w_start: int  # first of its n_eta rows of weights


@dataclass(frozen=True, eq=False)
class ProductPlan:
    """All couplings of one `symmetric_product`: A with K channels in every block, up to correlation ν, to `irreps_out` with the same K."""

    irreps_in: Irreps
    irreps_out: Irreps
    correlation: int
    terms: tuple[ProductTerm, ...]

    @property
    def n_channels(self) -> int:
        return next(iter(self.irreps_in)).mul

    @property
    def n_weights(self) -> int:
        """Number of couplings, each with one weight per channel (and element)."""
        return sum(t.coefficients.shape[1] for t in self.terms)


@cache
def plan_product(irreps_in: Irreps, correlation: int, keep: Irreps) -> ProductPlan:
    """The plan of every independent coupling of 1 … `correlation` factors of A to the irreps that occur in `keep`.

    Raises ValueError if the blocks of A differ in channels: the product multiplies channel by channel.
    """
    channels = {b.mul for b in irreps_in}
    if len(channels) != 1:
        raise ValueError(f"a symmetric product needs the same number of channels in every block, not {irreps_in}")
    single = tuple((b.l, b.p) for b in irreps_in)
    targets = [b for b in keep if any(symmetric_multiplicity(single, nu, b.l, b.p) for nu in range(1, correlation + 1))]
    irreps_out = Irreps.parse("+".join(f"{min(channels)}x{b.l}{'e' if b.p == 1 else 'o'}" for b in targets))
    terms: list[ProductTerm] = []
    w_start = 0
    for number, block in enumerate(irreps_out):
        for nu in range(1, correlation + 1):
            sparse = symmetric_coupling(single, nu, block.l, block.p)
            if not sparse.labels:
                continue
            monomials, column = np.unique(sparse.indices, axis=0, return_inverse=True)
            dense = np.zeros((block.dim, len(sparse.labels), len(monomials)))
            dense[sparse.rows, sparse.eta, column.reshape(-1)] = sparse.values
            terms.append(ProductTerm(number, monomials, dense, w_start))
            w_start += len(sparse.labels)
    return ProductPlan(irreps_in, irreps_out, correlation, tuple(terms))


class GateBlock(NamedTuple):
    """With gates c[k] = factor · activation(x[gate_start + k]): y[m, k] = c[k] x[m, k] of a block (dim, n_channels), or c itself where dim is 0.

    Blocks start at `x_start` and `y_start` of their rows.
    """

    activation: str  # "silu" or "tanh"
    factor: float
    dim: int
    n_channels: int
    gate_start: int
    x_start: int  # 0 where dim is 0
    y_start: int


@dataclass(frozen=True)
class GatePlan:
    """The blocks of a gate, by `y_start`; each number of x is read by one, each of y written by one."""

    x_dim: int
    y_dim: int
    blocks: tuple[GateBlock, ...]
