"""The C++ `symmetric_product` against the reference: value, first and second derivative for every input, with and without elements."""

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
from equipot.ops.plan import ProductPlan, plan_product

if native.library() is None:
    pytest.skip("the C++ library was not built", allow_module_level=True)

from equipot.ops import cpu_product

TOLERANCE = {torch.float64: 1e-12, torch.float32: 3e-5}
CASES = {  # irreps of A, correlation, irreps kept, atoms, elements (None: the same weights for all)
    "shared weights": ("3x0e+3x1o", 3, "1x0e+1x1o", 5, None),
    "per element, both parities": ("5x0e+5x0o+5x1o+5x1e", 3, "1x0e+1x0o+1x1o+1x1e", 6, 3),
    "mace": ("32x0e+32x1o+32x2e+32x3o", 3, "1x0e+1x1o", 4, 4),
    "l=3, correlation 2": ("20x0e+20x1o+20x2e+20x3o", 2, "1x0e+1x2e", 9, 2),
    "correlation 1": ("4x0e+4x1o", 1, "1x0e+1x1o", 5, 2),
    "correlation 4": ("17x0e+17x1o", 4, "1x0e+1x1o+1x2e", 3, 2),
    "no scalars": ("2x1o+2x2e", 3, "1x0e+1x1o", 4, None),
    "more atoms than a chunk": ("2x0e+2x1o", 3, "1x0e+1x1o", 300, 3),
    "one atom": ("3x0e+3x1o", 3, "1x0e+1x1o", 1, 3),
    "no atom": ("3x0e+3x1o", 3, "1x0e+1x1o", 0, 3),
    "no atom, no elements": ("3x0e+3x1o", 2, "1x0e+1x1o", 0, None),
}


def make_case(name: str, dtype: torch.dtype = torch.float64) -> tuple[list[Tensor], tuple[ProductPlan, Tensor | None]]:
    """a and weight, and the rest of the arguments; element 1, if there are more than two, has no atom."""
    irreps, correlation, keep, n_atoms, n_elements = CASES[name]
    plan = plan_product(Irreps.parse(irreps), correlation, Irreps.parse(keep))
    generator = torch.Generator().manual_seed(0)
    shape = (plan.n_weights, plan.n_channels) if n_elements is None else (n_elements, plan.n_weights, plan.n_channels)
    inputs = [torch.randn(s, dtype=dtype, generator=generator).requires_grad_() for s in ((n_atoms, plan.irreps_in.dim), shape)]
    species = None
    if n_elements is not None:
        species = torch.randint(n_elements, (n_atoms,), generator=generator)
        species = torch.where(species == 1, 0, species) if n_elements > 2 else species
    return inputs, (plan, species)


def derivatives(product, inputs: list[Tensor], rest: tuple) -> dict[str, Tensor]:
    """B, its gradients with a random cotangent, and theirs in every argument, of both together and of each."""
    generator = torch.Generator().manual_seed(1)

    def random_like(x: Tensor) -> Tensor:
        return torch.randn(x.shape, dtype=x.dtype, generator=generator)

    value = product(*inputs, *rest)
    g = random_like(value).requires_grad_()
    first = torch.autograd.grad(value, inputs, g, create_graph=True)
    found = {"B": value, "ga": first[0], "gw": first[1]}
    along = [random_like(t) for t in first]
    for name, which in (("both", [0, 1]), ("a", [0]), ("w", [1])):
        outputs, cotangents = [first[i] for i in which], [along[i] for i in which]
        second = torch.autograd.grad(outputs, [g, *inputs], cotangents, retain_graph=True, materialize_grads=True)
        found |= dict(zip((f"dg of {name}", f"da of {name}", f"dw of {name}"), second, strict=True))
    return {name: t.detach() for name, t in found.items()}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", CASES)
