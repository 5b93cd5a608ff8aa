"""The product basis with coupled channels (linear ACE): every independent invariant of up to four factors A_v, each multiset of labels v once.

A label v = (k, l) is a channel k of the density and a degree l; A_v has the components A_{k l m}. Channels are pairs (element of the neighbour,
radial function), the radial function n = 1, 2, … fastest. An invariant is the scalar product of two *nodes* of one degree L,

  B_η = (2L+1)^{-1/2} Σ_M X_left,M X_right,M,

where a node is a label (L = l), a pair of labels coupled to L, X_M = Σ_{m1 m2} C^{LM}_{l1m1,l2m2} A_{v1 m1} A_{v2 m2}, or the constant 1 (L = 0). So
one factor is (v, 1), two are (v1, v2), three are (v1 v2 → l3, v3) and four are (v1 v2 → L, v3 v4 → L): all of them sums over pairs of nodes.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np

from equipot.math.coupling import clebsch_gordan
from equipot.math.symmetric import count_couplings

Label = tuple[int, int]
_DEPENDENT = 1e-8  # a normalised candidate whose part outside the span of the others is shorter is dependent
MAX_CORRELATION = 4


@dataclass(frozen=True, eq=False)
class PairNodes:
    """Pairs of a label of degree l1 and one of degree l2, coupled to L; `first` and `second` number the labels of those degrees."""

    l1: int
    l2: int
    L: int
    first: np.ndarray  # (n,) int64
    second: np.ndarray  # (n,) int64

    @property
    def coefficients(self) -> np.ndarray:
        """C[m1, m2, M]."""
        return clebsch_gordan(self.l1, self.l2, self.L)


@dataclass(frozen=True, eq=False)
class NodeProducts:
    """Invariants of two nodes of degree L. Its nodes: the labels, the pairs in the order of `CoupledBasis.pairs`, for L = 0 the constant."""

    L: int
    left: np.ndarray  # (n,) int64
    right: np.ndarray  # (n,) int64


@dataclass(frozen=True, eq=False)
class CoupledBasis:
    """All functions of the basis; they are numbered through `products`, one degree after another."""

    channels: tuple[np.ndarray, ...]  # per degree l: the channel of each label of that degree
    pairs: tuple[PairNodes, ...]
    products: tuple[NodeProducts, ...]
    labels: np.ndarray  # (n_functions, ν, 2): (channel, degree) of every factor, −1 where there are fewer

    @property
    def n_functions(self) -> int:
        """How many invariants there are."""
        return len(self.labels)

    @property
    def l_max(self) -> int:
        """Highest degree of a label."""
        return len(self.channels) - 1

    @property
    def orders(self) -> np.ndarray:
        """The number of factors of every function, (n_functions,)."""
        return (self.labels[:, :, 1] >= 0).sum(axis=1)


def factor_degree(n: np.ndarray | int, l: np.ndarray | int, angular_weight: float) -> np.ndarray | float:
    """What a factor counts in the truncation: d = n + w l, with n = 1, 2, … its radial function and l its degree."""
    return n + angular_weight * l


@lru_cache(maxsize=32)
def coupled_basis(n_elements: int, n_radial: int, l_max: int, degrees: tuple[float, ...], angular_weight: float = 1.0) -> CoupledBasis:
    """The basis of all invariants of ν = 1 … len(degrees) factors with Σ_ξ (n_ξ + w l_ξ) ≤ degrees[ν − 1].

    Raises ValueError if there is no function at all, or for more than four orders.
    Source: Drautz, Phys. Rev. B 99, 014104 (2019); Dusson et al., J. Comput. Phys. 454, 110946 (2022). The construction is ours.
    """
    if not 1 <= len(degrees) <= MAX_CORRELATION:
        raise ValueError(f"a basis of coupled channels has 1 to {MAX_CORRELATION} factors, not {len(degrees)}")
    labels = sorted(
        ((z * n_radial + n, l) for z in range(n_elements) for n in range(n_radial) for l in range(l_max + 1)),
        key=lambda v: (factor_degree(v[0] % n_radial + 1, v[1], angular_weight), v[1], v[0]),
    )
    size = [factor_degree(k % n_radial + 1, l, angular_weight) for k, l in labels]
    builder = _Builder()
    for order, degree in enumerate(degrees, start=1):
        for numbers in _multisets(size, order, degree + 1e-9):
            factors = tuple(labels[i] for i in numbers)
            if sum(l for _, l in factors) % 2 == 0:
                builder.add(factors)
    return builder.basis(len(degrees))


def _multisets(size: list[float], order: int, budget: float, first: int = 0) -> Iterator[tuple[int, ...]]:
    """Ascending tuples of `order` numbers of labels whose sizes, ascending themselves, do not exceed the budget together."""
    for i in range(first, len(size)):
        if size[i] * order > budget:
            return
        if order == 1:
            yield (i,)
        else:
            for rest in _multisets(size, order - 1, budget - size[i], i):
                yield (i, *rest)


class _Builder:
    """Collects nodes and products, each node once."""

    def __init__(self) -> None:
        self.channels: dict[int, dict[int, int]] = {}
        self.pairs: dict[tuple[int, int, int], dict[tuple[int, int], int]] = {}
        self.products: dict[int, list[tuple[tuple, tuple, tuple[Label, ...]]]] = {}

    def add(self, factors: tuple[Label, ...]) -> None:
        """Every independent invariant of these factors."""
        degrees = [l for _, l in factors]
        for v in factors:
            self._label(v)
        if len(factors) == 1:
            if degrees[0] == 0:
                self._product(0, self._label(factors[0]), ("one",), factors)
        elif len(factors) == 2:
            if degrees[0] == degrees[1]:
                self._product(degrees[0], self._label(factors[0]), self._label(factors[1]), factors)
        elif len(factors) == 3:
            if abs(degrees[0] - degrees[1]) <= degrees[2] <= degrees[0] + degrees[1]:
                self._product(degrees[2], self._pair(factors[0], factors[1], degrees[2]), self._label(factors[2]), factors)
        else:
            equal = tuple(factors.index(v) for v in factors)
            for L in intermediate_degrees(tuple(degrees), equal):
                self._product(L, self._pair(factors[0], factors[1], L), self._pair(factors[2], factors[3], L), factors)

    def _label(self, v: Label) -> tuple:
        known = self.channels.setdefault(v[1], {})
        return ("label", known.setdefault(v[0], len(known)))

    def _pair(self, a: Label, b: Label, L: int) -> tuple:
        group = (a[1], b[1], L)
        known = self.pairs.setdefault(group, {})
        key = (self._label(a)[1], self._label(b)[1])
        return ("pair", group, known.setdefault(key, len(known)))

    def _product(self, L: int, left: tuple, right: tuple, factors: tuple[Label, ...]) -> None:
        self.products.setdefault(L, []).append((left, right, factors))

    def basis(self, correlation: int) -> CoupledBasis:
        """What was collected, with nodes numbered."""
        if not self.products:
            raise ValueError("the highest degrees leave no function: raise product.degrees")
        l_max = max(self.channels)
        channels = tuple(np.array(list(self.channels.get(l, {})), dtype=np.int64) for l in range(l_max + 1))
        groups = sorted(self.pairs, key=lambda g: (g[2], g[0], g[1]))
        start, total = {}, {l: len(c) for l, c in enumerate(channels)}
        for group in groups:
            start[group] = total.get(group[2], 0)
            total[group[2]] = start[group] + len(self.pairs[group])

        def number(node: tuple) -> int:
            if node[0] == "label":
                return node[1]
            return total[0] if node[0] == "one" else start[node[1]] + node[2]

        pairs = tuple(PairNodes(*g, *np.array(list(self.pairs[g]), dtype=np.int64).T.copy()) for g in groups)
        products, labels = [], []
        for L in sorted(self.products):
            sides = np.array([(number(left), number(right)) for left, right, _ in self.products[L]], dtype=np.int64)
            products.append(NodeProducts(L, sides[:, 0].copy(), sides[:, 1].copy()))
            labels += [[*factors, *[(-1, -1)] * (correlation - len(factors))] for _, _, factors in self.products[L]]
        return CoupledBasis(channels, pairs, tuple(products), np.array(labels, dtype=np.int64))


@cache
def intermediate_degrees(degrees: tuple[int, int, int, int], equal: tuple[int, int, int, int]) -> tuple[int, ...]:
    """The L for which (v1 v2 → L)·(v3 v4 → L) are independent invariants that span all of four labels of these degrees.

    `equal[i]` is the place of the first label that is the same as label i. Where labels are equal, products over different L are dependent:
    those kept, in the order of L, are as many as there are couplings of the symmetric powers. Raises RuntimeError if they are not.
    """
    l1, l2, l3, l4 = degrees
    candidates = range(max(abs(l1 - l2), abs(l3 - l4)), min(l1 + l2, l3 + l4) + 1)
    rng = np.random.default_rng(0)
    points = 2 * len(candidates) + 4
    first = [rng.normal(size=(points, 2 * l + 1)) for l in degrees]
    x = [first[equal[i]] for i in range(4)]
    kept, span = [], []
    for L in candidates:
        left = np.einsum("pa,pb,abM->pM", x[0], x[1], clebsch_gordan(l1, l2, L))
        right = np.einsum("pa,pb,abM->pM", x[2], x[3], clebsch_gordan(l3, l4, L))
        values = (left * right).sum(1)
        # the typical size of its terms says what is rounding of zero
        rest = values / np.sqrt((left**2).sum(1) * (right**2).sum(1) + 1e-300).max() if np.abs(values).max() > 1e-12 else 0.0 * values
        norm = np.linalg.norm(rest)
        if norm < _DEPENDENT:
            continue
        rest = rest / norm
        for _ in range(2):
            for b in span:
                rest = rest - (b @ rest) * b
        if np.linalg.norm(rest) > _DEPENDENT:
            kept.append(L)
            span.append(rest / np.linalg.norm(rest))
    powers = tuple(sorted((degrees[i], n) for i, n in Counter(equal).items()))
    if len(kept) != count_couplings(powers, 0):
        raise RuntimeError(f"{len(kept)} invariants of degrees {degrees} with equal labels {equal}: not the number that exists")
    return tuple(kept)
