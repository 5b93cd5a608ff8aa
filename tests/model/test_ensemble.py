"""Ensembles: the mean, its derivatives, the spread, and the file."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_model_file import assemble, change_header, parts, refused

from equipot.data.graph import concatenate
from equipot.data.neighbours import neighbour_graph
from equipot.model import Ensemble, Potential, load_model, members_of, predict, predict_members, read_header, save_model
from equipot.presets import nequip


def member(seed: int, dtype: torch.dtype = torch.float64, **options) -> Potential:
    spec = nequip(**{"n_layers": 2, "n_channels": 4, "l_max": 1, "radial_mlp": (4,), "cutoff": 3.5} | options)
    layers = tuple(replace(layer, normaliser=replace(layer.normaliser, value=9.0)) for layer in spec.layers)
    spec = replace(spec, layers=layers, elements=(1, 8), energy=replace(spec.energy, e0=(-1.0, 2.0), scale=1.5, shift=0.0))
    return Potential(spec, dtype=dtype, seed=seed).eval()


@pytest.fixture
def ensemble() -> Ensemble:
    return Ensemble([member(seed) for seed in range(3)]).eval()


def graphs():
    """A crystal and its mirror twin of other size, in one batch."""
    rng = np.random.default_rng(0)
    found = []
    for n in (5, 7):
        cell = 5.0 * np.eye(3) + rng.normal(0, 0.3, (3, 3))
        found.append(neighbour_graph(rng.random((n, 3)) @ cell, rng.integers(0, 2, n), cell, np.ones(3, dtype=bool), 3.5))
    return concatenate(found)


def test_the_ensemble_is_the_mean_of_its_members(ensemble):
    graph = graphs()
    whole, each = predict(ensemble, graph, stress=True), [predict(m, graph, stress=True) for m in ensemble.members]
    for name in ("energy", "site_energy", "layer_energy", "forces", "stress"):
        mean = torch.stack([getattr(one, name) for one in each]).mean(0)
        torch.testing.assert_close(getattr(whole, name), mean, rtol=1e-12, atol=1e-12)
    assert each[0].forces.abs().max() > 1e-3  # there is something to be equal
    assert (each[0].forces - each[1].forces).abs().max() > 1e-3


def test_the_spread_is_that_of_the_members(ensemble):
    graph = graphs()
    spread, each = predict_members(ensemble, graph, stress=True), [predict(m, graph, stress=True) for m in ensemble.members]
    energies, forces = np.stack([p.energy.numpy() for p in each]), np.stack([p.forces.numpy() for p in each])
    np.testing.assert_allclose(spread.energies, energies, atol=1e-12)
    np.testing.assert_allclose(spread.energy_std, np.std(energies, axis=0, ddof=1), rtol=1e-10)
    deviation = ((forces - forces.mean(0)) ** 2).sum((0, 2)) / 2
    np.testing.assert_allclose(spread.forces_std, np.sqrt(deviation), rtol=1e-10)
    for mine, mean in zip(spread.mean, predict(ensemble, graph, stress=True), strict=True):
        torch.testing.assert_close(mine, mean, rtol=1e-12, atol=1e-12)


def test_equal_members_have_no_spread():
    spread = predict_members(Ensemble([member(1), member(1)]), graphs())
    assert spread.energy_std.abs().max() == 0.0
    assert spread.forces_std.abs().max() == 0.0


def test_members_must_be_alike():
    for others in ([], [member(0)], [member(0), member(1, n_channels=5)], [member(0), member(1, dtype=torch.float32)]):
        with pytest.raises(ValueError, match="ensemble"):
            Ensemble(others)


def test_the_file_keeps_every_member(ensemble, tmp_path):
    file = tmp_path / "e.equipot"
    save_model(ensemble, file, {"data": 1})
    header = read_header(file)
    assert (header["schema"], header["ensemble"]) == (2, 3)
    loaded = load_model(file)
    assert len(members_of(loaded)) == 3
    for saved, found in zip(ensemble.members, loaded.members, strict=True):
        assert {k: v.tolist() for k, v in found.state_dict().items()} == {k: v.tolist() for k, v in saved.state_dict().items()}
    assert load_model(file, dtype="float32").dtype == torch.float32
    # and every member is a potential whose file is one
    save_model(loaded.members[1], tmp_path / "one.equipot")
    torch.testing.assert_close(
        predict(load_model(tmp_path / "one.equipot"), graphs()).energy, predict(ensemble.members[1], graphs()).energy
    )


@pytest.mark.parametrize("number", [None, 1, 2, 4, "3", 2.0, -3, 10**9])
def test_a_file_with_another_number_of_members_is_refused(ensemble, tmp_path, number):
    save_model(ensemble, tmp_path / "e.equipot")
    change_header(tmp_path / "e.equipot", ensemble=number)
    refused(tmp_path / "e.equipot")


def test_a_member_that_is_damaged_is_refused(ensemble, tmp_path):
    file = tmp_path / "e.equipot"
    state = dict(ensemble.state_dict())
    for name, change, words in (
        ("members.1.embedding", lambda s, n: s.pop(n), "lacks the tensor members.1.embedding"),
        ("members.2.embedding", lambda s, n: s.update({n: s[n] * torch.nan}), "not finite"),
        ("members.0.embedding", lambda s, n: s.update({n: s[n][:1]}), "shape"),
        ("members.3.embedding", lambda s, n: s.update({n: s["members.0.embedding"]}), "holds 4"),
    ):
        broken = dict(state)
        change(broken, name)
        save_model(ensemble, file, state=broken)
        refused(file, words)
    save_model(ensemble, file)
    header, tensors = parts(file)
    assemble(file, header, tensors[:-8])
    refused(file)
