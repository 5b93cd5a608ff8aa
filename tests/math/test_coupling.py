import numpy as np
import pytest

from equipot.math import E3NN_044_FLIPPED, clebsch_gordan, wigner_d

TRIPLES = [(a, b, c) for a in range(9) for b in range(9) for c in range(abs(a - b), min(8, a + b) + 1)]


def test_values_and_signs_are_those_of_e3nn(o3):
    import torch

    for l1, l2, l3 in TRIPLES:
        expected = np.sqrt(2 * l3 + 1) * o3.wigner_3j(l1, l2, l3, dtype=torch.float64).numpy()
        np.testing.assert_allclose(clebsch_gordan(l1, l2, l3), expected, rtol=0, atol=1e-12, err_msg=f"{l1} {l2} {l3}")


def test_vector_products():
    """1 ⊗ 1 → 0 is the dot product over √3, 1 ⊗ 1 → 1 the cross product over √2."""
    a, b = np.array([0.3, -1.2, 0.7]), np.array([1.1, 0.4, -0.5])
    np.testing.assert_allclose(np.einsum("xym,x,y->m", clebsch_gordan(1, 1, 0), a, b), [a @ b / np.sqrt(3)], atol=1e-14)
    np.testing.assert_allclose(np.einsum("xym,x,y->m", clebsch_gordan(1, 1, 1), a, b), np.cross(a, b) / np.sqrt(2), atol=1e-14)


def test_scalar_factor_is_the_identity():
    for l in range(9):
        np.testing.assert_allclose(clebsch_gordan(l, 0, l)[:, 0, :], np.eye(2 * l + 1), atol=1e-14)
        np.testing.assert_allclose(clebsch_gordan(0, l, l)[0], np.eye(2 * l + 1), atol=1e-14)


@pytest.mark.parametrize(("l1", "l2"), [(1, 1), (2, 1), (3, 3), (4, 2), (8, 5)])
def test_orthogonal_and_complete(l1, l2):
    stacked = np.concatenate([clebsch_gordan(l1, l2, l3) for l3 in range(abs(l1 - l2), l1 + l2 + 1)], axis=2)
    matrix = stacked.reshape((2 * l1 + 1) * (2 * l2 + 1), -1)
    assert matrix.shape[0] == matrix.shape[1]
    np.testing.assert_allclose(matrix.T @ matrix, np.eye(len(matrix)), atol=1e-12)


@pytest.mark.parametrize("triple", [(1, 1, 1), (1, 2, 2), (2, 2, 3), (3, 1, 2), (3, 3, 3), (4, 4, 5), (8, 8, 8)])
def test_equivariant(triple, rotation):
    d1, d2, d3 = (wigner_d(l, rotation) for l in triple)
    c = clebsch_gordan(*triple)
    np.testing.assert_allclose(np.einsum("abm,aA,bB->ABm", c, d1, d2), np.einsum("ABM,mM->ABm", c, d3), atol=1e-12)


def test_read_only_and_cached():
    c = clebsch_gordan(2, 2, 2)
    assert c is clebsch_gordan(2, 2, 2)
    assert c.dtype == np.float64
    with pytest.raises(ValueError, match="read-only"):
        c[0, 0, 0] = 1.0


@pytest.mark.parametrize("triple", [(1, 1, 3), (2, 0, 1), (0, 0, 1), (-1, 1, 0)])
def test_triangle_violation_is_refused(triple):
    with pytest.raises(ValueError, match="do not couple"):
        clebsch_gordan(*triple)


def test_flipped_triples_are_the_published_ones():
    words = "122 133 144 155 166 177 188 346 357 368 445 456 467 478 555 566 577 588"
    assert {"".join(map(str, triple)) for triple in E3NN_044_FLIPPED} == set(words.split())
    assert all(sum(triple) % 2 == 1 and list(triple) == sorted(triple) for triple in E3NN_044_FLIPPED)
