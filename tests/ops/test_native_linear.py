"""The C++ `irreps_linear` against the reference: value and derivatives for every input, with and without elements."""

import itertools

import pytest
import torch
from comparison import assert_same
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from equipot.math import Irreps
from equipot.ops import native, reference, registry

if native.library() is None:
    pytest.skip("the C++ library was not built", allow_module_level=True)

from equipot.ops import cpu_linear

TOLERANCE = {torch.float64: 1e-12, torch.float32: 3e-5}
CASES = {  # irreps in and out, atoms, elements (None: the same weights for all)
    "scalars": ("32x0e", "32x0e", 7, None),
    "both parities": ("32x0e+32x0o+32x1e+32x1o+32x2e", "32x0e+32x0o+32x1e+32x1o+32x2e", 21, None),
    "per element": ("32x0e+32x1o+32x2e", "64x0e+32x1o+32x2e", 40, 4),
    "ragged channels": ("1x0e+3x0o+20x1o+16x1e+33x2e+5x3o", "7x0e+65x0o+1x1o+48x1e+17x2e+2x3o", 13, 3),
    "irreps missing on either side": ("5x0e+4x1o+6x2e+3x3o", "8x0e+3x0o+5x1e+9x2e+2x4e", 9, 2),
    "more atoms than a chunk": ("8x0e+4x1o", "6x0e+5x1o", 700, 3),
    "one atom": ("8x0e+4x1o", "6x0e+5x1o", 1, 3),
    "no atom": ("8x0e+4x1o", "6x0e+5x1o", 0, 3),
    "no atom, no elements": ("8x0e+4x1o", "6x0e+5x1o", 0, None),
}


def make_case(name: str, dtype: torch.dtype = torch.float64) -> tuple[list[Tensor], tuple]:
    """x and weight, and the rest of the arguments; element 1, if there are more than two, has no atom."""
    irreps_in, irreps_out, n_atoms, n_elements = CASES[name]
    irreps_in, irreps_out = Irreps.parse(irreps_in), Irreps.parse(irreps_out)
    generator = torch.Generator().manual_seed(0)
    n_weights = reference.n_linear_weights(irreps_in, irreps_out)
    shape = (n_weights,) if n_elements is None else (n_elements, n_weights)
    inputs = [torch.randn(s, dtype=dtype, generator=generator).requires_grad_() for s in ((n_atoms, irreps_in.dim), shape)]
    species = None
    if n_elements is not None:
        species = torch.randint(n_elements, (n_atoms,), generator=generator)
        species = torch.where(species == 1, 0, species) if n_elements > 2 else species
    return inputs, (irreps_in, irreps_out, species)


def derivatives(linear, inputs: list[Tensor], rest: tuple) -> dict[str, Tensor]:
    """y, its gradients, those of the gradients in every argument, and third derivatives of each kind."""
    generator = torch.Generator().manual_seed(1)

    def random_like(x: Tensor) -> Tensor:
        return torch.randn(x.shape, dtype=x.dtype, generator=generator).requires_grad_()

    x, w = inputs
    value = linear(x, w, *rest)
    g = random_like(value)
    first = torch.autograd.grad(value, [x, w], g, create_graph=True)
    cx, cw = (random_like(t) for t in first)
    second_x = torch.autograd.grad(first[0], [g, w], cx, create_graph=True)
    second_w = torch.autograd.grad(first[1], [g, x], cw, create_graph=True)
    third = torch.autograd.grad(
        [*second_x, *second_w], [x, w, g, cx, cw], [random_like(t) for t in (*second_x, *second_w)], materialize_grads=True
    )
    names = ["y", "gx", "gw", "gx→g", "gx→w", "gw→g", "gw→x", "3x", "3w", "3g", "3cx", "3cw"]
    return dict(zip(names, [t.detach() for t in (value, *first, *second_x, *second_w, *third)], strict=True))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", CASES)
def test_value_and_derivatives(name, dtype, instruction_set):
    inputs, rest = make_case(name, dtype)
    found = derivatives(cpu_linear.irreps_linear, inputs, rest)
    assert_same(found, derivatives(reference.irreps_linear, inputs, rest), TOLERANCE[dtype])


