"""The operations in plain torch: twice differentiable, readable, the oracle every faster version is compared with.

Axes: n atoms, e edges, k channels, m components of a degree, p paths. A feature row is flat: blocks (2l+1, K), channels fastest.
"""

from functools import cache

import torch
from torch import Tensor

from equipot.math import Irreps
from equipot.ops import geometry
from equipot.ops.groups import product_of_any_sizes
from equipot.ops.pairs import rows_of_edges
from equipot.ops.passes import traced
from equipot.ops.plan import ConvolutionPlan, Edges, GatePlan, Path, ProductPlan, ProductTerm

_ACTIVATIONS = {"silu": torch.nn.functional.silu, "tanh": torch.tanh}


def edge_convolution(h: Tensor, y: Tensor, w: Tensor, edges: Edges, plan: ConvolutionPlan) -> Tensor:
    """Gather, couple, weight and sum to receivers.

    A[i, p m3 k] = Σ_{e → i} w[e, p k] Σ_{m1 m2} C_p[m1, m2, m3] h[sender(e), m1 k] Y[e, m2]

    Args: h (N, irreps_in.dim), y (E, (l_max+1)²), w (E, n_weights) by edge or (P, n_weights) by pair of atoms, all of one dtype.
    Returns (N, irreps_out.dim).
    """
    w = rows_of_edges(w, edges)
    n_atoms, n_edges = h.shape[0], edges.sender.shape[0]
    h_e = h.index_select(0, edges.sender)
    blocks = []
    for block in plan.irreps_out:
        messages = [_path_message(h_e, y, w, path) for path in plan.paths if (path.l3, path.p3) == (block.l, block.p)]
        blocks.append(torch.cat(messages, dim=2).reshape(n_edges, block.dim * block.mul))
    return h.new_zeros(n_atoms, plan.irreps_out.dim).index_add(0, edges.receiver, torch.cat(blocks, dim=1))


def _path_message(h_e: Tensor, y: Tensor, w: Tensor, path: Path) -> Tensor:
    """(E, 2l3+1, K): the weighted coupling of one path on every edge."""
    d1, d2, d3, k = 2 * path.l1 + 1, 2 * path.l2 + 1, 2 * path.l3 + 1, path.n_channels
    h_emk = h_e[:, path.h_start : path.h_start + d1 * k].reshape(-1, d1, k)
    y_em = y[:, path.y_start : path.y_start + d2]
    coupled = (y_em @ _coefficients(path.l1, path.l2, path.l3, y.dtype, y.device)).reshape(-1, d3, d1)
    return (coupled @ h_emk) * w[:, None, path.w_start : path.w_start + k]


