"""Uncertainties of the last layer: its features, what data say of its weights, the calibration, and the file."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_ensemble import graphs, member
from test_model_file import change_header, refused

from equipot.data.graph import concatenate
from equipot.errors import UserError
from equipot.model import Ensemble, LastLayer, Potential, load_model, predict, read_header, save_model
from equipot.model.derivatives import edge_vectors
from equipot.model.last_layer import calibrate, information, structure_features
from equipot.presets import PRESETS, preset_options

PRESET_NAMES = ["nequip", "nequip_linear", "botnet", "mace", "schnet_like"]


def preset(name: str, **changes) -> Potential:
    wanted = {"n_layers": 2, "n_channels": 4, "l_max": 1, "cutoff": 3.5, "radial_mlp": (4,)}
    spec = PRESETS[name](**{k: v for k, v in wanted.items() if k in preset_options(name)})
    layers = tuple(replace(layer, normaliser=replace(layer.normaliser, value=9.0)) for layer in spec.layers)
    energy = replace(spec.energy, e0=(-1.0, 2.0), scale=(1.5, 0.7), shift=0.0)
    return Potential(replace(spec, layers=layers, elements=(1, 8), energy=energy, **changes), dtype=torch.float64, seed=2).eval()


def last_weights(potential: Potential) -> list[torch.nn.Parameter]:
    return [r.mlp.weights[-1] for r in potential.readouts if hasattr(r, "mlp")]


@pytest.mark.parametrize("name", PRESET_NAMES)
@pytest.mark.parametrize("isolated", ["exact", "free"])
def test_features_are_the_derivative_by_the_last_weights(name, isolated):
    potential, graph = preset(name, isolated_atom=isolated), graphs()
    features = structure_features(potential, graph)
    weights = last_weights(potential)
    energy = predict(potential, graph, forces=False)
    total = torch.stack([energy.site_energy[graph.structure == s].sum() for s in range(2)])
    for s in range(2):
        exact = torch.autograd.grad(total[s], weights, retain_graph=True)
        torch.testing.assert_close(features[s], torch.cat([g.reshape(-1) for g in exact]), rtol=1e-9, atol=1e-12)
    assert features.abs().max() > 1e-3


def test_a_deeper_readout_has_those_of_its_last_map():
    potential = preset("nequip")
    layers = tuple(
        replace(layer, readout=None if layer.readout is None else replace(layer.readout, widths=(5, 3), normalisation="he"))
        for layer in potential.spec.layers
    )
    potential = Potential(replace(potential.spec, layers=layers), dtype=torch.float64, seed=2)
    graph = graphs()
    (exact,) = torch.autograd.grad(predict(potential, graph, forces=False).energy.sum(), last_weights(potential))
    torch.testing.assert_close(structure_features(potential, graph).sum(0), exact.reshape(-1), rtol=1e-9, atol=1e-12)


def test_information_is_that_of_energies_and_forces():
    potential, graph = preset("mace"), graphs()
    weights, w_energy, w_forces = last_weights(potential), 2.0, 3.0
    exact = torch.zeros(sum(w.numel() for w in weights), dtype=torch.float64).outer(torch.zeros(sum(w.numel() for w in weights)).double())
    sizes = torch.bincount(graph.structure)
    features = structure_features(potential, graph) / sizes[:, None]
    exact = exact + w_energy * features.T @ features
    vectors = edge_vectors(graph).detach().requires_grad_(True)
    (pull,) = torch.autograd.grad(potential(graph, vectors).total.sum(), vectors, create_graph=True)
    forces = torch.zeros(graph.n_atoms, 3, dtype=torch.float64).index_add(0, graph.receiver, pull).index_add(0, graph.sender, -pull)
    for atom in range(graph.n_atoms):
        for axis in range(3):
            row = torch.cat([g.reshape(-1) for g in torch.autograd.grad(forces[atom, axis], weights, retain_graph=True)])
            exact += w_forces / 3 / sizes[graph.structure[atom]] * row.outer(row)
    found = information(potential, [graph], w_energy, w_forces, n_probes=500)
    assert (found - exact).norm() < 0.1 * exact.norm()
    assert (information(potential, [graph], w_energy, 0.0) - exact).norm() > 0.2 * exact.norm()  # the forces do count
    assert (information(potential, [graph], w_energy, w_forces, n_probes=1) - exact).norm() < exact.norm()


def draw(n: int, seed: int):
    """Features of n structures and errors of a Gaussian process whose deviations are known."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, 6)) * rng.uniform(0.5, 20.0, size=(n, 1)) * np.array([3.0, 1, 1, 0.3, 0.1, 0.03])
    return torch.from_numpy(features), rng