MULTIPLICITY = st.sampled_from([0, 1, 2, 3, 8, 15, 16, 17, 31, 32, 47, 64, 70])


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_random_maps(data):
    kinds = [(l, p) for l in range(3) for p in (1, -1)]
    irreps_in, irreps_out = (Irreps(tuple((data.draw(MULTIPLICITY), l, p) for l, p in kinds)) for _ in range(2))
    n_atoms, n_elements = data.draw(st.integers(0, 40)), data.draw(st.integers(1, 5))
    x = torch.randn(n_atoms, irreps_in.dim, dtype=torch.float64)
    w = torch.randn(n_elements, reference.n_linear_weights(irreps_in, irreps_out), dtype=torch.float64)
    rest = (irreps_in, irreps_out, torch.randint(n_elements, (n_atoms,)))
    if not w.shape[1]:
        assert torch.equal(cpu_linear.irreps_linear(x, w, *rest), x.new_zeros(n_atoms, irreps_out.dim))
        return
    inputs = [x.requires_grad_(), w.requires_grad_()]
    assert_same(derivatives(cpu_linear.irreps_linear, inputs, rest), derivatives(reference.irreps_linear, inputs, rest), 1e-12)


@pytest.mark.parametrize("name", ["per element", "both parities"])
def test_the_library_runs_and_is_what_the_backend_uses(name, calls):
    inputs, rest = make_case(name, torch.float32)
    assert registry.select("cpu").irreps_linear is cpu_linear.irreps_linear
    y = cpu_linear.irreps_linear(*inputs, *rest)
    torch.autograd.grad(y.sum(), inputs)
    assert sorted(calls) == ["linear_f32", "linear_transposed_f32", "linear_weights_f32"]


def test_a_pass_computes_only_what_it_wants(calls):
    (x, w), rest = make_case("per element")
    y = cpu_linear.irreps_linear(x.tanh(), 2.0 * w, *rest)
    (gx,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    assert calls == ["linear_f64", "linear_transposed_f64"]
    calls.clear()
    torch.autograd.grad(gx.pow(2).sum(), w)
    assert sorted(set(calls)) == ["linear_weights_f64"]


@pytest.mark.parametrize("species", [None, torch.tensor([1, 0, 1, 1, 1])])
def test_nothing_in_common_gives_zeros(species):
    x = torch.randn(5, 16, dtype=torch.float64, requires_grad=True)
    w = torch.zeros((2, 0) if species is not None else 0, dtype=torch.float64, requires_grad=True)
    y = cpu_linear.irreps_linear(x, w, Irreps.parse("4x0e+4x1o"), Irreps.parse("3x0o+4x1e"), species)
    gx, gw = torch.autograd.grad(y.sum(), [x, w])
    assert torch.equal(y, y.new_zeros(5, 15)) and torch.equal(gx, torch.zeros_like(x)) and gw.shape == w.shape


def test_a_wrong_transpose_is_found(monkeypatch):
    """The comparison with the reference can fail."""
    inputs, rest = make_case("per element")
    right = cpu_linear._Transposed.apply
    wrong = type("Wrong", (), {"apply": staticmethod(lambda *a: right(*a).roll(1, 0))})
    monkeypatch.setattr(cpu_linear, "_Transposed", wrong)
    with pytest.raises(AssertionError, match="gx"):
        assert_same(derivatives(cpu_linear.irreps_linear, inputs, rest), derivatives(reference.irreps_linear, inputs, rest), 1e-12)


def test_inputs_that_are_not_contiguous():
    (x, w), rest = make_case("per element")
    expected = derivatives(reference.irreps_linear, [x, w], rest)
    species = torch.stack([rest[2], rest[2]], dim=1)[:, 0]
    transposed = [t.detach().t().contiguous().t().requires_grad_() for t in (x, w)]
    sliced = [torch.cat([t.detach(), t.detach()], dim=1)[:, : t.shape[1]].requires_grad_() for t in (x, w)]
    for inputs in (transposed, sliced):
        assert not any(t.is_contiguous() for t in (*inputs, species))
        assert_same(derivatives(cpu_linear.irreps_linear, inputs, (*rest[:2], species)), expected, 1e-12)


@pytest.mark.parametrize("species", [None, torch.tensor([0, 2, 2, 0])])
def test_gradcheck(species):
    irreps_in, irreps_out = Irreps.parse("2x0e+1x1o"), Irreps.parse("1x0e+1x0o+2x1o")
    n = reference.n_linear_weights(irreps_in, irreps_out)
    x = torch.randn(4, irreps_in.dim, dtype=torch.float64, requires_grad=True)
    w = torch.randn((n,) if species is None else (3, n), dtype=torch.float64, requires_grad=True)
    for check in (torch.autograd.gradcheck, torch.autograd.gradgradcheck):
        assert check(lambda x, w: cpu_linear.irreps_linear(x, w, irreps_in, irreps_out, species), (x, w))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_result_does_not_depend_on_the_number_of_threads(dtype):
    irreps = Irreps.parse("32x0e+32x1o+20x2e")
    x = torch.randn(3000, irreps.dim, dtype=dtype, requires_grad=True)
    w = torch.randn(3, reference.n_linear_weights(irreps, irreps), dtype=dtype, requires_grad=True)
    rest = (irreps, irreps, torch.randint(3, (3000,)))
    before, results = torch.get_num_threads(), []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        results.append(derivatives(cpu_linear.irreps_linear, [x, w], rest))
    torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(other[name], t) for name, t in results[0].items())


