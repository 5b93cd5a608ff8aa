"""The fused perceptron against plain torch: value, first and second derivative, and what each pass computes."""

import itertools

import pytest
import torch

from equipot.nn.perceptron import ACTIVATIONS
from equipot.ops import perceptron as module
from equipot.ops.perceptron import DERIVATIVES, perceptron


def make(sizes: tuple[int, ...], rows: int = 7) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(rows, sizes[0]), *zip(sizes[:-1], sizes[1:], strict=True)]
    return [torch.randn(shape, dtype=torch.float64, generator=generator).requires_grad_() for shape in shapes]


def composed(x, weights, activation):
    for w in weights[:-1]:
        x = ACTIVATIONS[activation](x @ w)
    return x @ weights[-1]


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
@pytest.mark.parametrize("sizes", [(3, 5, 4), (2, 4, 5, 3), (3, 4, 4, 4, 2), (1, 1, 1)])
def test_equals_plain_torch(activation, sizes):
    inputs = make(sizes)
    for some in itertools.chain([inputs, inputs[:1], inputs[1:]], ([x] for x in inputs[1:])):
        found = second_derivatives(lambda x, w: perceptron(x, w, activation), inputs, some)
        expected = second_derivatives(lambda x, w: composed(x, w, activation), inputs, some)
        for a, b in zip(found, expected, strict=True):
            zero = torch.zeros(()) if b is None else b
            assert ((0.0 if a is None else a) - zero).detach().abs().max() < 1e-12


def test_no_rows():
    inputs = make((3, 5, 4), rows=0)
    assert [tuple(t.shape) for t in second_derivatives(lambda x, w: perceptron(x, w, "silu"), inputs, inputs)[:2]] == [(0, 4), (0, 3)]


def test_a_wrong_second_derivative_is_seen(monkeypatch):
    silu = DERIVATIVES["silu"]
    monkeypatch.setitem(module.DERIVATIVES, "silu", silu._replace(second=lambda u, z, a: 1.001 * silu.second(u, z, a)))
    with pytest.raises(AssertionError):
        test_equals_plain_torch("silu", (3, 5, 4))


def test_the_pass_to_the_edges_makes_no_gradients_of_weights(monkeypatch):
    """As in training: autograd.grad to x alone, then backward to the weights alone."""
    needed, backward = [], module._backward
    monkeypatch.setattr(module, "_backward", lambda *args: needed.append(args[4]) or backward(*args))
    x, *weights = make((3, 5, 4))
    x = x * 1.0  # like the radial basis, not a leaf
    value = perceptron(x, [w * 1.0 for w in weights], "silu")
    (gx,) = torch.autograd.grad(value.sum(), x, create_graph=True)
    (value.pow(2).sum() + gx.pow(2).sum()).backward(inputs=weights)
    assert needed == [(True, False), (False, True)]


def test_third_derivative_is_refused():
    inputs = make((3, 5, 4))
    (gx,) = torch.autograd.grad(perceptron(inputs[0], inputs[1:], "silu").sum(), inputs[0], create_graph=True)
    (second,) = torch.autograd.grad(gx.pow(2).sum(), inputs[1], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        second.sum().backward()