def test_value_and_derivatives(name, dtype, instruction_set):
    inputs, rest = make_case(name, dtype)
    found = derivatives(cpu_product.symmetric_product, inputs, rest)
    assert_same(found, derivatives(reference.symmetric_product, inputs, rest), TOLERANCE[dtype])


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_random_plans(data):
    n_channels = data.draw(st.sampled_from([1, 2, 7, 8, 9, 16, 33]))
    kinds = [(0, 1), *(k for k in ((0, -1), (1, 1), (1, -1), (2, 1)) if data.draw(st.booleans()))]
    keep = Irreps(tuple((1, l, p) for l, p in ((0, 1), (1, -1), (2, -1), (1, 1)) if data.draw(st.booleans()) or l == 0))
    plan = plan_product(Irreps(tuple((n_channels, l, p) for l, p in kinds)), data.draw(st.integers(1, 3)), keep)
    n_atoms, n_elements = data.draw(st.integers(0, 20)), data.draw(st.integers(1, 4))
    a = torch.randn(n_atoms, plan.irreps_in.dim, dtype=torch.float64, requires_grad=True)
    w = torch.randn(n_elements, plan.n_weights, n_channels, dtype=torch.float64, requires_grad=True)
    rest = (plan, torch.randint(n_elements, (n_atoms,)))
    expected = derivatives(reference.symmetric_product, [a, w], rest)
    assert_same(derivatives(cpu_product.symmetric_product, [a, w], rest), expected, 1e-12)


def test_the_library_runs_and_is_what_the_backend_uses(calls):
    inputs, rest = make_case("mace", torch.float32)
    assert registry.select("cpu").symmetric_product is cpu_product.symmetric_product
    derivatives(cpu_product.symmetric_product, inputs, rest)
    assert set(calls) == {"product_f32", "product_backward_f32", "product_double_backward_f32"}


@pytest.mark.parametrize("wanted", [w for w in itertools.product([False, True], repeat=2) if any(w)])
def test_only_what_is_wanted(wanted):
    """Any subset of gradients, and a double backward that reaches only one first derivative: absent cotangents and unwanted outputs."""
    inputs, rest = make_case("per element, both parities")
    inputs = [x.detach().requires_grad_(flag) for x, flag in zip(inputs, wanted, strict=True)]
    leaves = [x for x in inputs if x.requires_grad]
    results = []
    for product in (cpu_product.symmetric_product, reference.symmetric_product):
        value = product(*inputs, *rest)
        weight = torch.linspace(-1, 1, value.numel(), dtype=torch.float64).reshape(value.shape).requires_grad_()
        first = torch.autograd.grad((value * weight).sum(), leaves, create_graph=True)
        second = [torch.autograd.grad((g**2).sum(), [*leaves, weight], retain_graph=True, materialize_grads=True) for g in first]
        results.append([value, *first, *(x for row in second for x in row)])
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected)


def test_a_wrong_coefficient_is_found(monkeypatch):
    """The comparison with the reference can fail."""
    inputs, (plan, species) = make_case("mace")
    lines = cpu_product._key(plan).split(";")
    lines[7] = ",".join([*lines[7].split(",")[:2], "0.3", *lines[7].split(",")[3:]])
    expected = derivatives(reference.symmetric_product, inputs, (plan, species))
    monkeypatch.setattr(cpu_product, "_key", lambda plan: ";".join(lines))
    with pytest.raises(AssertionError, match="error"):
        assert_same(derivatives(cpu_product.symmetric_product, inputs, (plan, species)), expected, 1e-12)


def test_inputs_that_are_not_contiguous():
    (a, w), (plan, species) = make_case("per element, both parities")
    expected = derivatives(reference.symmetric_product, [a, w], (plan, species))
    species = torch.stack([species, species], dim=1)[:, 0]
    transposed = [t.detach().transpose(0, 1).contiguous().transpose(0, 1).requires_grad_() for t in (a, w)]
    sliced = [torch.cat([t.detach(), t.detach()], dim=1)[:, : t.shape[1]].requires_grad_() for t in (a, w)]
    for inputs in (transposed, sliced):
        assert not any(t.is_contiguous() for t in (*inputs, species))
        assert_same(derivatives(cpu_product.symmetric_product, inputs, (plan, species)), expected, 1e-12)


@pytest.mark.parametrize("species", [None, torch.tensor([0, 2])])
def test_gradcheck(species):
    plan = plan_product(Irreps.parse("1x0e+1x1o"), 3, Irreps.parse("1x0e+1x1o"))
    shape = (plan.n_weights, 1) if species is None else (3, plan.n_weights, 1)
    a = torch.randn(2, plan.irreps_in.dim, dtype=torch.float64, requires_grad=True)
    w = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    for check in (torch.autograd.gradcheck, torch.autograd.gradgradcheck):
        assert check(lambda a, w: cpu_product.symmetric_product(a, w, plan, species), (a, w))