def test_calibration_finds_the_size_of_the_errors():
    train, _ = draw(200, 0)
    covariance = train.T @ train
    features, rng = draw(2000, 1)
    truth = 0.3 * (features @ torch.linalg.inv(covariance) * features).sum(1).sqrt()
    errors = truth * torch.from_numpy(rng.normal(size=2000))
    layer = calibrate(covariance, features, errors)
    stated = (features @ layer.factor).norm(dim=1)
    assert float((stated / truth).log().abs().max()) < 0.1
    held, rng = draw(500, 2)
    truth = 0.3 * (held @ torch.linalg.inv(covariance) * held).sum(1).sqrt()
    ratio = truth * torch.from_numpy(rng.normal(size=500)) / (held @ layer.factor).norm(dim=1)
    assert 0.9 < float((ratio**2).mean().sqrt()) < 1.1
    assert float((calibrate(covariance, features, 2 * errors).factor / layer.factor).abs().mean()) == pytest.approx(2.0)
    far = calibrate(covariance, features, errors, regulariser=1.0)
    assert far.facts["nll"] > layer.facts["nll"]


def test_directions_that_no_structure_knows_do_not_break_it():
    train, _ = draw(4, 0)  # fewer structures than features
    features, rng = draw(100, 1)
    layer = calibrate(train.T @ train, features, torch.from_numpy(rng.normal(size=100)))
    assert torch.isfinite((features @ layer.factor).norm(dim=1)).all()


@pytest.mark.parametrize(
    ("covariance", "features", "errors", "words"),
    [
        (torch.eye(2), torch.ones(3, 2), torch.ones(3), "too few"),
        (torch.eye(2), torch.ones(9, 2), torch.zeros(9), "too few"),
        (torch.zeros(2, 2), torch.ones(9, 2), torch.ones(9), "do not change"),
        (torch.zeros(0, 0), torch.ones(9, 0), torch.ones(9), "no readout"),
        (torch.eye(2), torch.zeros(9, 2), torch.ones(9), "finite"),
    ],
)
def test_data_that_do_not_say_enough(covariance, features, errors, words):
    with pytest.raises(UserError, match=words):
        calibrate(covariance.double(), features.double(), errors.double())


def with_layer() -> Potential:
    potential = member(1)
    features = structure_features(potential, graphs())
    n = features.shape[1]
    potential.last_layer = LastLayer(torch.eye(n, dtype=torch.float64) * 0.1, {"kind": "last layer", "n_features": n})
    return potential


def test_the_file_keeps_it(tmp_path):
    potential, file = with_layer(), tmp_path / "m.equipot"
    save_model(potential, file, {"name": "x"})
    loaded = load_model(file)
    torch.testing.assert_close(loaded.last_layer.energy_std(loaded, graphs()), potential.last_layer.energy_std(potential, graphs()))
    assert loaded.last_layer.facts == potential.last_layer.facts
    assert (read_header(file)["schema"], read_header(file)["provenance"]) == (2, {"name": "x"})
    save_model(potential, file, state=potential.state_dict())  # other weights, which it is not of
    assert load_model(file).last_layer is None
    assert read_header(file)["schema"] == 1


def test_a_damaged_one_is_refused(tmp_path):
    potential, file = with_layer(), tmp_path / "m.equipot"
    n = potential.last_layer.facts["n_features"]
    save_model(potential, file)
    change_header(file, uncertainty=None)
    refused(file, "last_layer.factor")
    for facts in ({}, {"n_features": n + 1}, "text", 3):
        save_model(potential, file)
        change_header(file, uncertainty=facts)
        refused(file, "uncertainties")
    potential.last_layer = LastLayer(potential.last_layer.factor * torch.nan, potential.last_layer.facts)
    save_model(potential, file)
    refused(file, "uncertainties")


def test_an_ensemble_has_none(tmp_path):
    save_model(Ensemble([with_layer(), with_layer()]), tmp_path / "e.equipot")
    assert "uncertainty" not in read_header(tmp_path / "e.equipot")
    load_model(tmp_path / "e.equipot")


def test_structures_of_a_batch_are_apart():
    potential, graph = with_layer(), graphs()
    both = concatenate([graph, graph])
    whole = potential.last_layer.energy_std(potential, both)
    torch.testing.assert_close(whole[:2], potential.last_layer.energy_std(potential, graph))
    assert whole[0] != whole[1]
