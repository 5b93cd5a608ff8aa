"""The C++ harmonics and radial functions against the reference: value, first, second and third derivative, every instruction set."""

import math
from collections.abc import Callable

import pytest
import torch
from comparison import assert_same
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from equipot.ops import geometry, native, reference, registry

if native.library() is None:
    pytest.skip("the C++ library was not built", allow_module_level=True)

from equipot.ops import cpu_bessel, cpu_harmonics

DTYPES = [torch.float64, torch.float32]
TOLERANCE = {torch.float64: 1e-13, torch.float32: 1e-5}
CUTOFF = 4.5
DISTANCES = [0.0, 1e-9, 1e-4, 0.019, 0.0201, 0.1, 0.5, 1.0, 1.43, 1.44, 2.5, 4.4999, 4.5, 4.51, 60.0, 1e9]
ENVELOPES = [("polynomial", 1), ("polynomial", 2), ("polynomial", 6), ("cosine", 0)]
Function = Callable[..., Tensor]


def vectors(n: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Random ones, the axes, and two in coordinate planes."""
    special = torch.cat([torch.eye(3), -torch.eye(3), torch.tensor([[1.0, 0.0, -2.0], [0.0, -0.3, 0.4]])])
    random = 2 * torch.randn(max(n - 8, 0), 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return torch.cat([special.double(), random])[:n].to(dtype).requires_grad_()


def distances(dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.tensor(DISTANCES, dtype=torch.float64).to(dtype).requires_grad_()


def frequencies(n: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Bessel's, moved a little: as after training."""
    return (torch.arange(1, n + 1, dtype=torch.float64) * (math.pi / CUTOFF) * 1.01).to(dtype).requires_grad_()


def random(like: Tensor, seed: int) -> Tensor:
    return torch.randn(like.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).to(like.dtype).requires_grad_()


def derivatives(f: Function, *arguments: Tensor, third: bool = False) -> dict[str, Tensor]:
    """The value and all first and second derivatives along random directions; with `third`, derivatives of those too."""
    value = f(*arguments)
    g = random(value, 1)
    first = torch.autograd.grad(value, arguments, g, create_graph=True)
    along = [random(t, 2 + i) for i, t in enumerate(first)]
    second = torch.autograd.grad(first, [g, *arguments], along, create_graph=third, allow_unused=True)
    found = {"value": value, **{f"first {i}": t for i, t in enumerate(first)}, **{f"second {i}": t for i, t in enumerate(second)}}
    if third:
        directions = [random(t, 5 + i).detach() for i, t in enumerate(second)]
        thirds = torch.autograd.grad(second, [*along, g, *arguments], directions, allow_unused=True)
        found |= {f"third {i}": t for i, t in enumerate(thirds) if t is not None}
    return {name: t.detach() for name, t in found.items()}


def bessel(f: Function, envelope: str = "polynomial", p: int = 6) -> Function:
    return lambda r, w: f(r, w, 0.7, CUTOFF, envelope, p)


# ---- harmonics ----


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("l_max", range(1, 9))
def test_harmonics(l_max, dtype, instruction_set):
    for n in (0, 1, 37):
        v = vectors(n, dtype)
        expected = derivatives(lambda v: reference.spherical_harmonics(v, l_max), v)
        assert_same(derivatives(lambda v: cpu_harmonics.spherical_harmonics(v, l_max), v), expected, TOLERANCE[dtype])


def test_harmonics_of_degree_0_are_1(instruction_set):
    v = vectors(5)
    found = derivatives(lambda v: cpu_harmonics.spherical_harmonics(v, 0), v, third=True)
    assert torch.equal(found["value"], torch.ones(5, 1, dtype=torch.float64))
    assert not any(x.any() for name, x in found.items() if name != "value")


@pytest.mark.parametrize("l_max", [1, 3, 8])
def test_harmonics_of_contact(l_max, instruction_set):
    """The reference's: finite, with its derivatives; beside others in one vector."""
    v = vectors(20).detach().clone()
    v[::3] = 0
    v.requires_grad_()
    expected = derivatives(lambda v: reference.spherical_harmonics(v, l_max), v)
    assert_same(derivatives(lambda v: cpu_harmonics.spherical_harmonics(v, l_max), v), expected, 1e-13)


@pytest.mark.parametrize("l_max", [0, 1, 4])
def test_harmonics_gradcheck(l_max):
    v = vectors(9)
    for check in (torch.autograd.gradcheck, torch.autograd.gradgradcheck):
        assert check(lambda v: cpu_harmonics.spherical_harmonics(v, l_max), (v,))


def test_not_a_number_stays():
    v, r = vectors(20).detach().clone(), distances().detach().clone()
    v[3, 1] = r[5] = float("nan")
    y, e = cpu_harmonics.spherical_harmonics(v, 2), bessel(cpu_bessel.enveloped_bessel)(r, frequencies(8).detach())
    assert y[3, 1:].isnan().all() and y.isnan().sum() == 8
    assert e[5].isnan().all() and e.isnan().sum() == 8


# ---- radial functions ----


@pytest.mark.parametrize("envelope", ENVELOPES)
@pytest.mark.parametrize("n", [1, 8, 19])
def test_radial_functions(n, envelope, instruction_set):
    """Contact, both sides of the cutoff and of where series take over, far away."""
    expected = derivatives(bessel(reference.enveloped_bessel, *envelope), distances(), frequencies(n))
    found = derivatives(bessel(cpu_bessel.enveloped_bessel, *envelope), distances(), frequencies(n))
    assert_same(found, expected, 1e-10)  # the reference loses digits at short distances
    far = distances() >= CUTOFF
    assert not found["value"][far].any() and not found["first 0"][far].any() and not found["second 1"][far].any()


@pytest.mark.parametrize("envelope", ENVELOPES)
@pytest.mark.parametrize("n_pairs", [0, 1, 3000])
def test_radial_functions_of_any_number_of_pairs(n_pairs, envelope):
    r = (0.5 + 4.5 * torch.rand(n_pairs, dtype=torch.float64, generator=torch.Generator().manual_seed(3))).requires_grad_()
    expected = derivatives(bessel(reference.enveloped_bessel, *envelope), r, frequencies(8))
    assert_same(derivatives(bessel(cpu_bessel.enveloped_bessel, *envelope), r, frequencies(8)), expected, 1e-12)


@pytest.mark.parametrize("envelope", ENVELOPES)
def test_radial_gradcheck(envelope):
    r = torch.tensor([0.3, 0.9, 2.0, 3.3], dtype=torch.float64, requires_grad=True)
    for check in (torch.autograd.gradcheck, torch.autograd.gradgradcheck):
        assert check(bessel(cpu_bessel.enveloped_bessel, *envelope), (r, frequencies(3)))


# ---- both ----

CASES = {
    "harmonics": (
        lambda f: lambda v: f(v, 3),
        reference.spherical_harmonics,
        cpu_harmonics.spherical_harmonics,
        lambda t: [vectors(37, t)],
    ),
    "radial functions": (
        bessel,
        reference.enveloped_bessel,
        cpu_bessel.enveloped_bessel,
        lambda t: [torch.linspace(0.02, CUTOFF, 301).to(t).requires_grad_(), frequencies(8, t)],
    ),
}
each = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


@each
def test_single_precision_is_as_good_as_torchs(case, instruction_set):
    wrap, theirs, ours, make = case
    exact = derivatives(wrap(theirs), *[t.detach().double().requires_grad_() for t in make(torch.float32)])
    single = [derivatives(wrap(f), *make(torch.float32)) for f in (ours, theirs)]
    for name, x in exact.items():
        error, other = (float((found[name].double() - x).abs().max() / max(1.0, x.abs().max())) for found in single)
        assert single[0][name].dtype == torch.float32
        assert error <= max(1.5 * other, 6e-7), f"{name}: {error:.1e}, torch {other:.1e}"


@each
def test_third_derivatives_are_the_references(case):
    wrap, theirs, ours, make = case
    arguments = make(torch.float64)
    expected = derivatives(wrap(theirs), *arguments, third=True)
    assert sum(name.startswith("third") for name in expected) == 2 * len(arguments) + 1
    assert_same(derivatives(wrap(ours), *arguments, third=True), expected, 1e-11)


@each
def test_transforms_of_torch_func_are_the_references(case):
    wrap, theirs, ours, make = case
    arguments = tuple(t.detach() for t in make(torch.float64))
    directions = tuple(random(t, 9).detach() for t in arguments)
    expected, found = (torch.func.jvp(wrap(f), arguments, directions) for f in (theirs, ours))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-15)


