"""Coupled radial weights against e3nn's 'uvw' tensor product, edge by edge, and what they are the uncoupled ones of."""

import re
from dataclasses import replace

import torch
from e3nn import o3

from equipot.data.neighbours import neighbour_graph
from equipot.math import Irreps
from equipot.model import Potential, predict
from equipot.nn.channel_mixing import Spread, SumChannels, spread_irreps
from equipot.nn.slots import Unnormalised
from equipot.ops.plan import Edges, plan_convolution
from equipot.ops.reference import edge_convolution
from equipot.presets import nequip

FEATURES, KEEP, L_MAX = Irreps.parse("3x0e+2x1o"), Irreps.parse("1x0e+1x1o"), 1


def to_e3nn(x: torch.Tensor, irreps: Irreps) -> torch.Tensor:
    return torch.cat([x[:, b.start : b.stop].reshape(-1, b.dim, b.mul).transpose(1, 2).flatten(1) for b in irreps], dim=1)


def one_edge_each(n: int) -> Edges:
    """Edge e from atom n + e to atom e."""
    each = torch.arange(n)
    return Edges(
        each + n,
        each,
        torch.arange(2 * n + 1).clamp(max=n),
        each,
        torch.zeros(2 * n + 1, dtype=torch.int64),
        each,
        torch.stack([each, each], 1),
    )


def test_it_is_e3nns_fully_connected_product():
    torch.manual_seed(2)
    n, uncoupled, coupled = 5, plan_convolution(FEATURES, L_MAX, KEEP), plan_convolution(spread_irreps(FEATURES), L_MAX, KEEP)
    h, y = torch.randn(2 * n, FEATURES.dim, dtype=torch.float64), torch.randn(n, (L_MAX + 1) ** 2, dtype=torch.float64)
    weights, edges = torch.randn(n, coupled.n_weights, dtype=torch.float64), one_edge_each(n)
    found = SumChannels(coupled, torch.nn.Identity())(
        edge_convolution(Spread(Unnormalised(), FEATURES)(h, None, None, edges), y, weights, edges, coupled)
    )
    blocks = {(b.l, b.p): i for i, b in enumerate(FEATURES)}
    outputs = [(p.n_channels, (p.l3, p.p3)) for p in uncoupled.paths]
    instructions = [(blocks[p.l1, p.p1], p.l2, k, "uvw", True) for k, p in enumerate(uncoupled.paths)]
    theirs = o3.TensorProduct(
        str(FEATURES), "1x0e+1x1o", outputs, instructions, irrep_normalization="component", path_normalization="none", shared_weights=False
    )
    theirs = theirs.double()(to_e3nn(h[n:], FEATURES), y, weights)
    factors = []
    for p in uncoupled.paths:  # their "none" leaves 1/√K to us
        factors += [p.n_channels**-0.5] * (p.n_channels * (2 * p.l3 + 1))
    assert torch.allclose(to_e3nn(found[:n], uncoupled.irreps_out), theirs * torch.tensor(factors, dtype=torch.float64), rtol=0, atol=1e-12)


def test_diagonal_weights_are_the_uncoupled_convolution():
    """R_kk' = √K δ_kk' R_k: the same energies."""
    spec = nequip(cutoff=3.4, n_layers=2, n_channels=3, radial_mlp=(5,), l_max=1)
    layers = tuple(replace(layer, normaliser=replace(layer.normaliser, value=5.0)) for layer in spec.layers)
    spec = replace(spec, layers=layers, elements=(1, 8), energy=replace(spec.energy, e0=0.0, scale=1.0))
    mixed = replace(spec, layers=tuple(replace(layer, radial=replace(layer.radial, channels="coupled")) for layer in layers))
    single, both = Potential(spec, dtype=torch.float64), Potential(mixed, dtype=torch.float64)
    state = {k: v for k, v in single.state_dict().items() if "radial.mlp.weights.1" not in k}
    state = {re.sub(r"(layers\.\d)\.linear\.", r"\1.linear.linear.", k): v for k, v in state.items()}
    missing, unknown = both.load_state_dict(state, strict=False)
    assert not unknown
    assert all("radial.mlp.weights.1" in k for k in missing)
    with torch.no_grad():
        for ours, theirs in zip(both.layers, single.layers, strict=True):
            last, old = ours.radial.mlp.weights[-1], theirs.radial.mlp.weights[-1]
            last.copy_((old.reshape(5, -1, 3, 1) * torch.eye(3, dtype=torch.float64) * 3**0.5).reshape(5, -1))
    positions = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).numpy()
    graph = neighbour_graph(positions, [0, 1, 1, 0], [[0.0] * 3] * 3, [False] * 3, 3.4)
    a, b = predict(single, graph), predict(both, graph)
    assert a.forces.abs().max() > 1e-3
    assert torch.allclose(a.forces, b.forces, rtol=0, atol=1e-12)
