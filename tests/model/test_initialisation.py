"""Where the fan-in of the linear maps is: in the forward pass or in the starting weights."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from equipot.data.neighbours import neighbour_graph
from equipot.model import Potential, load_model, predict, save_model
from equipot.presets import botnet, mace, nequip


@pytest.mark.parametrize("preset", [nequip, botnet, mace])
def test_the_start_is_the_same_and_the_weights_are_not(preset, tmp_path):
    spec = preset(n_layers=2, n_channels=4, l_max=1, radial_mlp=(4,), cutoff=3.0)
    layers = tuple(replace(layer, normaliser=replace(layer.normaliser, value=5.0)) for layer in spec.layers)
    spec = replace(spec, layers=layers, elements=(1, 8), energy=replace(spec.energy, e0=0.0, scale=1.0))
    positions = np.random.default_rng(3).normal(size=(5, 3))
    graph = neighbour_graph(positions, np.array([0, 1, 1, 0, 0]), np.zeros((3, 3)), np.zeros(3, dtype=bool), 3.0)
    usual = Potential(spec, dtype=torch.float64, seed=2)
    plain = Potential(replace(spec, initialisation="plain"), dtype=torch.float64, seed=2)
    expected = predict(usual, graph)
    assert expected.forces.abs().max() > 1e-3
    assert torch.allclose(predict(plain, graph).forces, expected.forces, rtol=0, atol=1e-12)
    ratio = plain.layers[0].linear.weight / usual.layers[0].linear.weight
    assert ratio.max() < 0.75
    save_model(plain, tmp_path / "m.equipot")
    assert torch.equal(predict(load_model(tmp_path / "m.equipot"), graph).forces, predict(plain, graph).forces)
