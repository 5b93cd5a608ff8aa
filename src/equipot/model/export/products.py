"""Products of the density as polynomials: what the native engine evaluates.

Monomials (n, 3) of components of a row, −1 where there are fewer factors; terms (monomial, component of the result, weight), their values, and the
weights (1 or n_elements, n_weights, channels): coefficient = Σ value · weight over the terms of a monomial and a component.
"""

import math
from collections.abc import Iterator

import numpy as np

from equipot.errors import CannotExpressError
from equipot.nn.coupled import CoupledProduct
from equipot.nn.product import SymmetricProduct
from equipot.ops.plan import ProductPlan

Tensors = dict[str, np.ndarray]
HIGHEST_CORRELATION = 3
MOST_COMPONENTS = 2047  # of the engine's `max_components`


def product_tensors(product: SymmetricProduct, name: str) -> Tensors:
    """Of products channel by channel: the components are those of one channel."""
    plan: ProductPlan = product.plan
    if plan.correlation > HIGHEST_CORRELATION:
        raise CannotExpressError(
            f"correlation {plan.correlation}: the native engine has products of up to {HIGHEST_CORRELATION} factors; use the torch engine"
        )
    number: dict[tuple[int, ...], int] = {}
    terms: list[tuple[int, int, int]] = []
    values: list[float] = []
    for term in plan.terms:
        first = list(plan.irreps_out)[term.out].start // plan.n_channels
        for m, eta, n in zip(*np.nonzero(term.coefficients), strict=True):
            monomial = tuple(sorted(term.monomials[n].tolist(), reverse=True))
            monomial += (-1,) * (HIGHEST_CORRELATION - len(monomial))
            terms.append((number.setdefault(monomial, len(number)), first + int(m), term.w_start + int(eta)))
            values.append(term.coefficients[m, eta, n])
    monomials = np.array(list(number), dtype=np.int64).reshape(-1, HIGHEST_CORRELATION)
    table = np.array(terms, dtype=np.int64).reshape(-1, 3)
    order = np.lexsort(monomials.T[::-1])
    table[:, 0] = np.argsort(order)[table[:, 0]]
    by_monomial = np.lexsort((table[:, 2], table[:, 1], table[:, 0]))
    weight = product.weight.detach().numpy()
    return {
        f"{name}.monomials": monomials[order],
        f"{name}.terms": table[by_monomial],
        f"{name}.values": np.array(values)[by_monomial],
        f"{name}.weights": weight if weight.ndim == 3 else weight[None],
    }


def coupled_tensors(product: CoupledProduct, name: str) -> Tensors:
    """Of products of coupled channels: the components are those of all channels, and the weights are folded in already."""
    if product.irreps_in.dim > MOST_COMPONENTS:
        raise CannotExpressError(
            f"a product of coupled channels with {product.irreps_in.dim} components: the native engine has up to {MOST_COMPONENTS}; use the torch engine"
        )
    weight = product.weight.detach().numpy()
    weight = weight if weight.ndim == 3 else weight[None]
    factors, etas, values = (np.concatenate(parts) for parts in zip(*_coupled_terms(product), strict=True))
    monomials, number = np.unique(-np.sort(-factors, axis=1), axis=0, return_inverse=True)
    n_sets, _, n_out = weight.shape
    folded = np.zeros((len(monomials), n_sets, n_out))
    np.add.at(folded, number.reshape(-1), values[:, None, None] * weight[:, etas].swapaxes(0, 1))
    each = np.arange(len(monomials) * n_out)
    return {
        f"{name}.monomials": monomials,
        f"{name}.terms": np.stack([each // n_out, each % n_out, each], axis=1),
        f"{name}.values": np.ones(len(each)),
        f"{name}.weights": folded.swapaxes(0, 1).reshape(n_sets, -1, 1),
    }


def _coupled_terms(product: CoupledProduct) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Factors (n, 3), number of the function and value of every monomial of every function B_η, before equal ones are collected."""
    basis, first = product.basis, 0
    for nodes in basis.products:
        eta = first + np.arange(len(nodes.left))
        first += len(nodes.left)
        for left_here, left_terms in _nodes(product, nodes.L, nodes.left):
            for right_here, right_terms in _nodes(product, nodes.L, nodes.right):
                both = left_here & right_here
                if not both.any():
                    continue
                for m, left, c in left_terms:
                    for m2, right, d in right_terms:
                        if m != m2:
                            continue
                        factors = np.concatenate([left[both], right[both]], axis=1)
                        padded = np.full((len(factors), HIGHEST_CORRELATION), -1)
                        padded[:, : factors.shape[1]] = factors
                        yield padded, eta[both], np.full(len(factors), c * d / math.sqrt(2 * nodes.L + 1))


def _nodes(product: CoupledProduct, L: int, chosen: np.ndarray) -> Iterator[tuple[np.ndarray, list[tuple[int, np.ndarray, float]]]]:
    """For each kind of node of degree L: which of `chosen` are of it, and its terms (M, factors (n, 1 or 2 or 0), coefficient), rows as in `chosen`."""
    basis, n = product.basis, len(chosen)

    def component(l: int, m: int, labels: np.ndarray) -> np.ndarray:
        block = product.irreps_in.find(l, (-1) ** l)
        channels = basis.channels[l]
        return block.start + m * block.mul + channels[np.clip(labels, 0, len(channels) - 1)]

    start = 0
    if basis.l_max >= L:
        count = len(basis.channels[L])
        yield chosen < count, [(m, component(L, m, chosen)[:, None], 1.0) for m in range(2 * L + 1)]
        start = count
    for pair in basis.pairs:
        if pair.L != L:
            continue
        here = (chosen >= start) & (chosen < start + len(pair.first))
        local = np.clip(chosen - start, 0, len(pair.first) - 1)
        terms = []
        for m1, m2, m in zip(*np.nonzero(pair.coefficients), strict=True):
            factors = np.stack([component(pair.l1, m1, pair.first[local]), component(pair.l2, m2, pair.second[local])], axis=1)
            terms.append((int(m), factors, float(pair.coefficients[m1, m2, m])))
        yield here, terms
        start += len(pair.first)
    if L == 0:
        yield chosen == start, [(0, np.zeros((n, 0), dtype=np.int64), 1.0)]