def test_third_derivative_is_refused():
    inputs, rest = make_case("shared weights")
    first = torch.autograd.grad(cpu_product.symmetric_product(*inputs, *rest).pow(2).sum(), inputs, create_graph=True)
    second = torch.autograd.grad(first[0].pow(2).sum(), inputs, create_graph=True)
    with pytest.raises(NotImplementedError, match="third derivative"):
        torch.autograd.grad(second[0].pow(2).sum(), inputs)


def test_a_correlation_beyond_the_library_runs_on_the_reference():
    plan = plan_product(Irreps.parse("2x0e"), 5, Irreps.parse("1x0e"))
    a, w = torch.randn(3, 2, dtype=torch.float64), torch.randn(plan.n_weights, 2, dtype=torch.float64)
    expected = sum(w[i] * a ** (i + 1) for i in range(5))
    torch.testing.assert_close(cpu_product.symmetric_product(a, w, plan), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_result_does_not_depend_on_the_number_of_threads(dtype):
    plan = plan_product(Irreps.parse("16x0e+16x1o+16x2e"), 3, Irreps.parse("1x0e+1x1o"))
    a = torch.randn(2000, plan.irreps_in.dim, dtype=dtype, requires_grad=True)
    w = torch.randn(3, plan.n_weights, 16, dtype=dtype, requires_grad=True)
    species = torch.randint(3, (2000,))
    before, results = torch.get_num_threads(), []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        results.append(derivatives(cpu_product.symmetric_product, [a, w], (plan, species)))
    torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(other[name], t) for name, t in results[0].items())


def test_what_is_refused():
    (a, w), (plan, species) = make_case("mace")
    product = cpu_product.symmetric_product
    for bad in (
        (a[:, 1:], w, species),
        (a, w[:, 1:], species),
        (a, w.float(), species),
        (a.half(), w.half(), species),
        (a, w, None),
        (a, w[0], species),
    ):
        with pytest.raises(ValueError, match="expected"):
            product(*bad[:2], plan, bad[2])
    for bad in (species.int(), species[1:]):
        with pytest.raises(ValueError, match="species"):
            product(a, w, plan, bad)
    for bad in (-1, 4):
        with pytest.raises(native.NativeError, match="species"):
            product(a, w, plan, torch.full_like(species, bad))


@pytest.mark.parametrize("entry", ["0,0,1.0,3", "0,0,1.0,-1", "0,2,1.0,0", "5,0,1.0,0", "-1,0,1.0,0", "0,0,1.0"])
def test_terms_that_are_refused(entry):
    with pytest.raises(native.NativeError, match="path or block"):
        native.product_of_key(f"3,2,5;{entry}")


def test_torchs_own_checks_and_compiled_code():
    (a, w), (plan, species) = make_case("per element, both parities")
    key = cpu_product._key(plan)
    g = torch.randn(a.shape[0], plan.irreps_out.dim, dtype=a.dtype, requires_grad=True)
    torch.library.opcheck(torch.ops.equipot.symmetric_product, (a, w, species, key))
    torch.library.opcheck(torch.ops.equipot.symmetric_product_backward, (g, a, w, species, key, [True, True]))
    # its own derivative does not exist, which opcheck cannot be told: inputs without gradients
    plain = [x.detach() for x in (torch.randn_like(a), torch.randn_like(w), g, a, w)]
    torch.library.opcheck(torch.ops.equipot.symmetric_product_double_backward, (*plain, species, key, [True, False, True]))
    compiled = torch.compile(lambda a, w: cpu_product.symmetric_product(a, w, plan, species).sin(), backend="aot_eager", fullgraph=True)
    eager = cpu_product.symmetric_product(a, w, plan, species).sin()
    torch.testing.assert_close(compiled(a, w), eager)
    for found, expected in zip(torch.autograd.grad(compiled(a, w).sum(), [a, w]), torch.autograd.grad(eager.sum(), [a, w]), strict=True):
        torch.testing.assert_close(found, expected)
    traced = make_fx(lambda a, w: list(derivatives(cpu_product.symmetric_product, [a, w], (plan, species)).values()))(a, w)
    assert any("product_double_backward" in str(node.target) for node in traced.graph.nodes)
