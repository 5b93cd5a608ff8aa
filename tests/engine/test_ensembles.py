"""Ensembles in one exported file: means and spreads, member by member in stages, and what does not belong together."""

import dataclasses
from functools import cache

import numpy as np
import pytest
from contract_models import POINTS, cluster_graph, crystal_graph, potential_of
from engine_cases import neighbours_of
from test_file import checked

from equipot.engine.file import ENSEMBLE, read_native, to_bytes
from equipot.engine.native import NativeModel
from equipot.errors import UserError
from equipot.model import Ensemble, Potential, predict_members
from equipot.model.export import native_bytes

NAMES = ("mace", "learned density", "zbl to the cutoff")
ACCURACY = 1e-5  # few knots, so that exports are quick
every = pytest.mark.parametrize("name", NAMES)


def ensemble_of(name: str) -> Ensemble:
    """Three of one specification with other weights."""
    first = potential_of(POINTS[name])
    others = [Potential(first.spec, dtype=first.dtype, seed=seed) for seed in (11, 12)]
    return Ensemble([first, *(other.eval().requires_grad_(False) for other in others)])


ENSEMBLES = {name: ensemble_of(name) for name in NAMES}


@cache
def file_of(name: str) -> bytes:
    return native_bytes(ENSEMBLES[name], ACCURACY)


@cache
def alone(name: str, member: int) -> bytes:
    return native_bytes(ENSEMBLES[name].members[member], ACCURACY)


def compute(model: NativeModel, graph, spread: bool = True):
    arrays = (graph.species.numpy(), graph.positions.numpy(), graph.cell[0].numpy(), neighbours_of(graph))
    return model.compute(*arrays, virial=True, virials=True, spread=spread)


@every
@pytest.mark.parametrize("structure", [cluster_graph, crystal_graph])
def test_means_and_spreads_are_those_of_torch(name, structure):
    graph = structure(ENSEMBLES[name])
    model = NativeModel(file_of(name), "float64")
    found = compute(model, graph)
    expected = predict_members(ENSEMBLES[name], graph)
    assert model.n_members == 3 and model.header["ensemble"] == 3
    assert found.energies == pytest.approx(expected.mean.site_energy.numpy(), abs=1e-4)
    assert found.forces == pytest.approx(expected.mean.forces.numpy(), abs=1e-3)
    assert found.energy_std == pytest.approx(float(expected.energy_std[0]), abs=1e-3)
    assert found.forces_std == pytest.approx(expected.forces_std.numpy(), abs=1e-3)
    assert found.forces_std.min() > 1e-2  # the members do differ


@every
def test_a_mean_is_the_mean_of_its_members_alone(name):
    """Each in a file of its own: nothing of one member is left for the next."""
    graph = crystal_graph(ENSEMBLES[name])
    for dtype, tolerance in (("float64", 1e-12), ("float32", 1e-6)):
        each = [compute(NativeModel(alone(name, m), dtype), graph, False) for m in range(3)]
        found = compute(NativeModel(file_of(name), dtype), graph)
        for key in ("energy", "energies", "forces", "virial", "virials"):
            assert getattr(found, key) == pytest.approx(np.mean([getattr(a, key) for a in each], axis=0), abs=tolerance), key
        forces = np.stack([a.forces for a in each])
        assert found.forces_std == pytest.approx(np.sqrt(forces.var(0, ddof=1).sum(1)), abs=tolerance)
        assert found.energy_std == pytest.approx(np.std([a.energy for a in each], ddof=1), abs=tolerance)


def test_members_in_stages():
    name = "zbl to the cutoff"
    graph = cluster_graph(ENSEMBLES[name])
    model, n = NativeModel(file_of(name), "float64"), graph.n_atoms
    expected = compute(model, graph)
    positions = graph.positions.numpy()
    vectors = positions[graph.sender] - positions[graph.receiver]
    model.begin(n, graph.species, graph.receiver_start, graph.sender, vectors)
    energies, forces = [], []
    for m in range(3):
        if m:
            model.next_member()
        for t in range(model.n_layers):
            model.forward_layer(t)
        energies.append(model.energies())
        for t in reversed(range(model.n_layers)):
            model.backward_layer(t)
        forces.append(model.derivatives()[0])
    assert np.mean(energies, axis=0) == pytest.approx(expected.energies, abs=1e-10)
    assert np.mean(forces, axis=0) == pytest.approx(expected.forces, abs=1e-10)
    with pytest.raises(UserError, match="no further member"):
        model.next_member()


def test_one_model_has_no_spread():
    potential = ENSEMBLES["mace"].members[0]
    with pytest.raises(UserError, match="no spread"):
        compute(NativeModel(alone("mace", 0)), cluster_graph(potential))


def test_no_atoms_and_an_atom_alone():
    model = NativeModel(file_of("mace"))
    empty = model.compute([], np.zeros((0, 3)), np.zeros((3, 3)), ([0], [], np.zeros((0, 3))), spread=True)
    assert empty.energy == 0 and empty.energy_std == 0 and empty.forces_std.shape == (0,)
    one = model.compute([1], np.zeros((1, 3)), np.zeros((3, 3)), ([0, 0], [], np.zeros((0, 3))), virial=True, spread=True)
    assert not one.energies.any() and one.energy_std == 0 and not one.forces_std.any()


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    path = tmp_path_factory.mktemp("file") / "e.eqn"
    path.write_bytes(file_of("mace"))
    return read_native(path)


@pytest.mark.parametrize("number", [-1, 0, 1, 4, 2**40])
def test_a_wrong_number_of_members_is_refused(content, number):
    damaged = to_bytes(content.header, content.tensors | {ENSEMBLE: np.array([number])})
    with pytest.raises(UserError, match="damaged|lacks the tensor members.3"):
        NativeModel(damaged)


def test_members_that_differ_are_refused(content):
    other = np.array(content.tensors["members.1.pair_cutoffs"]) + 0.1
    with pytest.raises(UserError, match="model 1 of the ensemble is another one than model 0"):
        NativeModel(to_bytes(content.header, content.tensors | {"members.1.pair_cutoffs": other}))


def test_every_flipped_byte_behind_a_right_checksum_is_refused_or_harmless(content):
    """Nothing is read past its end: a crash would end the test run."""
    whole = to_bytes(content.header, content.tensors)
    rng, graph = np.random.default_rng(0), cluster_graph(ENSEMBLES["mace"])
    refused = 0
    for at in rng.integers(40, len(whole), 120):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << rng.integers(8)
        try:
            compute(NativeModel(checked(bytes(damaged))), graph)
        except UserError:
            refused += 1
    assert refused < 120


def test_potentials_of_different_specifications_are_no_ensemble():
    first = ENSEMBLES["mace"].members[0]
    other = Potential(dataclasses.replace(first.spec, cutoff=first.spec.cutoff + 0.1), dtype=first.dtype)
    with pytest.raises(ValueError, match="member 1"):
        Ensemble([first, other])
