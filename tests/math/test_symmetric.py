from itertools import combinations_with_replacement
from math import comb

import numpy as np
import pytest

from equipot.math import clebsch_gordan, representation, symmetric_coupling, symmetric_multiplicity

NATURAL = {l_max: tuple((l, (-1) ** l) for l in range(l_max + 1)) for l_max in range(5)}
BOTH = {l_max: tuple((l, p) for l in range(l_max + 1) for p in (1, -1)) for l_max in range(4)}
CASES = [
    *((NATURAL[3], nu, L, (-1) ** L) for nu in (1, 2, 3, 4) for L in (0, 1, 2, 3)),
    *((NATURAL[2], nu, L, -((-1) ** L)) for nu in (3, 4) for L in (1, 2)),
    (NATURAL[3], 4, 0, -1),
    *((BOTH[2], nu, L, p) for nu in (2, 3) for L in (0, 1, 2) for p in (1, -1)),
    (((2, 1),), 4, 2, 1),
    (((3, -1), (1, 1)), 3, 2, 1),
]


def evaluate(coupling, a):
    """B (2L+1, n_eta, points) of A (M, points), straight from the coordinates."""
    b = np.zeros((2 * coupling.l + 1, coupling.n_eta, a.shape[1]))
    np.add.at(b, (coupling.rows, coupling.eta), coupling.values[:, None] * a[coupling.indices].prod(axis=1))
    return b


def act(irreps, matrix, a):
    """The group element on one channel of A (M, points)."""
    blocks = np.split(a, np.cumsum([2 * l + 1 for l, _ in irreps])[:-1])
    return np.concatenate([representation(l, p, matrix) @ block for (l, p), block in zip(irreps, blocks, strict=True)])


@pytest.mark.parametrize(
    ("l_max", "correlation", "L", "count"), [(3, 3, 0, 8), (3, 3, 1, 12), (3, 2, 1, 3), (2, 4, 0, 9), (3, 1, 2, 1), (3, 4, 0, 23)]
)
def test_known_counts(l_max, correlation, L, count):
    assert symmetric_multiplicity(NATURAL[l_max], correlation, L, (-1) ** L) == count
    assert symmetric_coupling(NATURAL[l_max], correlation, L, (-1) ** L).n_eta == count


@pytest.mark.parametrize(("irreps", "correlation"), [(NATURAL[3], 3), (NATURAL[2], 4), (BOTH[1], 4), (BOTH[2], 2), (((4, 1),), 3)])
def test_multiplicities_exhaust_the_symmetric_power(irreps, correlation):
    """Σ_LP multiplicity (2L+1) is the number of monomials."""
    m = sum(2 * l + 1 for l, _ in irreps)
    degrees = range(correlation * max(l for l, _ in irreps) + 1)
    total = sum(symmetric_multiplicity(irreps, correlation, L, P) * (2 * L + 1) for L in degrees for P in (1, -1))
    assert total == comb(m + correlation - 1, correlation)


def multiplicity_by_characters(irreps, correlation, L, P) -> float:
    """How often (L, P) occurs in the symmetric power, by the integral of characters over O(3).

    n = ½ Σ_{g = R, −R} (1/π) ∫_0^π (1 − cos θ) χ_LP(g) χ_ν(g) dθ, with the symmetric power's character from the power sums
    ν χ_ν(g) = Σ_{k=1}^ν χ_1(g^k) χ_{ν−k}(g) and χ_lp(±R_θ^k) = p^{[−, k odd]} sin((2l+1)kθ/2)/sin(kθ/2).
    """
    n = 2 * (correlation + 1) * (max(l for l, _ in irreps) + 1) + 2 * L + 3  # a trigonometric polynomial of lower order: the sum is exact
    theta = 2 * np.pi * (np.arange(n) + 0.5) / n

    def character(l, p, k, sign):
        return (p if sign < 0 and k % 2 else 1) * (1 + 2 * sum(np.cos(m * k * theta) for m in range(1, l + 1)))

    total = 0.0
    for sign in (1, -1):
        single = [None, *(sum(character(l, p, k, sign) for l, p in irreps) for k in range(1, correlation + 1))]
        power = [np.ones_like(theta)]
        for nu in range(1, correlation + 1):
            power.append(sum(single[k] * power[nu - k] for k in range(1, nu + 1)) / nu)
        total += 0.5 * ((1 - np.cos(theta)) * character(L, P, 1, sign) * power[correlation]).mean()
    return total


