"""The nuclear repulsion against its formula written out, its limits and its derivative at the cutoff."""

import math

import numpy as np
import pytest
import torch

from equipot.data.neighbours import neighbour_graph
from equipot.nn.zbl import ZBL, NoPair
from equipot.ops.plan import Edges

Z = torch.tensor([1, 8])
CUTOFF = torch.tensor([[2.0, 2.5], [2.5, 3.0]], dtype=torch.float64)


def dimer(r: float, a: int, b: int) -> tuple[torch.Tensor, torch.Tensor, Edges]:
    graph = neighbour_graph(np.array([[0.0, 0, 0], [0, r, 0]]), np.array([a, b]), np.zeros((3, 3)), np.zeros(3, bool), 5.0)
    vectors = graph.positions[graph.sender] - graph.positions[graph.receiver]
    return vectors, graph.species, Edges(*(getattr(graph, name) for name in Edges._fields))


def energy(module: torch.nn.Module, r: float, a: int, b: int, scale: float = 1.0) -> np.ndarray:
    return module(*dimer(r, a, b), torch.full((2,), scale, dtype=torch.float64)).numpy()


@pytest.mark.parametrize("r", [0.3, 1.0, 1.9])
@pytest.mark.parametrize(("a", "b"), [(0, 0), (0, 1), (1, 1)])
def test_the_formula(r, a, b):
    """½ · 14.399645 Z Z'/r · Σ c exp(−d x) · u, x = (Z^0.23 + Z'^0.23) r/0.4685, half on each atom."""
    z, w = float(Z[a]), float(Z[b])
    x = (z**0.23 + w**0.23) * r / 0.4685
    screening = (
        0.02817 * math.exp(-0.20162 * x)
        + 0.28022 * math.exp(-0.4029 * x)
        + 0.50986 * math.exp(-0.94229 * x)
        + 0.18175 * math.exp(-3.1998 * x)
    )
    t, p = r / float(CUTOFF[a, b]), 6
    envelope = 1 - (p + 1) * (p + 2) / 2 * t**p + p * (p + 2) * t ** (p + 1) - p * (p + 1) / 2 * t ** (p + 2)
    expected = 0.5 * 14.399645 * z * w / r * screening * envelope
    assert np.allclose(energy(ZBL(Z, CUTOFF, 6, "lammps", scaled=False), r, a, b), [expected, expected], rtol=1e-12)


def test_nuclei_are_bare_at_contact():
    """E → Z Z' e²/4πε0 r as r → 0, whatever the constants."""
    for constants in ("lammps", "mace"):
        total = energy(ZBL(Z, CUTOFF, 6, constants, scaled=False), 1e-5, 1, 1).sum()
        assert abs(total * 1e-5 / (64 * 14.4) - 1) < 1e-3


def test_it_ends_at_the_cutoff_of_the_pair():
    module = ZBL(Z, CUTOFF, 6, "lammps", scaled=False)
    assert energy(module, 1.999, 0, 0).max() > 0
    assert not energy(module, 2.0, 0, 0).any()
    assert energy(module, 2.4, 0, 1).max() > 0
    assert energy(module, 2.5 - 1e-3, 0, 1).max() < 1e-8


def test_the_scale_multiplies_it_only_if_asked():
    plain, scaled = (ZBL(Z, CUTOFF, 6, "mace", scaled=s) for s in (False, True))
    assert np.allclose(energy(scaled, 1.0, 0, 1, scale=3.0), 3 * energy(plain, 1.0, 0, 1, scale=3.0))


def test_no_pair_term_is_zero():
    assert not energy(NoPair(), 0.5, 0, 1).any()
