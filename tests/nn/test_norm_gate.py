import torch
from e3nn import nn as e3nn_nn
from e3nn import o3

from equipot.math import Irreps
from equipot.nn.norm_gate import NormGate

IRREPS = Irreps.parse("3x0e+2x0o+2x1o+1x2e")


def to_e3nn(x: torch.Tensor) -> torch.Tensor:
    """Blocks (2l+1, K) with channels fastest, as e3nn has them: (K, 2l+1)."""
    return torch.cat([x[:, b.start : b.stop].reshape(-1, b.dim, b.mul).transpose(1, 2).flatten(1) for b in IRREPS], dim=1)


def features(n: int) -> torch.Tensor:
    return torch.randn(n, IRREPS.dim, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


def test_it_is_e3nns_norm_activation():
    names = "+".join(f"{b.mul}x{b.l}{'e' if b.p == 1 else 'o'}" for b in IRREPS)
    theirs = e3nn_nn.NormActivation(o3.Irreps(names), torch.nn.functional.silu, normalize=True, epsilon=1e-8, bias=False).double()
    x = features(6)
    assert torch.allclose(to_e3nn(NormGate(IRREPS)(x)), theirs(to_e3nn(x)), rtol=0, atol=1e-12)


def test_nothing_stays_nothing_with_a_derivative():
    x = torch.zeros(2, IRREPS.dim, dtype=torch.float64, requires_grad=True)
    y = NormGate(IRREPS)(x)
    assert not y.any()
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert torch.allclose(gradient, torch.full_like(x, 0.5), rtol=0, atol=1e-7)


def test_second_derivatives():
    x = features(2).requires_grad_()
    assert torch.autograd.gradcheck(NormGate(IRREPS), x)
    assert torch.autograd.gradgradcheck(NormGate(IRREPS), x)