@each
def test_result_does_not_depend_on_the_number_of_threads(case):
    wrap, _, ours, make = case
    arguments = [t.detach().repeat([400 if t.shape[0] > 8 else 1] + [1] * (t.dim() - 1)).requires_grad_() for t in make(torch.float32)]
    before, results = torch.get_num_threads(), []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        results.append(derivatives(wrap(ours), *arguments))
    torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(other[name], t) for name, t in results[0].items())


@each
def test_torchs_own_checks_and_compiled_code(case):
    wrap, _, ours, make = case
    arguments = make(torch.float64)
    compiled = torch.compile(lambda *x: wrap(ours)(*x).sin(), backend="aot_eager", fullgraph=True)
    eager = wrap(ours)(*arguments).sin()
    torch.testing.assert_close(compiled(*arguments), eager)
    grads = (torch.autograd.grad(y.sum(), arguments) for y in (compiled(*arguments), eager))
    torch.testing.assert_close(*grads)
    traced = make_fx(lambda *x: list(derivatives(wrap(ours), *x).values()))(*arguments)
    assert any("double_backward" in str(node.target) for node in traced.graph.nodes)


def test_custom_operations():
    v, r, w = vectors(5), distances(), frequencies(3)
    y, e = torch.randn(5, 9, dtype=torch.float64, requires_grad=True), torch.randn(len(r), 3, dtype=torch.float64, requires_grad=True)
    ops, key, u = torch.ops.equipot, "polynomial,6,4.5,0.7", torch.randn(5, 3, dtype=torch.float64)
    torch.library.opcheck(ops.harmonics, (v, 2))
    torch.library.opcheck(ops.harmonics_backward, (y, v, 2))
    torch.library.opcheck(ops.harmonics_double_backward, (u, y.detach(), v.detach(), 2, [True, False]))
    torch.library.opcheck(ops.bessel, (r, w, key))
    torch.library.opcheck(ops.bessel_backward, (e, r, w, key, [True, True]))
    plain = r.detach(), w.detach(), key
    torch.library.opcheck(ops.bessel_double_backward, (random(r, 0).detach(), None, e.detach(), *plain, [True, True, False]))


