"""Modules against e3nn with the same raw weights: what fixes fan-in, second moments and the order of channels of every saved model."""

from dataclasses import replace

import numpy as np
import torch
from e3nn import nn as e3nn_nn
from e3nn import o3

from equipot.math import Irreps, clebsch_gordan, transform_features
from equipot.model import Potential
from equipot.nn.gate import Gate
from equipot.nn.linear import ElementLinear, IrrepsLinear
from equipot.nn.perceptron import Perceptron
from equipot.ops.registry import REFERENCE
from equipot.presets import botnet
from equipot.spec import EnergySpec

EXACT = 1e-12


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def to_e3nn(x: torch.Tensor, irreps: Irreps) -> torch.Tensor:
    """Blocks (2l+1, K), channels fastest, as e3nn's (K, 2l+1), components fastest."""
    blocks = [x[:, b.start : b.stop].reshape(len(x), b.dim, b.mul).transpose(1, 2).reshape(len(x), -1) for b in irreps]
    return torch.cat(blocks, dim=1)


def in_float64(module: type, *args, **kwargs) -> torch.nn.Module:
    """The module with float64 weights."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        return module(*args, **kwargs)
    finally:
        torch.set_default_dtype(before)


def same(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    assert ours.shape == theirs.shape
    assert torch.allclose(ours, theirs, rtol=0, atol=EXACT), f"differs by {(ours - theirs).abs().max():.1e}"


def linear_is_e3nn() -> None:
    """o3.Linear: W/√K_in per irrep, absent inputs give zeros."""
    a, b = Irreps.parse("4x0e+3x1o+2x1e+5x2e"), Irreps.parse("2x0e+4x1o+3x2e+2x2o")
    ours = in_float64(IrrepsLinear, a, b, REFERENCE)
    theirs = in_float64(o3.Linear, str(a), str(b))
    with torch.no_grad():
        theirs.weight.copy_(ours.weight)
    x = random(5, a.dim)
    same(to_e3nn(ours(x), b), theirs(to_e3nn(x, a)))


def element_linear_is_e3nn() -> None:
    """o3.FullyConnectedTensorProduct with one-hot and with dense attributes: W/√(A K_in)."""
    a, b, species = Irreps.parse("4x0e+3x1o"), Irreps.parse("2x0e+4x1o"), torch.tensor([0, 2, 1, 1, 2])
    for attributes in (torch.eye(3, dtype=torch.float64), random(3, 4, seed=1)):
        n = attributes.shape[1]
        ours = in_float64(ElementLinear, a, b, n, REFERENCE)
        theirs = in_float64(o3.FullyConnectedTensorProduct, str(a), f"{n}x0e", str(b))
        start, parts = 0, []
        for block in a:  # theirs: (K_in, A, K_out) per irrep
            size = block.mul * b.mul(block.l, block.p)
            parts.append(ours.weight[:, start : start + size].reshape(n, block.mul, -1).transpose(0, 1).reshape(-1))
            start += size
        with torch.no_grad():
            theirs.weight.copy_(torch.cat(parts))
        x = random(5, a.dim)
        given = None if n == 3 else attributes
        same(to_e3nn(ours(x, species, given), b), theirs(to_e3nn(x, a), attributes[species]))


def embedding_is_e3nn() -> None:
    """o3.Linear of one-hot elements: W/√n_elements."""
    spec = botnet(n_layers=1, n_channels=5)
    (layer,) = spec.layers
    layer = replace(layer, normaliser=replace(layer.normaliser, value=5.0))
    potential = Potential(replace(spec, elements=(1, 6, 8), layers=(layer,), energy=EnergySpec(e0=0.0, scale=1.0)), dtype=torch.float64)
    theirs = in_float64(o3.Linear, "3x0e", "5x0e")
    with torch.no_grad():
        theirs.weight.copy_(potential.embedding.reshape(-1))
    same(potential.embedding * potential._embedding_scale, theirs(torch.eye(3, dtype=torch.float64)))


def perceptron_is_e3nn() -> None:
    """e3nn.nn.FullyConnectedNet: W/√fan-in and activations of unit second moment."""
    ours = in_float64(Perceptron, (6, 8, 4, 2), "silu", "e3nn")
    theirs = in_float64(e3nn_nn.FullyConnectedNet, [6, 8, 4, 2], torch.nn.functional.silu)
    with torch.no_grad():
        for i, weight in enumerate(ours.weights):
            getattr(theirs, f"layer{i}").weight.copy_(weight)
    x = random(9, 6)
    same(ours(x), theirs(x))


def perceptron_is_nequips() -> None:
    """x W_0/√n_0, then SiLU without a factor and √(2/n) W: forward variance as a ReLU would have it."""
    ours = in_float64(Perceptron, (6, 8, 2), "silu", "he")
    x = random(9, 6)
    first, second = (w.detach() for w in ours.weights)
    same(ours(x), torch.nn.functional.silu(x @ first / 6**0.5) @ second * (2 / 8) ** 0.5)


def gate_is_e3nn() -> None:
    """e3nn.nn.Gate with even and with odd gates, scalars of both parities; odd gates turn the parity of what they multiply."""
    silu, tanh = torch.nn.functional.silu, torch.tanh
    for parity, gated, act in (("e", "2x1e+4x1o+1x2e", silu), ("o", "2x1o+4x1e+1x2o", tanh)):
        irreps = Irreps.parse("3x0e+2x0o+2x1e+4x1o+1x2e")
        ours = Gate(irreps, parity == "e")
        theirs = e3nn_nn.Gate("3x0e+2x0o", [silu, tanh], "+".join(f"{n}x0{parity}" for n in (2, 4, 1)), [act] * 3, gated)
        assert Irreps.parse(str(theirs.irreps_out)) == irreps
        x = random(6, ours.irreps_in.dim, seed=2)
        blocks = [ours.irreps_in.find(ir.l, ir.p) for _, ir in theirs.irreps_in.simplify()]
        rows = [x[:, b.start : b.stop].reshape(6, b.dim, b.mul).transpose(1, 2).reshape(6, -1) for b in blocks]
        same(to_e3nn(ours(x), irreps), theirs(torch.cat(rows, dim=1)))


def gate_is_equivariant() -> None:
    """A gate commutes with rotations and reflections."""
    for even in (True, False):
        gate = Gate(Irreps.parse("3x0e+2x0o+2x1e+4x1o+1x2e+1x2o"), even)
        x = random(6, gate.irreps_in.dim).numpy()
        q = np.linalg.qr(random(3, 3, seed=3).numpy())[0]
        for matrix in (q, -q):
            turned = gate(torch.from_numpy(transform_features(x, gate.irreps_in, matrix)))
            same(turned, torch.from_numpy(transform_features(gate(torch.from_numpy(x)).numpy(), gate.irreps, matrix)))


def couplings_are_e3nns() -> None:
    """The signs of the Clebsch-Gordan coefficients are part of what a saved model means."""
    for l1, l2, l3 in ((1, 1, 1), (1, 1, 2), (1, 2, 2), (2, 1, 2), (2, 2, 2), (2, 2, 3)):
        theirs = (2 * l3 + 1) ** 0.5 * o3.wigner_3j(l1, l2, l3, dtype=torch.float64)
        same(torch.from_numpy(clebsch_gordan(l1, l2, l3).copy()), theirs)


ORACLES = (
    linear_is_e3nn,
    element_linear_is_e3nn,
    embedding_is_e3nn,
    perceptron_is_e3nn,
    perceptron_is_nequips,
    gate_is_e3nn,
    gate_is_equivariant,
    couplings_are_e3nns,
)
