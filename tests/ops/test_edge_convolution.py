"""The C++ `edge_convolution` against the reference: value, first and second derivative, for every input."""

import itertools

import pytest
import torch
from comparison import assert_same
from convolution_cases import PLANS, derivatives, paired, plan_of, random_edges, random_inputs
from hypothesis import given, settings
from hypothesis import strategies as st

from equipot.math import Irreps
from equipot.ops import native, reference
from equipot.ops.plan import plan_convolution

if native.library() is None:
    pytest.skip("the C++ library was not built", allow_module_level=True)

from equipot.ops import cpu

TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-5}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", PLANS)
def test_value_and_derivatives(name, dtype, instruction_set):
    plan, edges = plan_of(name), random_edges(9, 77)
    inputs = random_inputs(plan, 9, 77, dtype)
    found = derivatives(cpu.edge_convolution, inputs, edges, plan)
    exact = derivatives(reference.edge_convolution, [x.detach().double().requires_grad_() for x in inputs], edges, plan)
    if dtype == torch.float32:  # random cotangents depend on the dtype: compare with the reference of that dtype
        exact = derivatives(reference.edge_convolution, inputs, edges, plan)
    assert_same(found, exact, TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", PLANS)
def test_weights_by_pair(name, dtype, instruction_set):
    plan, edges = plan_of(name), paired(random_edges(9, 77))
    h, y, w = random_inputs(plan, 9, 77, dtype)
    inputs = [h, y, w.detach()[: len(edges.pair_edges)].clone().requires_grad_()]
    found = derivatives(cpu.edge_convolution, inputs, edges, plan)
    assert_same(found, derivatives(reference.edge_convolution, inputs, edges, plan), TOLERANCE[dtype])


def test_pairs_that_contradict_their_edges_are_refused():
    plan, edges = plan_of("scalars"), paired(random_edges(9, 77))
    h, y, w = random_inputs(plan, 9, 77, torch.float64)
    w = w[: len(edges.pair_edges)]
    for wrong in (
        edges._replace(pair=edges.pair.roll(1)),
        edges._replace(pair_edges=edges.pair_edges.flip(0)),
        edges._replace(pair=edges.pair + 1),
    ):
        with pytest.raises(native.NativeError, match="index"):
            cpu.edge_convolution(h, y, w, wrong, plan)


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_random_plans(data):
    l_max = data.draw(st.integers(0, 3))
    irreps = Irreps(
        tuple(
            (data.draw(st.sampled_from([1, 2, 3, 8, 15, 16, 17, 31, 32, 40])), l, p)
            for l in range(data.draw(st.integers(0, 3)) + 1)
            for p in (1, -1)
            if data.draw(st.booleans()) or (l == 0 and p == 1)
        )
    )
    keep = Irreps(tuple((1, l, p) for l in range(4) for p in (1, -1) if data.draw(st.booleans()) or (l == 0 and p == 1)))
    plan = plan_convolution(irreps, l_max, keep)
    n_atoms, n_edges = data.draw(st.integers(1, 20)), data.draw(st.integers(0, 60))
    edges, inputs = random_edges(n_atoms, n_edges), random_inputs(plan, n_atoms, n_edges, torch.float64)
    assert_same(derivatives(cpu.edge_convolution, inputs, edges, plan), derivatives(reference.edge_convolution, inputs, edges, plan), 1e-12)


@pytest.mark.parametrize(("n_atoms", "n_edges"), [(0, 0), (1, 0), (7, 0), (1, 1), (1, 40), (300, 5)])
def test_small_graphs(n_atoms, n_edges):
    plan, edges = plan_of("ragged channels"), random_edges(n_atoms, n_edges)
    inputs = random_inputs(plan, n_atoms, n_edges, torch.float64)
    assert_same(derivatives(cpu.edge_convolution, inputs, edges, plan), derivatives(reference.edge_convolution, inputs, edges, plan), 1e-12)


def test_inputs_that_are_not_contiguous():
    plan, edges = plan_of("ragged channels"), random_edges(9, 77)
    wide = random_inputs(plan, 9, 77, torch.float64)
    transposed = [x.detach().t().contiguous().t().requires_grad_() for x in wide]
    sliced = [torch.cat([x.detach(), x.detach()], dim=1)[:, : x.shape[1]].requires_grad_() for x in wide]
    expected = derivatives(reference.edge_convolution, wide, edges, plan)
    for inputs in (transposed, sliced):
        assert not all(x.is_contiguous() for x in inputs)
        assert_same(derivatives(cpu.edge_convolution, inputs, edges, plan), expected, 1e-12)


@pytest.mark.parametrize("wanted", [w for w in itertools.product([False, True], repeat=3) if any(w)])
def test_only_what_is_wanted(wanted):
    """Any subset of gradients, and a double backward that reaches only one first derivative: absent cotangents and unwanted outputs."""
    plan, edges = plan_of("nequip l=1"), random_edges(9, 77)
    inputs = [x.detach().requires_grad_(flag) for x, flag in zip(random_inputs(plan, 9, 77, torch.float64), wanted, strict=True)]
    leaves = [x for x in inputs if x.requires_grad]
    results = []
    for convolve in (cpu.edge_convolution, reference.edge_convolution):
        value = convolve(*inputs, edges, plan)
        weight = torch.linspace(-1, 1, value.numel(), dtype=torch.float64).reshape(value.shape).requires_grad_()
        first = torch.autograd.grad((value * weight).sum(), leaves, create_graph=True)
        second = [torch.autograd.grad((g**2).sum(), [*leaves, weight], retain_graph=True, materialize_grads=True) for g in first]
        results.append([value, *first, *(x for row in second for x in row)])
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected)


