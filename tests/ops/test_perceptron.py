"""The perceptron as one operation, in torch and in C++, against its layers one by one: value, derivatives, and what each pass computes."""

import itertools

import pytest
import torch

from equipot.nn.perceptron import ACTIVATIONS
from equipot.ops import native
from equipot.ops import perceptron as plain_torch
from equipot.ops.perceptron import DERIVATIVES

FACTORS = (0.7, 1.3, 0.9, 1.1)
MODULES = {"torch": plain_torch}
if native.library() is not None:
    from equipot.ops import cpu_perceptron

    MODULES["cpu"] = cpu_perceptron


@pytest.fixture(params=["torch", "cpu"])
def module(request):
    """Both implementations in turn."""
    if request.param not in MODULES:
        pytest.skip("the C++ library was not built")
    return MODULES[request.param]


def fused(module, activation):
    return lambda x, w: module.perceptron(x, w, FACTORS[: len(w)], activation)


def make(sizes: tuple[int, ...], rows: int = 7) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(rows, sizes[0]), *zip(sizes[:-1], sizes[1:], strict=True)]
    return [torch.randn(shape, dtype=torch.float64, generator=generator).requires_grad_() for shape in shapes]


def composed(x, weights, activation):
    for w, factor in zip(weights[:-1], FACTORS, strict=False):
        x = ACTIVATIONS[activation](x @ w * factor)
    return x @ weights[-1] * FACTORS[len(weights) - 1]


def second_derivatives(function, inputs, first_of, seed=0):
    generator = torch.Generator().manual_seed(seed)
    value = function(inputs[0], inputs[1:])
    g = torch.randn(value.shape, dtype=value.dtype, generator=generator).requires_grad_()
    first = torch.autograd.grad(value, first_of, g, create_graph=True)
    second = torch.autograd.grad(
        first, [g, *inputs], [torch.randn(f.shape, dtype=f.dtype, generator=generator) for f in first], allow_unused=True
    )
    return [value, *first, *second]


@pytest.mark.parametrize("activation", DERIVATIVES)
@pytest.mark.parametrize("sizes", [(3, 5, 4), (2, 4, 5, 3), (3, 4, 4, 4, 2), (1, 1, 1), (8, 20, 33, 70)])
def test_equals_its_layers(module, activation, sizes):
    inputs = make(sizes)
    for some in itertools.chain([inputs, inputs[:1], inputs[1:]], ([x] for x in inputs[1:])):
        found = second_derivatives(fused(module, activation), inputs, some)
        expected = second_derivatives(lambda x, w: composed(x, w, activation), inputs, some)
        for a, b in zip(found, expected, strict=True):
            zero = torch.zeros(()) if b is None else b
            assert ((0.0 if a is None else a) - zero).detach().abs().max() < 1e-12 * max(1.0, float(zero.detach().abs().max()))


def test_no_rows(module):
    inputs = make((3, 5, 4), rows=0)
    found = second_derivatives(fused(module, "silu"), inputs, inputs)
    assert [tuple(t.shape) for t in found[:2]] == [(0, 4), (0, 3)] and all(float(t.abs().sum()) == 0.0 for t in found[2:4])


def test_a_wrong_second_derivative_is_seen(monkeypatch):
    silu = DERIVATIVES["silu"]
    monkeypatch.setitem(plain_torch.DERIVATIVES, "silu", silu._replace(second=lambda u, z, a: 1.001 * silu.second(u, z, a)))
    with pytest.raises(AssertionError):
        test_equals_its_layers(plain_torch, "silu", (3, 5, 4))


def test_a_wrong_factor_is_seen(monkeypatch):
    with pytest.raises(AssertionError), monkeypatch.context() as patch:
        patch.setattr(plain_torch, "perceptron", lambda x, w, s, f, of=plain_torch.perceptron: of(x, w, (*s[:-1], 1.001 * s[-1]), f))
        test_equals_its_layers(plain_torch, "tanh", (3, 5, 4))


def test_the_pass_to_the_edges_makes_no_gradients_of_weights(module, monkeypatch):
    """As in training: autograd.grad to x alone, then backward to the weights alone, which are leaves."""
    needed, backward = [], module._backward
    monkeypatch.setattr(module, "_backward", lambda *args: needed.append(args[-1]) or backward(*args))
    x, *weights = make((3, 5, 4))
    x = x * 1.0  # like the radial basis, not a leaf
    value = fused(module, "silu")(x, weights)
    (gx,) = torch.autograd.grad(value.sum(), x, create_graph=True)
    (value.pow(2).sum() + gx.pow(2).sum()).backward(inputs=weights)
    assert needed == [(True, False), (False, True)]


def test_third_derivative_is_refused(module):
    inputs = make((3, 5, 4))
    (gx,) = torch.autograd.grad(fused(module, "silu")(inputs[0], inputs[1:]).sum(), inputs[0], create_graph=True)
    (second,) = torch.autograd.grad(gx.pow(2).sum(), inputs[1], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        second.sum().backward()
