"""`edge_convolution` against e3nn's TensorProduct ("uvu", component normalisation) and index_add, with the paths nequip makes."""

import pytest
import torch
from convolution_cases import random_edges, random_inputs

from equipot.math import Irreps
from equipot.ops import reference, registry
from equipot.ops.plan import plan_convolution

o3 = pytest.importorskip("e3nn.o3")


@pytest.fixture(autouse=True)
def in_float64():
    """e3nn keeps its couplings in the default type of the moment they are made."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.mark.parametrize("backend", ["reference", "auto"])
@pytest.mark.parametrize(("parity", "l"), [("natural", 2), ("both", 2), ("natural", 3)])
def test_equal_to_e3nn(parity, l, backend):
    irreps = Irreps.uniform(4, l, parity)
    plan, edges = plan_convolution(irreps, l, irreps), random_edges(8, 60)
    h, y, w = (x.detach() for x in random_inputs(plan, 8, 60, torch.float64))
    blocks = [(b.l, b.p) for b in irreps]
    product = o3.TensorProduct(
        o3.Irreps([(b.mul, (b.l, b.p)) for b in irreps]),
        o3.Irreps.spherical_harmonics(l),
        o3.Irreps([(p.n_channels, (p.l3, p.p3)) for p in plan.paths]),
        [(blocks.index((p.l1, p.p1)), p.l2, i, "uvu", True) for i, p in enumerate(plan.paths)],
        shared_weights=False,
        internal_weights=False,
    ).double()
    h_e3nn = torch.cat([h[:, b.start : b.stop].reshape(-1, b.dim, b.mul).transpose(1, 2).flatten(1) for b in irreps], dim=1)
    messages = product(h_e3nn[edges.sender], y, w)
    expected = torch.zeros(8, messages.shape[1], dtype=torch.float64).index_add(0, edges.receiver, messages)
    found = registry.select(backend).edge_convolution(h, y, w, edges, plan)
    assert (found - reference.edge_convolution(h, y, w, edges, plan)).abs().max() < 1e-12
    start = 0
    for p in plan.paths:
        d, k = 2 * p.l3 + 1, p.n_channels
        block = found[:, p.out_start : p.out_start + d * p.out_stride].reshape(-1, d, p.out_stride)[..., p.out_channel : p.out_channel + k]
        theirs = expected[:, start : start + d * k].reshape(-1, k, d).transpose(1, 2)
        assert (block - theirs).abs().max() < 1e-12
        start += d * k
