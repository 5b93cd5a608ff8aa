import numpy as np
import pytest

from equipot.math import radial

CUTOFF = 4.5
FAMILIES = {
    "bessel": lambda r, k: radial.bessel(r, CUTOFF, 8, 0.7, k),
    "gaussian": lambda r, k: radial.gaussian(r, CUTOFF, 8, k),
    "chebyshev": lambda r, k: radial.chebyshev(r, CUTOFF, 8, k),
    "polynomial 2": lambda r, k: radial.polynomial_envelope(r, CUTOFF, 2, k),
    "polynomial 3": lambda r, k: radial.polynomial_envelope(r, CUTOFF, 3, k),
    "polynomial 6": lambda r, k: radial.polynomial_envelope(r, CUTOFF, 6, k),
    "cosine": lambda r, k: radial.cosine_envelope(r, CUTOFF, k),
    "agnesi": lambda r, k: radial.agnesi(r, 0.71, derivative=k),
    "soft": lambda r, k: radial.soft(r, 1.42, derivative=k),
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("order", [1, 2])
def test_derivatives_against_finite_differences(family, order):
    f, step = FAMILIES[family], 1e-3
    r = np.array([0.01, 0.1, 0.3, 0.71, 1.0, 1.4, 1.5, 2.0, 3.3, CUTOFF - 0.01, CUTOFF + 0.01, 2 * CUTOFF])
    f_minus2, f_minus1, f_plus1, f_plus2 = (f(r + k * step, order - 1) for k in (-2, -1, 1, 2))
    numeric = (f_minus2 - 8 * f_minus1 + 8 * f_plus1 - f_plus2) / (12 * step)
    np.testing.assert_allclose(f(r, order), numeric, rtol=1e-7, atol=2e-8)


@pytest.mark.parametrize("family", FAMILIES)
def test_finite_at_contact(family):
    for order in (0, 1, 2):
        at_zero, near = FAMILIES[family](np.array([0.0]), order), FAMILIES[family](np.array([1e-7]), order)
        assert np.isfinite(at_zero).all()
        np.testing.assert_allclose(at_zero, near, rtol=1e-6, atol=2e-5)


def test_bessel_values():
    r, n = np.array([0.5, 2.0, CUTOFF]), np.arange(1, 9)
    expected = 0.7 * np.sin(n * np.pi * r[:, None] / CUTOFF) / r[:, None]
    np.testing.assert_allclose(radial.bessel(r, CUTOFF, 8, 0.7), expected, atol=1e-14)
    np.testing.assert_allclose(radial.bessel(np.zeros(1), CUTOFF, 8, 0.7)[0], 0.7 * n * np.pi / CUTOFF, atol=1e-14)
    np.testing.assert_allclose(expected[2], 0.0, atol=1e-14)


def test_bessel_is_orthonormal_with_its_normalising_prefactor():
    """∫ b_j b_k r² dr = δ_jk on [0, r_c] with c = √(2/r_c)."""
    nodes, weights = np.polynomial.legendre.leggauss(60)
    r = CUTOFF * (nodes + 1) / 2
    b = radial.bessel(r, CUTOFF, 8, np.sqrt(2 / CUTOFF))
    np.testing.assert_allclose(np.einsum("r,rj,rk->jk", weights * CUTOFF / 2 * r**2, b, b), np.eye(8), atol=1e-12)


def test_bessel_second_derivative_solves_its_equation():
    """(r b)'' = −w² (r b), also at small r where the closed form would cancel."""
    r, w = np.array([1e-6, 1e-3, 0.05, 0.2, 1.0, 3.0]), np.pi * np.arange(1, 9) / CUTOFF
    b0, b1, b2 = (radial.bessel(r, CUTOFF, 8, 1.0, k) for k in range(3))
    np.testing.assert_allclose(2 * b1 + r[:, None] * b2, -(w**2) * r[:, None] * b0, rtol=1e-9, atol=1e-12)


def test_gaussian_and_chebyshev_values():
    g = radial.gaussian(np.linspace(0, CUTOFF, 8), CUTOFF, 8)
    np.testing.assert_allclose(np.diag(g), 1.0, atol=1e-14)
    np.testing.assert_allclose(np.diag(g, 1), np.exp(-0.5), rtol=1e-13)
    angle = np.linspace(0, np.pi, 7)
    t = radial.chebyshev((np.cos(angle) + 1) * CUTOFF / 2, CUTOFF, 6)
    np.testing.assert_allclose(t, np.cos(angle[:, None] * np.arange(6)), atol=1e-13)


@pytest.mark.parametrize("p", [2, 3, 6, 8])
def test_polynomial_envelope_is_twice_smooth_at_the_cutoff(p):
    below, at = np.array([CUTOFF * (1 - 1e-6)]), np.array([CUTOFF, CUTOFF * 1.5])
    u, u1, u2 = (radial.polynomial_envelope(below, CUTOFF, p, k)[0] for k in range(3))
    assert abs(u) < 1e-13
    assert abs(u1) < 1e-9
    assert 1e-9 < abs(u2) < 1e-3  # falls linearly: the third derivative does not vanish
    for k in range(3):
        assert (radial.polynomial_envelope(at, CUTOFF, p, k) == 0.0).all()


@pytest.mark.parametrize("p", [2, 3, 6])
def test_polynomial_envelope_values(p):
    x = np.array([0.0, 0.3, 0.8])
    expected = 1 - (p + 1) * (p + 2) / 2 * x**p + p * (p + 2) * x ** (p + 1) - p * (p + 1) / 2 * x ** (p + 2)
    np.testing.assert_allclose(radial.polynomial_envelope(x * CUTOFF, CUTOFF, p), expected, atol=1e-14)
    curvature_at_zero = radial.polynomial_envelope(np.zeros(1), CUTOFF, p, 2)[0]
    assert (curvature_at_zero == 0.0) == (p >= 3)


def test_cosine_envelope_is_once_smooth_at_the_cutoff():
    below = np.array([CUTOFF * (1 - 1e-8)])
    values = [radial.cosine_envelope(below, CUTOFF, k)[0] for k in range(3)]
    np.testing.assert_allclose(values, [0.0, 0.0, np.pi**2 / (2 * CUTOFF**2)], atol=1e-7)
    assert radial.cosine_envelope(np.zeros(1), CUTOFF)[0] == 1.0
    assert (radial.cosine_envelope(np.array([CUTOFF, 9.0]), CUTOFF, 2) == 0.0).all()


def test_agnesi_is_the_published_formula():
    a, q, p = 1.0805, 0.9183, 4.5791
    r, r0 = np.array([0.2, 0.7, 1.5, 4.0]), np.array([0.3, 0.71, 0.9, 1.3])
    x = r / r0
    np.testing.assert_allclose(radial.agnesi(r, r0), 1 / (1 + a * x**q / (1 + x ** (q - p))), rtol=1e-13)
    assert radial.agnesi(np.zeros(1), 0.7)[0] == 1.0


def test_soft_is_the_distance_but_for_overlapping_atoms():
    r0 = 1.4
    np.testing.assert_allclose(radial.soft(np.array([0.0, 0.1, 0.2]), r0), 0.75 * r0, atol=5e-3)
    np.testing.assert_allclose(radial.soft(np.array([2.5, 4.0]), r0), [2.5, 4.0], rtol=1e-3)
    middle = 0.5 * (0.75 + 4 / 3) * r0
    assert abs(radial.soft(middle, r0) - 0.5 * (0.75 * r0 + middle)) < 1e-14


@pytest.mark.parametrize("family", FAMILIES)
def test_another_order_is_refused(family):
    with pytest.raises(ValueError, match="derivative 3"):
        FAMILIES[family](np.ones(1), 3)
