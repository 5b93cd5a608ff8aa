"""The C++ `gate` against the reference: value, first and second derivative, both activations, every instruction set."""

import pytest
import torch
from comparison import assert_same
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from equipot.math import Irreps
from equipot.nn.gate import Gate
from equipot.ops import native, reference, registry
from equipot.ops.plan import GatePlan

if native.library() is None:
    pytest.skip("the C++ library was not built", allow_module_level=True)

from equipot.ops import cpu_gate

TOLERANCE = {torch.float64: 1e-13, torch.float32: 1e-5}
CASES = {  # irreps of the output, even gates, atoms
    "both parities": ("32x0e+32x0o+32x1e+32x1o+32x2e", True, 7),
    "odd gates": ("3x0e+20x1o+5x2e", False, 9),
    "scalars alone": ("33x0e+5x0o", True, 4),
    "no scalars": ("17x1o+1x2o", True, 3),
    "many atoms": ("5x0e+4x1o", True, 300),
    "one atom": ("16x0e+8x1o", True, 1),
    "no atom": ("16x0e+8x1o", True, 0),
}


def make_case(name: str, dtype: torch.dtype = torch.float64) -> tuple[Tensor, GatePlan]:
    irreps, even, n_atoms = CASES[name]
    plan = Gate(Irreps.parse(irreps), even)._plan
    x = 3 * torch.randn(n_atoms, plan.x_dim, dtype=dtype, generator=torch.Generator().manual_seed(0))
    return x.requires_grad_(), plan


def derivatives(gate, x: Tensor, plan: GatePlan) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    value = gate(x, plan)
    g = torch.randn(value.shape, dtype=x.dtype, generator=generator).requires_grad_()
    (first,) = torch.autograd.grad(value, x, g, create_graph=True)
    second = torch.autograd.grad(first, [g, x], torch.randn(x.shape, dtype=x.dtype, generator=generator))
    return {k: t.detach() for k, t in zip(("y", "gx", "dg", "dx"), (value, first, *second), strict=True)}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", CASES)
def test_value_and_derivatives(name, dtype, instruction_set):
    x, plan = make_case(name, dtype)
    assert_same(derivatives(cpu_gate.gate, x, plan), derivatives(reference.gate, x, plan), TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("parity", ["e", "o"])
def test_activations_of_all_sizes(parity, dtype, instruction_set):
    """From far below to far above where the exponential overflows; 0 gives 0; NaN stays."""
    plan = Gate(Irreps.parse(f"257x0{parity}"), True)._plan
    row = torch.cat(
        [torch.linspace(-30, 30, 241), torch.tensor([0.0, -0.0, 1e-30, -1e-7, 1e-4, 88.0, -88.0, 120.0, -120.0, 710.0, -710.0, 1e4, -1e4])]
    )
    x = torch.nn.functional.pad(row, (0, 257 - len(row)))[None].to(dtype).requires_grad_()
    found = derivatives(cpu_gate.gate, x, plan)
    assert_same(found, derivatives(reference.gate, x, plan), 1e-14 if dtype == torch.float64 else 1e-6)
    assert float(found["y"][0, 241]) == 0.0 and all(bool(t.isfinite().all()) for t in found.values())
    assert cpu_gate.gate(torch.full((1, 257), float("nan"), dtype=dtype), plan).isnan().all()


def test_the_library_runs_and_is_what_the_backend_uses(calls):
    assert registry.select("cpu").gate is cpu_gate.gate
    x, plan = make_case("both parities", torch.float32)
    derivatives(cpu_gate.gate, x, plan)
    assert calls == ["gate_f32", "gate_backward_f32", "gate_double_backward_f32"]


def test_only_what_is_wanted():
    x, plan = make_case("both parities")
    results = []
    for gate in (cpu_gate.gate, reference.gate):
        g = torch.linspace(-1, 1, x.shape[0] * plan.y_dim, dtype=x.dtype).reshape(-1, plan.y_dim)
        (to_x,) = torch.autograd.grad(gate(x, plan), x, g, create_graph=True)
        h = (2 * g).requires_grad_()
        (to_g,) = torch.autograd.grad(gate(x * 1.0, plan), x, h * 1.0, create_graph=True)
        results.append([torch.autograd.grad(to_x.pow(2).sum(), x)[0], torch.autograd.grad(to_g.pow(2).sum(), h)[0]])
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected)


