"""The C++ `perceptron`: every instruction set and type, any number of threads, and what it refuses; its values are in test_perceptron.py."""

import pytest
import torch
from comparison import assert_same
from torch import Tensor

from equipot.ops import native, registry
from equipot.ops import perceptron as plain_torch

if native.library() is None:
    pytest.skip("the C++ library was not built", allow_module_level=True)

from equipot.ops import cpu_perceptron

FACTORS = (0.35, 0.21, 0.13)
TOLERANCE = {torch.float64: 1e-13, torch.float32: 2e-5}


def make(sizes: tuple[int, ...], rows: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(rows, sizes[0]), *zip(sizes[:-1], sizes[1:], strict=True)]
    return [torch.randn(shape, dtype=dtype, generator=generator).requires_grad_() for shape in shapes]


def training(function, inputs: list[Tensor], activation: str = "silu") -> dict[str, Tensor]:
    """Value, the gradient in x, and the gradients of a loss of both: what a training step asks for."""
    x, *weights = inputs
    value = function(x, weights, FACTORS[: len(weights)], activation)
    generator = torch.Generator().manual_seed(1)
    (gx,) = torch.autograd.grad((value * torch.randn(value.shape, dtype=x.dtype, generator=generator)).sum(), x, create_graph=True)
    loss = value.pow(2).sum() + (gx * torch.randn(gx.shape, dtype=x.dtype, generator=generator)).sum()
    found = [value, gx, *torch.autograd.grad(loss, inputs)]
    return {name: t.detach() for name, t in zip(["value", "gx", "dx", *(f"dw{i}" for i in range(len(weights)))], found, strict=True)}


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("sizes", "rows"), [((8, 64, 64, 96), 75), ((3, 17, 1), 33), ((8, 30, 31, 70), 2100)])
def test_instruction_sets(sizes, rows, dtype, instruction_set):
    inputs = make(sizes, rows, dtype)
    assert_same(training(cpu_perceptron.perceptron, inputs), training(plain_torch.perceptron, inputs), TOLERANCE[dtype])


def test_the_library_runs_and_is_what_the_backend_uses(calls):
    assert registry.select("cpu").perceptron is cpu_perceptron.perceptron
    training(cpu_perceptron.perceptron, make((3, 5, 4), 7, torch.float32))
    names = ["perceptron", "perceptron_backward", "perceptron_double_backward", "perceptron_backward"]
    assert calls == [f"{name}_f32" for name in names]


def test_result_does_not_depend_on_the_number_of_threads():
    inputs = make((8, 64, 64, 352), 2100, torch.float32)
    before, results = torch.get_num_threads(), []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        results.append(training(cpu_perceptron.perceptron, inputs))
    torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(other[name], t) for name, t in results[0].items())


def test_inputs_that_are_not_contiguous():
    x, *weights = make((6, 5, 4), 9)
    expected = training(cpu_perceptron.perceptron, [x, *weights])
    strided = [t.detach().t().contiguous().t().requires_grad_() for t in (x, *weights)]
    assert not strided[0].is_contiguous()
    assert_same(training(cpu_perceptron.perceptron, strided), expected, 1e-13)


def test_what_is_refused():
    x, *weights = (t.detach() for t in make((3, 5, 4), 7))
    for bad in ([x.half(), *weights], [x.float(), *weights], [x, weights[0], weights[1][1:]]):
        with pytest.raises(ValueError, match="expected"):
            cpu_perceptron.perceptron(bad[0], bad[1:], FACTORS[:2], "silu")
    one = native.NativePerceptron((3, 4), (1.0,), "silu")
    with pytest.raises(native.NativeError, match="array is missing"):
        cpu_perceptron._call("perceptron", one, x, x, weights[:1], x, x)
