"""The torch functions of edge vectors against their numpy oracles: value, first and second derivative."""

import math

import numpy as np
import pytest
import torch

from equipot.math import radial, real_harmonics, real_harmonics_gradient
from equipot.ops import geometry

CUTOFF = 4.5
DISTANCES = [0.0, 1e-9, 1e-4, 0.019, 0.0201, 0.1, 0.7, 1.0, 2.5, 4.4999, 4.5, 4.51, 60.0]
FREQUENCIES = torch.arange(1, 9, dtype=torch.float64) * math.pi / CUTOFF
PAIRS = {
    "bessel": (lambda r: geometry.bessel_basis(r, FREQUENCIES.to(r.dtype), 0.7), lambda r, k: radial.bessel(r, CUTOFF, 8, 0.7, k)),
    "gaussian": (
        lambda r: geometry.gaussian_basis(r, torch.linspace(0, CUTOFF, 8, dtype=r.dtype), CUTOFF / 7),
        lambda r, k: radial.gaussian(r, CUTOFF, 8, k),
    ),
    "chebyshev": (lambda r: geometry.chebyshev_basis(r, 6, 2 * CUTOFF), lambda r, k: radial.chebyshev(r, 2 * CUTOFF, 6, k)),
    "polynomial 2": (lambda r: geometry.polynomial_envelope(r, CUTOFF, 2), lambda r, k: radial.polynomial_envelope(r, CUTOFF, 2, k)),
    "polynomial 6": (lambda r: geometry.polynomial_envelope(r, CUTOFF, 6), lambda r, k: radial.polynomial_envelope(r, CUTOFF, 6, k)),
    "cosine": (lambda r: geometry.cosine_envelope(r, CUTOFF), lambda r, k: radial.cosine_envelope(r, CUTOFF, k)),
    "agnesi": (lambda r: geometry.agnesi_transform(r, torch.full_like(r, 0.71)), lambda r, k: radial.agnesi(r, 0.71, derivative=k)),
    "soft": (lambda r: geometry.soft_transform(r, torch.full_like(r, 1.42)), lambda r, k: radial.soft(r, 1.42, derivative=k)),
}


@pytest.fixture
def vectors():
    generator = torch.Generator().manual_seed(7)
    random = 2 * torch.randn(20, 3, dtype=torch.float64, generator=generator)
    return torch.cat([random, torch.eye(3, dtype=torch.float64), torch.tensor([[1.0, 0.0, -2.0], [0.0, -0.3, 0.0]], dtype=torch.float64)])


def columns_and_derivatives(f, r):
    """Value, first and second derivative of each column of f(r), as three lists of (E,)."""
    r = r.clone().requires_grad_()
    value = f(r)
    columns = [value] if value.dim() == 1 else list(value.unbind(1))
    first = [torch.autograd.grad(c.sum(), r, create_graph=True)[0] if c.requires_grad else torch.zeros_like(r) for c in columns]
    second = [torch.autograd.grad(d.sum(), r, retain_graph=True)[0] if d.requires_grad else torch.zeros_like(r) for d in first]
    return [[tensor.detach().numpy() for tensor in tensors] for tensors in (columns, first, second)]


@pytest.mark.parametrize("name", PAIRS)
def test_radial_functions_equal_the_oracle_with_two_derivatives(name):
    f, oracle = PAIRS[name]
    r = np.array([x for x in DISTANCES if name != "chebyshev" or x < 2 * CUTOFF])
    for order, columns in enumerate(columns_and_derivatives(f, torch.from_numpy(r))):
        expected = oracle(r, order)
        np.testing.assert_allclose(np.stack(columns, 1), expected.reshape(len(r), -1), rtol=1e-11, atol=2e-11, err_msg=f"order {order}")


@pytest.mark.parametrize("name", PAIRS)
def test_radial_functions_are_finite_in_single_precision(name):
    f, oracle = PAIRS[name]
    r = torch.tensor(DISTANCES[:-1], dtype=torch.float32)
    columns, first, second = columns_and_derivatives(f, r)
    assert columns[0].dtype == np.float32
    np.testing.assert_allclose(np.stack(columns, 1), oracle(r.double().numpy(), 0).reshape(len(r), -1), rtol=1e-5, atol=1e-5)
    assert np.isfinite(first).all()
    assert np.isfinite(second).all()


