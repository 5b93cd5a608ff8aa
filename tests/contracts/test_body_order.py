"""Body order is real: the many-body expansion of a body-ordered energy ends where the formula says, and nowhere before."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch

from equipot.data.graph import concatenate
from equipot.data.neighbours import neighbour_graph
from equipot.model import Potential, predict
from equipot.presets import ace, botnet, mace, nequip, nequip_linear
from equipot.spec import ModelSpec, correlation_order

N_ATOMS = 6
CUTOFF = 6.0
NO_CELL, NOT_PERIODIC = np.zeros((3, 3)), np.zeros(3, dtype=bool)


def build(spec: ModelSpec, seed: int) -> Potential:
    layers = tuple(replace(layer, normaliser=replace(layer.normaliser, value=3.0)) for layer in spec.layers)
    return Potential(
        replace(spec, layers=layers, elements=(1, 8), energy=replace(spec.energy, e0=0.0, scale=30.0)), dtype=torch.float64, seed=seed
    )


def cluster() -> tuple[torch.Tensor, torch.Tensor]:
    """Six atoms of two elements, all within the cutoff of each other, in no symmetric place."""
    generator = torch.Generator().manual_seed(3)
    positions = torch.tensor([[0, 0, 0], [1.6, 0, 0], [0, 1.7, 0], [0, 0, 1.8], [1.5, 1.5, 0.2], [1.4, 0.2, 1.6]], dtype=torch.float64)
    return positions + 0.2 * torch.rand(N_ATOMS, 3, generator=generator, dtype=torch.float64), torch.tensor([0, 1, 1, 0, 1, 0])


def expansion(potential: Potential, layer: int | None) -> list[float]:
    """max over sub-clusters S of size k of |Σ_{T ⊆ S} (−1)^{|S|−|T|} E(T)|, k = 1 … N; E of all layers or the readout of one."""
    positions, species = cluster()
    subsets = [s for k in range(1, N_ATOMS + 1) for s in combinations(range(N_ATOMS), k)]
    graphs = [neighbour_graph(positions[list(s)].numpy(), species[list(s)].numpy(), NO_CELL, NOT_PERIODIC, CUTOFF) for s in subsets]
    batch = concatenate(graphs)
    prediction = predict(potential, batch, forces=False)
    site = prediction.site_energy if layer is None else prediction.layer_energy[layer]
    energies = torch.zeros(len(subsets), dtype=torch.float64).index_add(0, batch.structure, site.detach()).tolist()
    energy = dict(zip(subsets, energies, strict=True))
    terms = {s: sum((-1) ** (len(s) - k) * energy[t] for k in range(1, len(s) + 1) for t in combinations(s, k)) for s in subsets}
    return [max(abs(terms[s]) for s in subsets if len(s) == k) for k in range(1, N_ATOMS + 1)]


SMALL = {"n_channels": 4, "l_max": 2, "cutoff": CUTOFF}
CASES = {
    "nequip_linear 2 layers": (nequip_linear(n_layers=2, **SMALL), None, 3),
    "nequip_linear 3 layers": (nequip_linear(n_layers=3, **SMALL), None, 4),
    "nequip_linear 4 layers": (nequip_linear(n_layers=4, parity="natural", **SMALL), None, 5),
    "botnet layer 1": (botnet(n_layers=4, **SMALL), 0, 2),
    "botnet layer 2": (botnet(n_layers=4, **SMALL), 1, 3),
    "botnet layer 3": (botnet(n_layers=4, **SMALL), 2, 4),
    **{f"ace ν={nu}": (ace(CUTOFF, nu, l_max=2, n_radial=2, degrees=(2, 4, 5, 6)[:nu]), None, nu + 1) for nu in (1, 2, 3, 4)},
    "mace ν=2 inner layer": (mace(correlation=2, **SMALL), 0, 3),
    "mace ν=3 inner layer": (mace(correlation=3, **SMALL), 0, 4),
}


@pytest.mark.parametrize("case", CASES)
def test_the_expansion_ends_at_the_body_order(case):
    spec, layer, order = CASES[case]
    stated = correlation_order(spec)[layer if layer is not None else len(spec.layers) - 1] + 1
    assert stated == order
    sizes = expansion(build(spec, seed=1), layer)
    assert all(size < 1e-10 for size in sizes[order:]), sizes
    assert all(size > 1e-4 for size in sizes[1:order]), sizes


@pytest.mark.parametrize("spec", [nequip(n_layers=2, **SMALL), botnet(n_layers=2, **SMALL)], ids=["a gate", "a nonlinear readout"])
def test_a_nonlinearity_has_no_body_order(spec):
    sizes = expansion(build(spec, seed=1), None)
    assert all(size > 1e-9 for size in sizes[1:]), sizes