@cache
def _coefficients(l1: int, l2: int, l3: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """C as a matrix (2l2+1, (2l3+1)(2l1+1))."""
    from equipot.math import clebsch_gordan

    c = torch.from_numpy(clebsch_gordan(l1, l2, l3).copy())
    return c.permute(1, 2, 0).reshape(2 * l2 + 1, -1).contiguous().to(device=device, dtype=dtype)


def irreps_linear(x: Tensor, weight: Tensor, irreps_in: Irreps, irreps_out: Irreps, species: Tensor | None = None) -> Tensor:
    """Mix channels of equal (l, p): y[n, m k'] = Σ_k W_lp[k, k'] x[n, m k]; with `species`, W is the one of the atom's element.

    Args: x (N, irreps_in.dim); weight (n_weights,) or (n_elements, n_weights), the matrices (K_in, K_out) of the shared (l, p) one after
    another, row-major; species (N,) int64 or None. An output irrep that is absent from the input gives zeros.
    Returns (N, irreps_out.dim).
    """
    if species is not None and not traced():
        # atoms grouped by element: whole slices with one matrix each, then back to their order
        order = torch.argsort(species, stable=True)
        groups = x.index_select(0, order).split(torch.bincount(species, minlength=weight.shape[0]).tolist())
        parts = [irreps_linear(group, w, irreps_in, irreps_out) for group, w in zip(groups, weight.unbind(0), strict=True)]
        return torch.cat(parts).index_select(0, torch.argsort(order))
    return irreps_linear_of_any_sizes(x, weight, irreps_in, irreps_out, species)


def irreps_linear_of_any_sizes(x: Tensor, weight: Tensor, irreps_in: Irreps, irreps_out: Irreps, species: Tensor | None = None) -> Tensor:
    """`irreps_linear` without a look at the values of `species`: for traces and for GPUs, where the host need not wait."""
    n, w_start = x.shape[0], 0
    columns = x.split([b.dim * b.mul for b in irreps_in], dim=1)
    blocks = {(b.l, b.p): c.reshape(n, b.dim, b.mul) for b, c in zip(irreps_in, columns, strict=True)}
    parts = []
    for out in irreps_out:
        block = blocks.get((out.l, out.p))
        if block is None:
            parts.append(x.new_zeros(n, out.dim * out.mul))
            continue
        size = block.shape[2] * out.mul
        w = weight[..., w_start : w_start + size].reshape(*weight.shape[:-1], block.shape[2], out.mul)
        w_start += size
        mixed = block @ w if species is None else product_of_any_sizes(block, w, species)
        parts.append(mixed.reshape(n, out.dim * out.mul))
    return torch.cat(parts, dim=1)


def symmetric_product(a: Tensor, weight: Tensor, plan: ProductPlan, species: Tensor | None = None) -> Tensor:
    """Weighted symmetric products of A with itself, channel by channel.

    B[i, LM k] = Σ_ν Σ_η W[z_i, η, k] Σ_{m1…mν} C^{LM}_η[m1 … mν] Π_ξ A[i, m_ξ k]

    Args: a (N, irreps_in.dim); weight (n_weights, K), or (n_elements, n_weights, K) with species (N,). Returns (N, irreps_out.dim).
    """
    n, k = a.shape[0], plan.n_channels
    a_nmk = a.reshape(n, plan.irreps_in.dim // k, k)
    w = weight if species is None else weight[species]
    blocks = [a.new_zeros(n, b.dim, k) for b in plan.irreps_out]
    for number, term in enumerate(plan.terms):
        rows = slice(term.w_start, term.w_start + term.coefficients.shape[1])
        blocks[term.out] = blocks[term.out] + _product_term(a_nmk, w[..., rows, :], term, *_term_tensors(plan, number, a.dtype, a.device))
    return torch.cat([b.flatten(1) for b in blocks], dim=1)


def _product_term(a_nmk: Tensor, w: Tensor, term: ProductTerm, factors: tuple[Tensor, ...], c: Tensor) -> Tensor:
    """(N, 2L+1, K): the couplings of one order to one irrep, weighted and summed over η."""
    dim, n_eta, _ = term.coefficients.shape
    monomials = a_nmk[:, factors[0]]
    for factor in factors[1:]:
        monomials = monomials * a_nmk[:, factor]
    return ((c @ monomials).reshape(a_nmk.shape[0], dim, n_eta, a_nmk.shape[2]) * w.unsqueeze(-3)).sum(2)


def _term_tensors(plan: ProductPlan, number: int, dtype: torch.dtype, device: torch.device) -> tuple[tuple[Tensor, ...], Tensor]:
    """Of a term, the component of A that is each factor of its monomials, and its coefficients ((2L+1) n_eta, n_monomials)."""
    return _make_term_tensors(plan, number, dtype, device) if traced() else _kept_term_tensors(plan, number, dtype, device)


def _make_term_tensors(plan: ProductPlan, number: int, dtype: torch.dtype, device: torch.device) -> tuple[tuple[Tensor, ...], Tensor]:
    term = plan.terms[number]
    factors = tuple(torch.from_numpy(column.copy()).to(device) for column in term.monomials.T)
    c = torch.from_numpy(term.coefficients.reshape(-1, term.coefficients.shape[2]).copy())
    return factors, c.to(device=device, dtype=dtype)


_kept_term_tensors = cache(_make_term_tensors)  # what a tracer makes is not to be kept: it holds no numbers


def gate(x: Tensor, plan: GatePlan) -> Tensor:
    """Scalars through an activation, and blocks times scalars through an activation, channel by channel.

    y[n, m k] = c[n, k] x[n, m k] with c = factor · activation(x[n, gates]); y = c where a block has no components.

    Args: x (N, plan.x_dim). Returns (N, plan.y_dim).
    """
    parts = []
    for b in plan.blocks:
        values = _ACTIVATIONS[b.activation](x[:, b.gate_start : b.gate_start + b.n_channels]) * b.factor
        if b.dim:
            x_nmk = x[:, b.x_start : b.x_start + b.dim * b.n_channels].reshape(-1, b.dim, b.n_channels)
            values = (x_nmk * values[:, None]).reshape(-1, b.dim * b.n_channels)
        parts.append(values)
    return torch.cat(parts, dim=1)


def n_linear_weights(irreps_in: Irreps, irreps_out: Irreps) -> int:
    """Number of weights of `irreps_linear`: Σ K_in K_out over shared (l, p)."""
    return sum(out.mul * irreps_in.mul(out.l, out.p) for out in irreps_out)


def segment_sum(x: Tensor, index: Tensor, n: int) -> Tensor:
    """Σ over rows of equal index: (R, ...) → (n, ...)."""
    return x.new_zeros(n, *x.shape[1:]).index_add(0, index, x)


def spherical_harmonics(vectors: Tensor, l_max: int) -> Tensor:
    """Y_lm of the directions, (E, (l_max+1)²) of vectors (E, 3): `ops.geometry.spherical_harmonics`."""
    return geometry.spherical_harmonics(vectors, l_max)


def enveloped_bessel(r: Tensor, frequencies: Tensor, prefactor: float, cutoff: float, envelope: str, p: int) -> Tensor:
    """e_k(r) = c sin(w_k r)/r · u(r), with the envelope "polynomial" (of exponent p) or "cosine"; see `ops.geometry`.

    Args: r (P,) Å, frequencies w (n,) in 1/Å, both may require a gradient. Returns (P, n), 0 from the cutoff on.
    """
    u = geometry.polynomial_envelope(r, cutoff, p) if envelope == "polynomial" else geometry.cosine_envelope(r, cutoff)
    return geometry.bessel_basis(r, frequencies, prefactor) * u.unsqueeze(1)