def test_what_is_refused():
    (x, w), (irreps_in, irreps_out, species) = make_case("per element")
    linear = cpu_linear.irreps_linear
    for bad in (
        (x[:, 1:], w, species),
        (x, w[:, 1:], species),
        (x, w.float(), species),
        (x.half(), w.half(), species),
        (x, w, None),
        (x, w[0], species),
    ):
        with pytest.raises(ValueError, match="expected"):
            linear(*bad[:2], irreps_in, irreps_out, bad[2])
    for bad in (species.int(), species[1:]):
        with pytest.raises(ValueError, match="species"):
            linear(x, w, irreps_in, irreps_out, bad)
    for shift in (-1, 1):
        with pytest.raises(native.NativeError, match="species"):
            linear(x, w, irreps_in, irreps_out, torch.where(species == species.min(), species.min() + shift * 4, species))


@pytest.mark.parametrize(
    "blocks",
    [
        [[1, 4, 4, 0, -1]],
        [[1, 4, 4, 5, 0]],  # ends outside x
        [[3, 2, 3, 0, 0]],  # ends outside y
        [[1, 0, 4, 0, 0]],
        [[1, 4, 4, 0, 0], [1, 2, 2, 3, 4]],  # overlaps in x
        [[1, 4, 4, 0, 4], [1, 2, 2, 4, 0]],  # descends in y
        [[2**31, 2**31, 1, 0, 0]],
    ],
)
def test_blocks_that_are_refused(blocks):
    key = ";".join(["8,8", *(",".join(map(str, b)) for b in blocks)])
    w = torch.zeros(min(native.linear_map(key).w_dim, 100))
    with pytest.raises((native.NativeError, ValueError), match="block|expected"):
        cpu_linear._linear_kernel(torch.zeros(2, 8), w, None, key)


def test_torchs_own_checks_and_compiled_code():
    (x, w), rest = make_case("per element")
    species, key = rest[2], cpu_linear._key(*rest[:2])
    g = torch.randn(x.shape[0], rest[1].dim, dtype=x.dtype, requires_grad=True)
    torch.library.opcheck(torch.ops.equipot.irreps_linear, (x, w, species, key))
    torch.library.opcheck(torch.ops.equipot.irreps_linear_transposed, (g, w, species, key))
    torch.library.opcheck(torch.ops.equipot.irreps_linear_weights, (x, g, species, w.shape[0], key))
    compiled = torch.compile(lambda x, w: cpu_linear.irreps_linear(x, w, *rest).sin(), backend="aot_eager", fullgraph=True)
    eager = cpu_linear.irreps_linear(x, w, *rest).sin()
    torch.testing.assert_close(compiled(x, w), eager)
    for found, expected in zip(torch.autograd.grad(compiled(x, w).sum(), [x, w]), torch.autograd.grad(eager.sum(), [x, w]), strict=True):
        torch.testing.assert_close(found, expected)
    traced = make_fx(lambda x, w: list(derivatives(cpu_linear.irreps_linear, [x, w], rest).values()))(x, w)
    targets = {str(node.target) for node in traced.graph.nodes}
    assert {f"equipot.{name}.default" for name in ("irreps_linear", "irreps_linear_transposed", "irreps_linear_weights")} <= targets


def test_second_derivative_matches_in_any_order():
    for name, order in itertools.product(["per element", "both parities"], [(0, 1), (1, 0)]):
        inputs, rest = make_case(name)
        results = []
        for linear in (cpu_linear.irreps_linear, reference.irreps_linear):
            value = linear(*inputs, *rest).pow(3).sum()
            (first,) = torch.autograd.grad(value, inputs[order[0]], create_graph=True)
            (second,) = torch.autograd.grad(first.pow(2).sum(), inputs[order[1]], create_graph=True)
            results.append(dict(zip("xw", torch.autograd.grad(second.pow(2).sum(), inputs), strict=True)))
        assert_same(*results, 1e-11)
