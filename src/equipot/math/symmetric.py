"""Generalised Clebsch-Gordan couplings: bases of the equivariant symmetric ν-linear maps Sym^ν(V) → (L, P), without redundancy.

V = ⊕_b (l_b, p_b) is one channel of the A basis, M = Σ_b (2l_b+1) components. A symmetric ν-linear map is a homogeneous polynomial of degree ν, and
that is how it is stored: one coefficient per monomial A_{i1} … A_{iν}, i1 ≤ … ≤ iν. Polynomials of one *multiset of blocks* couple only among
themselves, so each basis element belongs to one such label. It is built in two steps, both polynomial products coupled by Clebsch-Gordan:

* powers of one block, Sym^n(l) → L': every P_{L''} of degree n−1 times A_l, coupled to L'; these candidates span the space but are dependent, and
  Gram-Schmidt in the order of (L'', index) keeps the independent ones;
* different blocks, from left to right, through every intermediate L: orthogonal by construction, so nothing is dropped.

The result is deterministic: order and signs follow from the order of the blocks and the signs of `clebsch_gordan`.
"""

from collections import Counter
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import combinations_with_replacement, permutations, product
from math import factorial, prod, sqrt

import numpy as np

from equipot.math.coupling import clebsch_gordan

Powers = tuple[tuple[int, int], ...]
"""(degree l, exponent n) of each different block in a product: the shape of a label, parity aside."""

_ROUNDING = 1e-12  # coefficients below are rounding of exact zeros
_INDEPENDENT = 1e-6  # a normalised candidate whose part outside the span is shorter is dependent


@dataclass(frozen=True, eq=False)
class SparseCoupling:
    """An orthonormal basis of the couplings to (L, P) as polynomials: B[m, η] = Σ_n values[n] Π_ξ A[indices[n, ξ]] over n with (rows, eta)[n] = (m, η).

    As dense symmetric tensors, Σ_{i1…iν} T[m, i, η] T[m', i, η'] = δ(m, m') δ(η, η'); for ν = 1 that is the identity, and for ν = 2
    B is the Clebsch-Gordan coupling of a block with itself, or √2 times that of two different blocks. Sorted by η, then m, then monomial. Arrays are read-only.
    """

    indices: np.ndarray  # (nnz, ν) int64, each row ascending: the monomial
    rows: np.ndarray  # (nnz,) int64: m, 0 … 2L
    eta: np.ndarray  # (nnz,) int64: basis element
    values: np.ndarray  # (nnz,) float64: the coefficient, multiplicity of the monomial folded in
    labels: tuple[tuple[tuple[int, int], ...], ...]  # per η: the (l, p) of its ν factors
    l: int  # L
    dim: int  # M

    @property
    def n_eta(self) -> int:
        """Number of independent couplings."""
        return len(self.labels)

    @property
    def correlation(self) -> int:
        """ν."""
        return self.indices.shape[1]

    def dense(self) -> np.ndarray:
        """The same as symmetric tensors: B[m, η] = Σ_{i1…iν} T[m, i1, …, iν, η] A[i1] … A[iν].

        Returns (2L+1, M, …, M, n_eta) float64; it grows as M^ν.
        """
        tensor = np.zeros((2 * self.l + 1, *[self.dim] * self.correlation, self.n_eta))
        share = np.array([prod(factorial(n) for n in Counter(i).values()) for i in self.indices.tolist()]) / factorial(self.correlation)
        for order in permutations(range(self.correlation)):
            columns = tuple(self.indices[:, axis] for axis in order)
            tensor[(self.rows, *columns, self.eta)] = self.values * share
        return tensor


