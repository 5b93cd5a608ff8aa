"""Harmonics and Wigner matrices: each is checked on its own and against the other."""

import numpy as np
import pytest

from equipot.math import Irreps, clebsch_gordan, real_harmonics, real_harmonics_gradient, representation, transform_features, wigner_d

L_MAX = 8


def degree(array, l):
    return array[:, l * l : (l + 1) ** 2]


def test_harmonics_are_those_of_e3nn(o3, rng):
    import torch

    v = np.concatenate([rng.normal(size=(40, 3)), np.eye(3), -np.eye(3), 1e-6 * rng.normal(size=(3, 3)), [[1.0, 0.0, -2.0]]])
    expected = o3.spherical_harmonics(list(range(L_MAX + 1)), torch.tensor(v), normalize=True, normalization="component").numpy()
    np.testing.assert_allclose(real_harmonics(L_MAX, v), expected, rtol=0, atol=1e-12)


def test_component_normalisation_and_order(rng):
    v = rng.normal(size=(5, 4, 3))
    y = real_harmonics(L_MAX, v)
    assert y.shape == (5, 4, (L_MAX + 1) ** 2)
    np.testing.assert_allclose(y[..., 1:4], np.sqrt(3) * v / np.linalg.norm(v, axis=-1, keepdims=True), atol=1e-14)
    for l in range(L_MAX + 1):
        np.testing.assert_allclose((y[..., l * l : (l + 1) ** 2] ** 2).sum(-1), 2 * l + 1, rtol=1e-13)


def test_parity_is_minus_one_to_the_l(rng):
    v = rng.normal(size=(6, 3))
    for l in range(L_MAX + 1):
        np.testing.assert_allclose(degree(real_harmonics(L_MAX, -v), l), (-1) ** l * degree(real_harmonics(L_MAX, v), l), atol=1e-13)


def test_consistent_with_the_couplings(rng):
    """Y_l is proportional, with a positive factor, to Y_{l−1} coupled with Y_1: harmonics and Clebsch-Gordan share their signs."""
    y = real_harmonics(L_MAX, rng.normal(size=(6, 3)))
    for l in range(1, L_MAX + 1):
        coupled = np.einsum("abm,na,nb->nm", clebsch_gordan(l - 1, 1, l), degree(y, l - 1), degree(y, 1))
        np.testing.assert_allclose(coupled * np.sqrt((2 * l + 1) / (3 * l)), degree(y, l), atol=1e-12)


def test_gradient_against_finite_differences(rng):
    v = np.concatenate([rng.normal(size=(10, 3)), 2 * np.eye(3)])
    step = 1e-4
    shifts = step * np.eye(3)
    values = {k: real_harmonics(L_MAX, v[:, None] + k * shifts) for k in (-2, -1, 1, 2)}
    numeric = (values[-2] - 8 * values[-1] + 8 * values[1] - values[2]) / (12 * step)
    np.testing.assert_allclose(real_harmonics_gradient(L_MAX, v), numeric.swapaxes(1, 2), rtol=0, atol=1e-8)


def test_gradient_has_no_radial_part_and_scales(rng):
    v = rng.normal(size=(5, 3))
    gradient = real_harmonics_gradient(4, v)
    np.testing.assert_allclose(np.einsum("nMa,na->nM", gradient, v), 0.0, atol=1e-12)
    np.testing.assert_allclose(real_harmonics_gradient(4, 3.0 * v), gradient / 3.0, atol=1e-12)


def test_zero_vector_is_finite():
    zero = np.zeros((1, 3))
    assert np.isfinite(real_harmonics(4, zero)).all()
    assert np.isfinite(real_harmonics_gradient(4, zero)).all()


@pytest.mark.parametrize("l", range(L_MAX + 1))
def test_wigner_turns_harmonics(l, rotation, rng):
    v = rng.normal(size=(2 * l + 5, 3))
    turned = degree(real_harmonics(l, v @ rotation.T), l)
    np.testing.assert_allclose(turned, degree(real_harmonics(l, v), l) @ wigner_d(l, rotation).T, rtol=0, atol=1e-12)


def test_wigner_is_an_orthogonal_homomorphism(rotation, rng):
    q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    other = q * np.linalg.det(q)
    for l in range(L_MAX + 1):
        d = wigner_d(l, rotation)
        np.testing.assert_allclose(d @ d.T, np.eye(2 * l + 1), atol=1e-12)
        np.testing.assert_allclose(wigner_d(l, rotation @ other), d @ wigner_d(l, other), atol=1e-12)
        np.testing.assert_allclose(wigner_d(l, np.eye(3)), np.eye(2 * l + 1), atol=1e-12)
    np.testing.assert_allclose(wigner_d(1, rotation), rotation, atol=1e-14)


def test_wigner_is_that_of_e3nn(o3, rotation):
    import torch

    angles = o3.matrix_to_angles(torch.tensor(rotation))
    for l in range(L_MAX + 1):
        expected = o3.wigner_D(l, *angles).double().numpy()  # its generators are float32
        np.testing.assert_allclose(wigner_d(l, rotation), expected, atol=2e-6)


def test_wigner_refuses_reflections_and_other_matrices(reflection):
    with pytest.raises(ValueError, match="proper"):
        wigner_d(1, reflection)
    for wrong in (2 * np.eye(3), np.eye(2)):
        with pytest.raises(ValueError, match="orthogonal"):
            wigner_d(1, wrong)
        with pytest.raises(ValueError, match="orthogonal"):
            representation(1, 1, wrong)


def test_features_of_natural_parity_reflect_like_harmonics(reflection, rng):
    """A polar vector is turned by the matrix itself, an axial one by its proper part; (l, (−1)^l) turns as Y_l does."""
    v = rng.normal(size=(4, 3))
    np.testing.assert_allclose(representation(1, -1, reflection), reflection, atol=1e-14)
    np.testing.assert_allclose(representation(1, 1, reflection), -reflection, atol=1e-14)
    for l in range(5):
        turned = degree(real_harmonics(4, v @ reflection.T), l)
        np.testing.assert_allclose(turned, degree(real_harmonics(4, v), l) @ representation(l, (-1) ** l, reflection).T, atol=1e-12)


@pytest.mark.parametrize("element", ["rotation", "reflection"])
def test_transform_features_acts_on_each_channel(element, request, rng):
    matrix = request.getfixturevalue(element)
    irreps = Irreps.parse("2x0e+1x0o+3x1e+2x1o+2x2o")
    x = rng.normal(size=(2, 3, irreps.dim))
    turned = transform_features(x, irreps, matrix)
    for block in irreps:
        d = representation(block.l, block.p, matrix)
        for k in range(block.mul):
            channel = slice(block.start + k, block.stop, block.mul)
            np.testing.assert_allclose(turned[..., channel], x[..., channel] @ d.T, atol=1e-13)
    np.testing.assert_allclose(transform_features(turned, irreps, matrix.T), x, atol=1e-12)
    with pytest.raises(ValueError, match="columns"):
        transform_features(x[..., 1:], irreps, matrix)