@pytest.mark.parametrize("irreps", [NATURAL[1], NATURAL[2], NATURAL[3], BOTH[1], BOTH[2], ((1, 1), (2, -1))], ids=str)
@pytest.mark.parametrize("correlation", [1, 2, 3, 4])
def test_the_size_of_the_basis_is_the_character_formulas(irreps, correlation):
    """For every (L, P); the couplings themselves where they are few."""
    for L in range(4):
        for P in (1, -1):
            expected = multiplicity_by_characters(irreps, correlation, L, P)
            assert abs(expected - round(expected)) < 1e-9
            assert symmetric_multiplicity(irreps, correlation, L, P) == round(expected)
            if sum(2 * l + 1 for l, _ in irreps) ** correlation < 9000:
                assert symmetric_coupling(irreps, correlation, L, P).n_eta == round(expected)


@pytest.mark.parametrize(
    ("irreps", "correlation", "L", "P"),
    [
        (NATURAL[2], 2, 1, -1),
        (NATURAL[2], 3, 0, 1),
        (NATURAL[2], 3, 1, 1),
        (BOTH[1], 3, 1, -1),
        (BOTH[1], 3, 0, -1),
        (((3, -1),), 3, 1, -1),
    ],
)
def test_nothing_is_missing(irreps, correlation, L, P, rotation, reflection, rng):
    """Brute force: the polynomials p with p(g a) = D(g) p(a) for two group elements, by the null space of these equations."""
    m = sum(2 * l + 1 for l, _ in irreps)
    monomials = np.array(list(combinations_with_replacement(range(m), correlation)))
    a = rng.normal(size=(m, 2 * len(monomials)))
    rows = []
    for matrix in (rotation, reflection):
        moved, still = (x[monomials].prod(axis=1).T for x in (act(irreps, matrix, a), a))
        action = np.linalg.lstsq(still, moved, rcond=None)[0]  # moved = still @ action
        rows.append(np.kron(np.eye(2 * L + 1), action) - np.kron(representation(L, P, matrix), np.eye(len(monomials))))
    singular = np.linalg.svd(np.concatenate(rows), compute_uv=False)
    assert (singular < 1e-8).sum() == symmetric_coupling(irreps, correlation, L, P).n_eta