@pytest.mark.parametrize("name", PAIRS)
def test_radial_functions_of_no_edges(name):
    r = torch.zeros(0, dtype=torch.float64, requires_grad=True)
    value = PAIRS[name][0](r)
    assert value.shape[0] == 0
    (gradient,) = torch.autograd.grad(value.sum(), r, create_graph=True)
    assert gradient.shape == (0,)


@pytest.mark.parametrize("envelope", [lambda r, c: geometry.polynomial_envelope(r, c, 6), geometry.cosine_envelope])
def test_cutoff_may_differ_between_edges(envelope):
    r = torch.tensor([1.0, 3.0, 3.0], dtype=torch.float64)
    cutoffs = torch.tensor([2.0, 2.5, 5.0], dtype=torch.float64)
    expected = torch.stack([envelope(x[None], float(c))[0] for x, c in zip(r, cutoffs, strict=True)])
    torch.testing.assert_close(envelope(r, cutoffs), expected, rtol=0, atol=1e-15)
    assert expected[1] == 0
    assert expected[0] > 0.1
    assert expected[2] > 0.1


def test_envelopes_are_zero_however_far():
    """Powers of r/r_c overflow single precision there; a gradient through them would be NaN."""
    r = torch.tensor([1e9], requires_grad=True)
    for u in (geometry.polynomial_envelope(r, CUTOFF, 6), geometry.cosine_envelope(r, CUTOFF)):
        (gradient,) = torch.autograd.grad(u.sum(), r)
        assert u.item() == gradient.item() == 0.0


def test_bessel_gradients_reach_trainable_frequencies():
    r = torch.tensor([0.0, 0.01, 0.5, 3.0], dtype=torch.float64, requires_grad=True)
    w = FREQUENCIES[:3].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda r, w: geometry.bessel_basis(r, w, 0.7), (r, w))
    assert torch.autograd.gradgradcheck(lambda r, w: geometry.bessel_basis(r, w, 0.7), (r, w))


def test_harmonics_equal_the_oracle(vectors):
    for l_max in range(9):
        y = geometry.spherical_harmonics(vectors, l_max)
        assert y.shape == (len(vectors), (l_max + 1) ** 2)
        assert y.is_contiguous()
        np.testing.assert_allclose(y.numpy(), real_harmonics(l_max, vectors.numpy()), rtol=0, atol=1e-12)


@pytest.mark.parametrize("l_max", [1, 2, 8])
def test_harmonics_gradient_equals_the_oracle(vectors, l_max):
    v = vectors.clone().requires_grad_()
    y = geometry.spherical_harmonics(v, l_max)
    gradient = torch.stack([torch.autograd.grad(column.sum(), v, retain_graph=True)[0] for column in y[:, 1:].unbind(1)], dim=1)
    expected = real_harmonics_gradient(l_max, vectors.numpy())
    np.testing.assert_allclose(gradient.numpy(), expected[:, 1:], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("l_max", [1, 2, 4])
def test_harmonics_second_derivative(vectors, l_max):
    v = vectors[-6:].clone().requires_grad_()  # in the planes x = 0, y = 0, z = 0 too, where powers vanish
    assert torch.autograd.gradgradcheck(lambda v: geometry.spherical_harmonics(v, l_max), (v,))


@pytest.mark.parametrize("l_max", [0, 1, 3])
@pytest.mark.parametrize("n_edges", [0, 1, 2])
def test_harmonics_of_contact_and_of_no_edges(l_max, n_edges):
    v = torch.zeros(n_edges, 3, dtype=torch.float64, requires_grad=True)
    y = geometry.spherical_harmonics(v, l_max)
    assert y.shape == (n_edges, (l_max + 1) ** 2)
    if l_max:
        (first,) = torch.autograd.grad(y.sum(), v, create_graph=True)
        (second,) = torch.autograd.grad(first.sum(), v)
        assert all(torch.isfinite(t).all() for t in (y, first, second))


def test_harmonics_in_single_precision_and_of_strided_input(vectors):
    expected = geometry.spherical_harmonics(vectors, 4)
    single = geometry.spherical_harmonics(vectors.float(), 4)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), expected, rtol=0, atol=1e-5)
    strided = vectors.t().contiguous().t()
    assert not strided.is_contiguous()
    torch.testing.assert_close(geometry.spherical_harmonics(strided, 4), expected, rtol=0, atol=0)