@lru_cache(maxsize=256)
def symmetric_coupling(irreps: tuple[tuple[int, int], ...], correlation: int, L: int, P: int) -> SparseCoupling:
    """The basis of O(3)-equivariant symmetric ν-linear maps from ⊕_b (l_b, p_b) to (L, P); see `SparseCoupling` and the head of this file.

    Args: irreps, the different (l, p) of A in the order of its components; correlation ν ≥ 1. The number of couplings,
    `symmetric_multiplicity`, may be 0. Raises ValueError if ν < 1 or an irrep occurs twice.
    Source: Dusson et al., J. Comput. Phys. 454, 110946 (2022); the construction is ours.

    >>> symmetric_coupling(((0, 1), (1, -1)), 2, 0, 1).labels
    (((0, 1), (0, 1)), ((1, -1), (1, -1)))
    """
    _check(irreps, correlation)
    starts = np.cumsum([0] + [2 * l + 1 for l, _ in irreps])
    parts, labels = [], []
    for blocks in combinations_with_replacement(range(len(irreps)), correlation):
        if prod(irreps[b][1] for b in blocks) != P:
            continue
        exponents = sorted(Counter(blocks).items())
        monomials = _product_monomials([(int(starts[b]), irreps[b][0], n) for b, n in exponents])
        for coefficients in _couple_to(tuple((irreps[b][0], n) for b, n in exponents), L):
            parts.append((len(labels), monomials, coefficients))
            labels.append(tuple((int(irreps[b][0]), int(irreps[b][1])) for b in blocks))
    if len(labels) != symmetric_multiplicity(irreps, correlation, L, P):
        raise RuntimeError(f"{len(labels)} couplings of {irreps} at correlation {correlation} to L={L}, P={P}: not the number that exists")
    return _assemble(parts, tuple(labels), correlation, L, int(starts[-1]))


def symmetric_multiplicity(irreps: tuple[tuple[int, int], ...], correlation: int, L: int, P: int) -> int:
    """How often (L, P) occurs in Sym^ν(⊕_b (l_b, p_b)), from characters alone.

    With N(w) the number of monomials of degree ν, parity P and weight w = Σ m, the multiplicity of L is N(L) − N(L+1).
    Raises ValueError if ν < 1 or an irrep occurs twice.

    >>> symmetric_multiplicity(((0, 1), (1, -1), (2, 1), (3, -1)), 3, 0, 1)
    8
    """
    _check(irreps, correlation)
    counts: Counter[tuple[int, int, int]] = Counter({(0, 0, 1): 1})  # (degree, weight, parity) -> monomials
    for l, p in irreps:
        for m in range(-l, l + 1):
            grown: Counter[tuple[int, int, int]] = Counter()
            for (degree, weight, parity), number in counts.items():
                for n in range(correlation - degree + 1):
                    grown[degree + n, weight + n * m, parity * p**n] += number
            counts = grown
    return counts[correlation, L, P] - counts[correlation, L + 1, P]


def count_couplings(powers: Powers, L: int) -> int:
    """How often L occurs in Π_b Sym^{n_b}(l_b), for (l_b, n_b) of different blocks, from characters alone: weights m = L less those of L + 1.

    >>> count_couplings(((1, 2), (2, 1)), 0), count_couplings(((1, 4),), 0)
    (1, 1)
    """
    counts: Counter[int] = Counter({0: 1})
    for l, n in powers:
        single = Counter(sum(monomial) - n * l for monomial in _monomials(l, n))
        grown: Counter[int] = Counter()
        for weight, number in counts.items():
            for m, times in single.items():
                grown[weight + m] += number * times
        counts = grown
    return counts[L] - counts[L + 1]


def _check(irreps: tuple[tuple[int, int], ...], correlation: int) -> None:
    if correlation < 1:
        raise ValueError(f"correlation {correlation}: expected 1 or more")
    if len({(l, p) for l, p in irreps}) != len(irreps):
        raise ValueError(f"irreps {irreps}: expected each (l, p) once")


def _assemble(
    parts: list[tuple[int, np.ndarray, np.ndarray]], labels: tuple[tuple[tuple[int, int], ...], ...], correlation: int, l: int, dim: int
) -> SparseCoupling:
    """Coordinates of the coefficients (2L+1, n_monomials) of every η that are not zero."""
    nothing = np.zeros(0, dtype=np.int64)
    indices, rows, eta, values = [nothing.reshape(0, correlation)], [nothing], [nothing], [nothing.astype(float)]
    for number, monomials, coefficients in parts:
        row, column = np.nonzero(np.abs(coefficients) > _ROUNDING)
        indices.append(monomials[column])
        rows.append(row)
        eta.append(np.full(len(row), number))
        values.append(coefficients[row, column])
    arrays = [np.concatenate(a) for a in (indices, rows, eta, values)]
    for array in arrays:
        array.setflags(write=False)
    return SparseCoupling(*arrays, labels=labels, l=l, dim=dim)


def _couple_to(powers: Powers, L: int) -> list[np.ndarray]:
    """Coefficients (2L+1, n_monomials) of every coupling Π_b Sym^{n_b}(l_b) → L, normalised as tensors of the whole product."""
    *first, (l, n) = powers
    scale = sqrt(factorial(sum(n for _, n in powers)) / prod(factorial(n) for _, n in powers))
    return [scale * c for c in _pair(_multiplets(tuple(first)), _power(l, n), L)]