@pytest.mark.parametrize(("irreps", "correlation", "L", "P"), CASES)
def test_equivariant(irreps, correlation, L, P, rotation, reflection, rng):
    coupling = symmetric_coupling(irreps, correlation, L, P)
    assert coupling.n_eta > 0
    a = rng.normal(size=(coupling.dim, 4))
    for matrix in (rotation, reflection):
        expected = np.einsum("mM,Mep->mep", representation(L, P, matrix), evaluate(coupling, a))
        tolerance = 1e-12 * (1 + abs(expected).max(initial=0))
        np.testing.assert_allclose(evaluate(coupling, act(irreps, matrix, a)), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize(("irreps", "correlation", "L", "P"), [case for case in CASES if case[1] < 4 or len(case[0]) < 4])
def test_dense_is_orthonormal_symmetric_and_the_same_map(irreps, correlation, L, P, rng):
    coupling = symmetric_coupling(irreps, correlation, L, P)
    tensor = coupling.dense()
    assert tensor.shape == (2 * L + 1, *[coupling.dim] * correlation, coupling.n_eta)
    flat = tensor.reshape(2 * L + 1, -1, coupling.n_eta)
    gram = np.einsum("mie,Mif->meMf", flat, flat, optimize=True).reshape((2 * L + 1) * coupling.n_eta, -1)
    np.testing.assert_allclose(gram, np.eye(len(gram)), atol=1e-12)
    if correlation > 1:
        np.testing.assert_allclose(tensor, tensor.swapaxes(1, correlation), atol=1e-14)
    a = rng.normal(size=coupling.dim)
    contracted = tensor
    for _ in range(correlation):
        contracted = np.tensordot(contracted, a, axes=(1, 0))
    np.testing.assert_allclose(contracted, evaluate(coupling, a[:, None])[:, :, 0], rtol=0, atol=1e-11)


@pytest.mark.parametrize(("correlation", "L"), [(3, 0), (3, 1), (4, 0), (4, 2)])
def test_independent_as_functions(correlation, L, rng):
    coupling = symmetric_coupling(NATURAL[3], correlation, L, (-1) ** L)
    values = evaluate(coupling, rng.normal(size=(coupling.dim, 3 * coupling.n_eta)))
    singular = np.linalg.svd(values.transpose(0, 2, 1).reshape(-1, coupling.n_eta), compute_uv=False)
    assert singular[-1] > 1e-3 * singular[0]


@pytest.mark.parametrize("case", [(NATURAL[3], 3, 1, -1), (BOTH[1], 3, 1, 1), (NATURAL[2], 4, 0, 1)])
def test_labels_and_order_of_the_coordinates(case):
    irreps, correlation, _, P = case
    coupling = symmetric_coupling(*case)
    block_of = np.repeat(np.arange(len(irreps)), [2 * l + 1 for l, _ in irreps])
    assert (np.diff(coupling.indices, axis=1) >= 0).all()
    for indices, eta in zip(coupling.indices, coupling.eta, strict=True):
        assert tuple(irreps[b] for b in block_of[indices]) == coupling.labels[eta]
    assert all(np.prod([p for _, p in label]) == P for label in coupling.labels)
    keys = [(e, m, *i) for e, m, i in zip(coupling.eta, coupling.rows, coupling.indices.tolist(), strict=True)]
    assert keys == sorted(set(keys))
    assert coupling.correlation == correlation


def test_first_and_second_order_are_identity_and_clebsch_gordan():
    np.testing.assert_allclose(symmetric_coupling(NATURAL[3], 1, 2, 1).dense()[:, 4:9, 0], np.eye(5), atol=1e-14)
    squares = symmetric_coupling(((2, 1),), 2, 2, 1).dense()[..., 0]
    np.testing.assert_allclose(squares.transpose(1, 2, 0), clebsch_gordan(2, 2, 2), atol=1e-14)
    mixed = symmetric_coupling(((1, -1), (2, 1)), 2, 1, -1).dense()[:, :3, 3:, 0]
    np.testing.assert_allclose(mixed.transpose(1, 2, 0) * np.sqrt(2), clebsch_gordan(1, 2, 1), atol=1e-14)


def test_antisymmetric_couplings_do_not_exist():
    """a × a = 0, yet the cross product of two different vectors is there."""
    assert symmetric_coupling(((1, -1),), 2, 1, 1).n_eta == 0
    assert symmetric_coupling(((1, -1),), 2, 1, 1).dense().shape == (3, 3, 3, 0)
    assert symmetric_coupling(((1, 1), (1, -1)), 2, 1, -1).n_eta == 1


def test_cached_and_read_only():
    coupling = symmetric_coupling(NATURAL[2], 2, 0, 1)
    assert coupling is symmetric_coupling(NATURAL[2], 2, 0, 1)
    with pytest.raises(ValueError, match="read-only"):
        coupling.values[0] = 0.0


@pytest.mark.parametrize("function", [symmetric_coupling, symmetric_multiplicity])
def test_impossible_requests_are_refused(function):
    with pytest.raises(ValueError, match="correlation 0"):
        function(NATURAL[1], 0, 0, 1)
    with pytest.raises(ValueError, match="once"):
        function(((1, -1), (1, -1)), 2, 0, 1)