def test_the_library_runs_and_is_what_the_backend_uses(calls):
    ops = registry.select("cpu")
    assert ops.spherical_harmonics is cpu_harmonics.spherical_harmonics and ops.enveloped_bessel is cpu_bessel.enveloped_bessel
    derivatives(lambda v: ops.spherical_harmonics(v, 2), vectors(4, torch.float32))
    derivatives(bessel(ops.enveloped_bessel), distances(), frequencies(8))
    names = ["harmonics_f32", "harmonics_backward_f32", "harmonics_double_backward_f32"]
    assert calls == [*names, "bessel_f64", "bessel_backward_f64", "bessel_double_backward_f64"]


def test_only_what_is_wanted(monkeypatch):
    """As in training: the second pass goes to the weights, behind the harmonics and radial functions, not to the vectors."""
    seen = []
    for module in (cpu_harmonics, cpu_bessel):
        kernel = module._double_backward_kernel
        monkeypatch.setattr(module, "_double_backward_kernel", lambda *x, kernel=kernel: seen.append(x[-1]) or kernel(*x))
    v, w, weight = vectors(20), frequencies(8).detach(), torch.ones(9, 8, dtype=torch.float64, requires_grad=True)
    places = v * 1.0
    y = cpu_harmonics.spherical_harmonics(places, 2)
    e = bessel(cpu_bessel.enveloped_bessel)(torch.linalg.vector_norm(places, dim=1), w)
    (force,) = torch.autograd.grad(((y @ weight) * e).sum(), v, create_graph=True)
    force.pow(2).sum().backward(inputs=[weight])
    assert sorted(seen) == [[True, False], [True, False, False]]


def test_inputs_that_are_not_contiguous():
    v, r, w = vectors(20).detach(), distances().detach(), frequencies(8).detach()
    found = cpu_harmonics.spherical_harmonics(v.t().contiguous().t(), 3)
    torch.testing.assert_close(found, cpu_harmonics.spherical_harmonics(v, 3), rtol=0, atol=0)
    strided = bessel(cpu_bessel.enveloped_bessel)(torch.stack([r, r], 1)[:, 1], torch.stack([w, w], 1)[:, 1])
    torch.testing.assert_close(strided, bessel(cpu_bessel.enveloped_bessel)(r, w), rtol=0, atol=0)


def test_something_broken_is_found(monkeypatch):
    """The comparisons with the reference can fail: components exchanged, another exponent."""
    v, r, w = vectors(20), distances(), frequencies(8)
    swapped = lambda v: cpu_harmonics.spherical_harmonics(v[:, [1, 0, 2]], 2)  # noqa: E731
    for found, theirs, arguments in (
        (swapped, lambda v: reference.spherical_harmonics(v, 2), (v,)),
        (bessel(cpu_bessel.enveloped_bessel, "polynomial", 5), bessel(reference.enveloped_bessel), (r, w)),
    ):
        with pytest.raises(AssertionError, match="error"):
            assert_same(derivatives(found, *arguments), derivatives(theirs, *arguments), 1e-3)


def test_what_is_refused():
    v, r, w = vectors(4), distances(), frequencies(3)
    for bad in (v[:, 1:], v.half()):
        with pytest.raises(ValueError, match="expected"):
            cpu_harmonics.spherical_harmonics(bad, 2)
    with pytest.raises(ValueError, match="expected"):
        bessel(cpu_bessel.enveloped_bessel)(r[:, None], w)
    for l_max in (-1, 9):
        with pytest.raises((native.NativeError, RuntimeError)):
            cpu_harmonics._forward_kernel(v.detach(), l_max)
    for key in ("polynomial,0,4.5,1.0", "cosine,0,-1.0,1.0", "cosine,0,nan,1.0"):
        with pytest.raises(native.NativeError):
            cpu_bessel._forward_kernel(r.detach(), w.detach(), key)
    assert geometry.spherical_harmonics(v, 9).shape == (4, 100)