@cache
def _multiplets(powers: Powers) -> dict[int, list[np.ndarray]]:
    """L → couplings of a product of powers, each normalised factor by factor."""
    if not powers:
        return {0: [np.ones((1, 1))]}
    *first, (l, n) = powers
    left, right = _multiplets(tuple(first)), _power(l, n)
    found = {L: _pair(left, right, L) for L in range(max(left) + max(right) + 1)}
    return {L: couplings for L, couplings in found.items() if couplings}


def _pair(left: dict[int, list[np.ndarray]], right: dict[int, list[np.ndarray]], L: int) -> list[np.ndarray]:
    """Every coupling to L of one multiplet of each side; monomials of the product are pairs, those of `right` fastest."""
    result = []
    for l1, l2 in product(sorted(left), sorted(right)):
        if abs(l1 - l2) <= L <= l1 + l2:
            c = clebsch_gordan(l1, l2, L)
            for a, b in product(left[l1], right[l2]):
                result.append(np.einsum("xym,xa,yb->mab", c, a, b, optimize=True).reshape(2 * L + 1, -1))
    return result


@cache
def _power(l: int, n: int) -> dict[int, list[np.ndarray]]:
    """L → orthonormal basis of Sym^n(l) → L, each (2L+1, n_monomials) with the monomials of `_monomials`."""
    if n == 1:
        return {l: [np.eye(2 * l + 1)]}
    lower, up = _power(l, n - 1), _raise_index(l, n)
    result = {}
    for L in range(n * l + 1):
        reachable = [inner for inner in sorted(lower) if abs(inner - l) <= L <= inner + l]
        candidates = [_times_variable(c, inner, l, L, n, up) for inner in reachable for c in lower[inner]]
        basis = _independent(candidates, _norm_weights(l, n))
        if basis:
            result[L] = basis
    return result


def _times_variable(coefficients: np.ndarray, inner: int, l: int, L: int, n: int, up: np.ndarray) -> np.ndarray:
    """The polynomial of degree n that couples one of degree n−1 and degree `inner` with the variable A_l to L."""
    terms = np.einsum("xym,xa->may", clebsch_gordan(inner, l, L), coefficients)
    result = np.zeros((2 * L + 1, len(_monomials(l, n))))
    np.add.at(result, (slice(None), up), terms)
    return result


def _independent(candidates: list[np.ndarray], weights: np.ndarray) -> list[np.ndarray]:
    """Gram-Schmidt, twice, over candidates that are multiples of co-isometries; ⟨a, b⟩ = Σ weights · a · b / (2L+1)."""
    basis: list[np.ndarray] = []
    for candidate in candidates:
        length = sqrt((weights * candidate**2).sum() / len(candidate))
        if length < _INDEPENDENT:
            continue
        rest = candidate / length
        for _ in range(2):
            for b in basis:
                rest = rest - (weights * b * rest).sum() / len(b) * b
        length = sqrt((weights * rest**2).sum() / len(rest))
        if length > _INDEPENDENT:
            basis.append(rest / length)
    return basis


@cache
def _monomials(l: int, n: int) -> tuple[tuple[int, ...], ...]:
    """The monomials of degree n in 2l+1 variables, as ascending index tuples."""
    return tuple(combinations_with_replacement(range(2 * l + 1), n))


def _raise_index(l: int, n: int) -> np.ndarray:
    """[a, y]: the number of the monomial of degree n that is monomial a of degree n−1 times variable y."""
    number = {monomial: i for i, monomial in enumerate(_monomials(l, n))}
    return np.array([[number[tuple(sorted((*monomial, y)))] for y in range(2 * l + 1)] for monomial in _monomials(l, n - 1)])


def _norm_weights(l: int, n: int) -> np.ndarray:
    """α!/n! per monomial: the squared norm of the symmetric tensor of a monomial."""
    return np.array([prod(factorial(k) for k in Counter(monomial).values()) for monomial in _monomials(l, n)]) / factorial(n)


def _product_monomials(factors: list[tuple[int, int, int]]) -> np.ndarray:
    """Index tuples (n_monomials, ν) of the product of monomials of each (start, l, n), the last factor fastest."""
    choices = [[tuple(start + i for i in monomial) for monomial in _monomials(l, n)] for start, l, n in factors]
    return np.array([sum(parts, ()) for parts in product(*choices)], dtype=np.int64)