def test_a_wrong_place_is_found(monkeypatch):
    """The comparison with the reference can fail."""
    x, plan = make_case("both parities")
    expected = derivatives(reference.gate, x, plan)
    monkeypatch.setattr(cpu_gate, "_key", lambda plan: cpu_gate._key_text(plan).replace("silu", "tanh", 1))
    with pytest.raises(AssertionError, match="error"):
        assert_same(derivatives(cpu_gate.gate, x, plan), expected, 1e-13)


def test_inputs_that_are_not_contiguous():
    x, plan = make_case("both parities")
    expected = derivatives(reference.gate, x, plan)
    for other in (x.detach().t().contiguous().t(), torch.cat([x.detach(), x.detach()], dim=1)[:, : x.shape[1]]):
        assert not other.is_contiguous()
        assert_same(derivatives(cpu_gate.gate, other.requires_grad_(), plan), expected, 1e-13)


def test_gradcheck():
    plan = Gate(Irreps.parse("2x0e+1x0o+2x1o"), True)._plan
    x = torch.randn(2, plan.x_dim, dtype=torch.float64, requires_grad=True)
    for check in (torch.autograd.gradcheck, torch.autograd.gradgradcheck):
        assert check(lambda x: cpu_gate.gate(x, plan), (x,))


def test_third_derivative_is_refused():
    x, plan = make_case("both parities")
    (first,) = torch.autograd.grad(cpu_gate.gate(x, plan).pow(2).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.pow(2).sum(), x, create_graph=True)
    with pytest.raises(NotImplementedError, match="third derivative"):
        torch.autograd.grad(second.pow(2).sum(), x)


def test_result_does_not_depend_on_the_number_of_threads():
    plan = Gate(Irreps.parse("32x0e+32x1o+20x2e"), True)._plan
    x = torch.randn(3000, plan.x_dim, requires_grad=True)
    before, results = torch.get_num_threads(), []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        results.append(derivatives(cpu_gate.gate, x, plan))
    torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(other[name], t) for name, t in results[0].items())


def test_what_is_refused():
    x, plan = make_case("both parities")
    for bad in (x[:, 1:], x.half()):
        with pytest.raises(ValueError, match="expected"):
            cpu_gate.gate(bad, plan)
    for block in ("silu,0,4,5,0,0,1.0", "silu,0,8,0,0,1,1.0", "silu,3,2,0,7,0,1.0", "silu,0,4,0,0,0,1.0", "tanh,-1,8,0,0,0,1.0"):
        with pytest.raises(native.NativeError, match="path or block"):
            cpu_gate._forward_kernel(torch.zeros(2, 8), f"8,8;{block}")


def test_torchs_own_checks_and_compiled_code():
    x, plan = make_case("both parities")
    key, g = cpu_gate._key(plan), torch.randn(x.shape[0], plan.y_dim, dtype=x.dtype, requires_grad=True)
    torch.library.opcheck(torch.ops.equipot.gate, (x, key))
    torch.library.opcheck(torch.ops.equipot.gate_backward, (g, x, key))
    # its own derivative does not exist, which opcheck cannot be told: inputs without gradients
    torch.library.opcheck(
        torch.ops.equipot.gate_double_backward, (torch.randn_like(x).detach(), g.detach(), x.detach(), key, [True, False])
    )
    compiled = torch.compile(lambda x: cpu_gate.gate(x, plan).sin(), backend="aot_eager", fullgraph=True)
    eager = cpu_gate.gate(x, plan).sin()
    torch.testing.assert_close(compiled(x), eager)
    torch.testing.assert_close(torch.autograd.grad(compiled(x).sum(), x), torch.autograd.grad(eager.sum(), x))
    traced = make_fx(lambda x: list(derivatives(cpu_gate.gate, x, plan).values()))(x)
    assert any("gate_double_backward" in str(node.target) for node in traced.graph.nodes)
