"""Prediction at the edges: no atoms, one atom, no edges, no cell, no gradients wanted."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from equipot.data.graph import Graph, concatenate
from equipot.data.neighbours import neighbour_graph
from equipot.errors import UserError
from equipot.model import Potential, predict
from equipot.presets import botnet, mace, nequip

NO_CELL, FREE = np.zeros((3, 3)), np.zeros(3, dtype=bool)
POTENTIALS = {"nequip": nequip, "botnet": botnet, "mace": mace}


def potential_of(preset, **options) -> Potential:
    spec = preset(n_layers=2, n_channels=4, l_max=1, radial_mlp=(4,), cutoff=3.0)
    layers = tuple(replace(layer, normaliser=replace(layer.normaliser, value=5.0)) for layer in spec.layers)
    spec = replace(spec, layers=layers, elements=(1, 8), energy=replace(spec.energy, e0=(-1.0, 2.0), scale=1.5))
    return Potential(spec, dtype=torch.float64, **options)


def molecule(n: int, spacing: float = 1.2) -> Graph:
    positions = np.arange(3 * n).reshape(n, 3) % 5 * 0.1 + spacing * np.arange(n)[:, None] * [1.0, 0, 0]
    return neighbour_graph(positions, np.arange(n) % 2, NO_CELL, FREE, 3.0)


@pytest.fixture(params=POTENTIALS)
def potential(request) -> Potential:
    return potential_of(POTENTIALS[request.param])


def test_no_atoms(potential):
    found = predict(potential, molecule(0))
    assert found.energy.tolist() == [0.0]
    assert found.forces.shape == (0, 3)
    assert found.site_energy.shape == (0,)
    assert found.layer_energy.shape == (2, 0)


def test_one_atom_is_its_reference_energy(potential):
    found = predict(potential, molecule(1))
    assert found.energy.tolist() == [-1.0]
    assert found.forces.tolist() == [[0.0, 0.0, 0.0]]


def test_atoms_out_of_reach(potential):
    found = predict(potential, molecule(3, spacing=50.0))
    assert torch.allclose(found.site_energy, torch.tensor([-1.0, 2.0, -1.0], dtype=torch.float64), atol=1e-12)
    assert not found.forces.any()


def test_an_empty_structure_in_a_batch(potential):
    pieces = [molecule(2), molecule(0), molecule(3)]
    whole = predict(potential, concatenate(pieces))
    assert torch.allclose(whole.energy, torch.cat([predict(potential, p).energy for p in pieces]), atol=1e-12)


def test_a_periodic_atom_without_neighbours_has_no_stress(potential):
    graph = neighbour_graph(np.zeros((1, 3)), [0], 10.0 * np.eye(3), True, 3.0)
    found = predict(potential, graph, stress=True)
    assert not found.stress.any()
    assert found.energy.tolist() == [-1.0]


@pytest.mark.parametrize(
    ("cell", "pbc"),
    [(NO_CELL, FREE), (10.0 * np.eye(3), FREE), (10.0 * np.eye(3), np.array([True, True, False]))],
    ids=["molecule", "box without periodicity", "slab"],
)
def test_stress_without_a_volume_is_an_error(potential, cell, pbc):
    graph = neighbour_graph(np.array([[0.0, 0, 0], [1.0, 0, 0]]), [0, 1], cell, pbc, 3.0)
    crystal = neighbour_graph(np.zeros((1, 3)), [0], 4.0 * np.eye(3), True, 3.0)
    with pytest.raises(UserError, match="periodic in all three directions; structure 1 "):
        predict(potential, concatenate([crystal, graph]), stress=True)
    assert predict(potential, graph).forces is not None


def test_only_what_is_asked_for(potential):
    found = predict(potential, molecule(3), forces=False)
    assert found.forces is None
    assert found.stress is None
    crystal = neighbour_graph(np.zeros((1, 3)), [0], 2.5 * np.eye(3), True, 3.0)
    found = predict(potential, crystal, forces=False, stress=True)
    assert found.forces is None
    assert found.stress.shape == (1, 3, 3)


def test_without_gradients(potential):
    """Forces come also where the caller keeps no gradients, and from parameters that are frozen."""
    graph = molecule(4)
    expected = predict(potential, graph)
    with torch.no_grad():
        found = predict(potential, graph)
    assert torch.equal(found.forces, expected.forces)
    assert not found.forces.requires_grad
    assert not found.energy.requires_grad
    potential.requires_grad_(False)
    assert torch.allclose(predict(potential, graph).forces, expected.forces, rtol=0, atol=1e-13)


def test_training_reaches_every_parameter(potential):
    found = predict(potential, molecule(5), create_graph=True)
    loss = found.energy.square().sum() + found.forces.square().sum()
    loss.backward()
    assert [name for name, p in potential.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_results_are_reproducible(potential):
    graph = molecule(6)
    first, second = predict(potential, graph), predict(potential, graph)
    assert torch.equal(first.forces, second.forces)
    assert torch.equal(first.energy, second.energy)


def test_the_seed_decides_the_weights():
    states = [potential_of(nequip, seed=seed).state_dict() for seed in (0, 0, 1)]
    assert all(torch.equal(a, b) for a, b in zip(states[0].values(), states[1].values(), strict=True))
    assert not torch.equal(states[0]["embedding"], states[2]["embedding"])


def test_building_a_model_leaves_the_random_state_alone():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    potential_of(nequip)
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_default_dtype() == torch.float32


def test_a_spec_that_is_not_complete_is_refused():
    spec = nequip(n_layers=1)
    with pytest.raises(ValueError, match="no elements"):
        Potential(spec)
    with pytest.raises(ValueError, match="number of neighbours"):
        Potential(replace(spec, elements=(1,)))