def test_gradgradcheck():
    plan, edges = plan_convolution(Irreps.parse("2x0e+1x1o"), 1, Irreps.parse("0e+1o")), random_edges(3, 4)
    inputs = random_inputs(plan, 3, 4, torch.float64)
    assert torch.autograd.gradcheck(lambda *x: cpu.edge_convolution(*x, edges, plan), inputs)
    assert torch.autograd.gradgradcheck(lambda *x: cpu.edge_convolution(*x, edges, plan), inputs)


def test_third_derivative_is_refused():
    plan, edges = plan_of("nequip l=1"), random_edges(9, 77)
    inputs = random_inputs(plan, 9, 77, torch.float64)
    first = torch.autograd.grad(cpu.edge_convolution(*inputs, edges, plan).pow(2).sum(), inputs, create_graph=True)
    second = torch.autograd.grad(first[0].pow(2).sum(), inputs, create_graph=True)
    with pytest.raises(NotImplementedError, match="third derivative"):
        torch.autograd.grad(second[0].pow(2).sum(), inputs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_result_does_not_depend_on_the_number_of_threads(dtype):
    plan, edges = plan_of("nequip l=1"), random_edges(400, 9000)
    inputs = random_inputs(plan, 400, 9000, dtype)
    before, results = torch.get_num_threads(), []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        results.append(derivatives(cpu.edge_convolution, inputs, edges, plan))
    torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(other[name], x) for name, x in results[0].items())


def test_what_is_refused():
    plan, edges = plan_of("nequip l=1"), random_edges(9, 77)
    h, y, w = (x.detach() for x in random_inputs(plan, 9, 77, torch.float64))
    for bad in ((h[:, 1:], y, w), (h, y[1:], w), (h, y, w.float()), (h.half(), y.half(), w.half())):
        with pytest.raises(ValueError, match="expected"):
            cpu.edge_convolution(*bad, edges, plan)
    with pytest.raises(native.NativeError, match="out of range"):
        cpu.edge_convolution(h, y, w, edges._replace(sender=edges.sender + 1), plan)
    with pytest.raises(native.NativeError, match="ascending"):
        cpu.edge_convolution(h, y, w, edges._replace(receiver_start=edges.receiver_start.flip(0)), plan)
    with pytest.raises(ValueError, match="index"):
        cpu.edge_convolution(h, y, w, edges._replace(sender=edges.sender.int()), plan)
