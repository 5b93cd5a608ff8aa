"""MACE's coupling tensors U, overcomplete, on our independent basis of symmetric couplings."""

import numpy as np

from equipot.errors import UserError
from equipot.model.importers.e3nn_layout import Key, Layout
from equipot.ops.plan import ProductPlan, ProductTerm

RESIDUAL = 1e-12


def product_weights(plan: ProductPlan, density: Layout, tensors: dict[tuple[Key, int], tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Our weights (n_elements, n_weights, K) of the same polynomial: Σ_k U[m, i1…iν, k] w[e, k, c] Π A_i = Σ_η W[e, η, c] B_η[m].

    `density`: the layout of their A, one block per irrep. `tensors`: by output irrep and order ν, U (2L+1, M, …, M, k) and w (n_elements, k, K).
    Raises UserError if a U lies outside the span of our basis by more than 1e-12.
    """
    components = _components(plan, density)
    parts = []
    for term in plan.terms:
        block = tuple(plan.irreps_out)[term.out]
        u, w = tensors[(block.l, block.p), term.monomials.shape[1]]
        parts.append(np.einsum("hk,ekc->ehc", _expansion(term, u, components), w))
    return np.concatenate(parts, axis=1)


def _components(plan: ProductPlan, density: Layout) -> np.ndarray:
    """Which component of their A is each of ours."""
    starts, position = {}, 0
    for _, l, p in density:
        starts[l, p] = position
        position += 2 * l + 1
    return np.concatenate([starts[b.l, b.p] + np.arange(2 * b.l + 1) for b in plan.irreps_in])


def _expansion(term: ProductTerm, u: np.ndarray, components: np.ndarray) -> np.ndarray:
    """X (n_eta, k) with U's polynomials = Σ_η X[η, k] B_η, both as coefficients of monomials."""
    nu = term.monomials.shape[1]
    u = u[np.ix_(np.arange(u.shape[0]), *[components] * nu, np.arange(u.shape[-1]))]
    m, *indices, k = np.nonzero(u)
    shape = (len(components),) * nu
    theirs = np.ravel_multi_index(tuple(np.sort(np.stack(indices), axis=0)), shape)
    ours = np.ravel_multi_index(tuple(term.monomials.T), shape)
    monomials, place = np.unique(np.concatenate([ours, theirs]), return_inverse=True)
    basis = np.zeros((u.shape[0], len(monomials), term.coefficients.shape[1]))
    basis[:, place[: len(ours)]] = term.coefficients.transpose(0, 2, 1)
    target = np.zeros((u.shape[0], len(monomials), u.shape[-1]))
    np.add.at(target, (m, place[len(ours) :], k), u[(m, *indices, k)])
    basis, target = basis.reshape(-1, basis.shape[-1]), target.reshape(-1, target.shape[-1])
    solution = np.linalg.lstsq(basis, target, rcond=None)[0]
    if (residual := float(np.abs(basis @ solution - target).max(initial=0.0))) > RESIDUAL:
        raise UserError(f"a coupling tensor of order {nu} lies outside the symmetric equivariants by {residual:.1e}: it is not imported")
    return solution
