"""Radial bases and weights against their closed forms."""

import math

import numpy as np
import pytest
import torch

from equipot.data.neighbours import neighbour_graph
from equipot.math import radial as oracle
from equipot.nn.radial import LinearWeights, PerceptronWeights, RadialBasis, TableWeights
from equipot.ops.pairs import rows_of_edges
from equipot.ops.plan import Edges

CUTOFF = 4.0
R = torch.linspace(0.4, 4.4, 41, dtype=torch.float64)
NONE = torch.zeros(len(R), dtype=torch.int64)


@pytest.fixture(autouse=True)
def float64():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def basis(
    kind: str = "bessel", prefactor: str = "sqrt", envelope: str = "polynomial", p: int = 6, trainable: bool = False, **more
) -> RadialBasis:
    return RadialBasis(kind, 5, CUTOFF, prefactor, trainable, envelope, p, **more)


@pytest.mark.parametrize("envelope", ["polynomial", "cosine"])
@pytest.mark.parametrize("kind", ["bessel", "gaussian", "chebyshev"])
def test_bases_are_the_closed_forms(kind, envelope):
    r = R.numpy()
    functions = {
        "bessel": lambda: oracle.bessel(r, CUTOFF, 5, math.sqrt(2 / CUTOFF)),
        "gaussian": lambda: oracle.gaussian(r, CUTOFF, 5),
        "chebyshev": lambda: oracle.chebyshev(r, CUTOFF, 5),
    }
    cut = oracle.polynomial_envelope(r, CUTOFF, 6) if envelope == "polynomial" else oracle.cosine_envelope(r, CUTOFF)
    expected = functions[kind]() * cut[:, None]
    assert np.allclose(basis(kind, envelope=envelope)(R, NONE, NONE).numpy(), expected, rtol=0, atol=1e-12)


def test_the_prefactor_is_nequips_or_the_normalised_one():
    ratio = basis(prefactor="linear")(R, NONE, NONE) / basis()(R, NONE, NONE)
    assert torch.allclose(ratio[R < CUTOFF], torch.tensor(math.sqrt(2 / CUTOFF)))


def test_frequencies_can_be_trained():
    module = basis(trainable=True)
    module(R, NONE, NONE).sum().backward()
    assert [name for name, _ in module.named_parameters()] == ["frequencies"]
    assert module.frequencies.grad.abs().min() > 0
    assert not list(basis().parameters())


def test_the_distance_is_transformed_but_not_in_the_envelope():
    radii = torch.tensor([[0.8, 1.0], [1.0, 1.3]])
    sender, receiver = torch.arange(len(R)) % 2, torch.arange(len(R)) // 2 % 2
    r0 = radii[sender, receiver].numpy()
    expected = (
        oracle.bessel(oracle.agnesi(R.numpy(), r0), CUTOFF, 5, math.sqrt(2 / CUTOFF))
        * oracle.polynomial_envelope(R.numpy(), CUTOFF, 6)[:, None]
    )
    assert np.allclose(basis(transform="agnesi", transform_radius=radii)(R, sender, receiver).numpy(), expected, rtol=0, atol=1e-12)


def test_a_shorter_cutoff_of_a_pair_is_by_centre_and_neighbour():
    """A pair that ends at c sees r · r_c/c: zero from c on, rows of the table for the centre."""
    own = torch.tensor([[2.0, 3.0], [4.0, 2.5]])
    module, centre, neighbour = basis(stretch=CUTOFF / own), 0, 1
    found = module(R, NONE + neighbour, NONE + centre)
    assert torch.allclose(found, basis()(R * CUTOFF / 3.0, NONE, NONE), rtol=0, atol=1e-13)
    assert not found[R >= 3.0].any()
    assert module(R, NONE + centre, NONE + neighbour)[(R > 3.0) & (R < 4.0)].abs().min() > 0


def edges_and_basis() -> tuple[Edges, torch.Tensor, torch.Tensor]:
    """Edges of a small cluster of two elements and a basis per pair."""
    positions = np.random.default_rng(0).normal(size=(6, 3)) * 1.2
    graph = neighbour_graph(positions, np.array([0, 1, 1, 0, 2, 0]), np.zeros((3, 3)), np.zeros(3, bool), CUTOFF)
    edges = Edges(*(getattr(graph, name) for name in Edges._fields))
    return edges, graph.species, torch.randn(graph.pair_edges.shape[0], 5, generator=torch.Generator().manual_seed(1))


def test_weights_of_the_edges():
    edges, species, e_pn = edges_and_basis()
    e_en = e_pn[edges.pair]
    sender, receiver = species[edges.sender], species[edges.receiver]
    one = LinearWeights(5, 7)
    assert torch.allclose(rows_of_edges(one(e_pn, species, edges), edges), e_en @ one.weight / math.sqrt(5))
    by_sender, by_both = TableWeights(5, 7, 3, both=False), TableWeights(5, 7, 3, both=True)
    assert torch.allclose(by_sender(e_pn, species, edges), torch.einsum("en,enq->eq", e_en, by_sender.weight[sender]))
    assert torch.allclose(by_both(e_pn, species, edges), torch.einsum("en,enq->eq", e_en, by_both.weight[3 * sender + receiver]))


def test_elements_come_before_the_basis_in_a_perceptron():
    edges, species, e_pn = edges_and_basis()
    one_hot, e_en = torch.eye(3)[species], e_pn[edges.pair]
    plain = PerceptronWeights(5, 7, (4,), "silu", "e3nn", "none", 3)
    assert torch.allclose(rows_of_edges(plain(e_pn, species, edges), edges), plain.mlp(e_en))
    sender = PerceptronWeights(5, 7, (4,), "relu", "plain", "sender", 3)
    assert torch.allclose(sender(e_pn, species, edges), sender.mlp(torch.cat([one_hot[edges.sender], e_en], 1)))
    both = PerceptronWeights(5, 7, (4,), "tanh", "e3nn", "both", 3)
    assert torch.allclose(both(e_pn, species, edges), both.mlp(torch.cat([one_hot[edges.sender], one_hot[edges.receiver], e_en], 1)))
    assert [tuple(b.shape) for b in sender.mlp.biases] == [(4,), (7,)]
