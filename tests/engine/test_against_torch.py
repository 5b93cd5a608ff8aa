"""The native engine in float64 against torch: every preset, random points of the design space, models of the original programs."""

import os
from pathlib import Path

import numpy as np
import pytest
from contract_models import POINTS, odd_gates, potential_of
from engine_cases import compute, deviation, native, worst
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_random_points import specs

from equipot.data.neighbours import neighbour_graph
from equipot.engine.file import read_native, to_bytes
from equipot.engine.native import NativeModel
from equipot.errors import CannotExpressError
from equipot.model import predict
from equipot.model.export import native_bytes
from equipot.model.importers import import_bundle, read_bundle

ENERGY, FORCES, STRESS = 1e-6, 1e-5, 1e-6  # eV per atom, eV/Å, eV/Å³: what the tabulation is allowed
REFUSED = {name for name, spec in POINTS.items() if any(layer.product and layer.product.correlation > 3 for layer in spec.layers)}
TESTS = Path(__file__).parents[1]
GOLDENS = Path(os.environ.get("EQUIPOT_GOLDENS") or TESTS.parents[1] / "shared" / "goldens")
CHOSEN = (
    "nequip_ragged",
    "mace_l1_c3",
    "botnet_element_dependent",
    "linear_simple",
    "nequip_si_stress",
)  # the others take long to tabulate
BUNDLES = sorted((TESTS / "model" / "bundles").glob("*.npz")) + [path for name in CHOSEN if (path := GOLDENS / f"{name}.npz").exists()]


@pytest.mark.parametrize("name", [*sorted(POINTS.keys() - REFUSED), "odd gates"])
def test_points_of_the_design_space(name):
    potential = potential_of(odd_gates() if name == "odd gates" else POINTS[name])
    found = worst(native(potential), potential)
    assert found.energy < ENERGY / 10
    assert found.forces < FORCES / 10
    assert found.stress < STRESS / 10


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_it_cannot_express_is_refused_by_name(name):
    with pytest.raises(CannotExpressError, match="correlation 4"):
        native_bytes(potential_of(POINTS[name]))


@settings(max_examples=12, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(spec=specs(), seed=st.integers(0, 3))
def test_random_points(spec, seed):
    potential = potential_of(spec, seed=seed)
    found = worst(native(potential), potential)
    assert found.energy < ENERGY
    assert found.forces < FORCES
    assert found.stress < STRESS


@pytest.mark.parametrize("path", BUNDLES, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_models_of_the_original_programs(path):
    bundle = read_bundle(path)
    potential = import_bundle(bundle)[0]
    spec = potential.spec
    model = native(potential, accuracy=1e-9 if path.stem == "nequip_odd_gates" else 1e-8)  # forces of 300 eV/Å
    for frame in bundle.frames[:3]:
        species = np.searchsorted(spec.elements, frame.numbers)
        graph = neighbour_graph(frame.positions, species, frame.cell, frame.pbc, spec.cutoff, spec.pair_cutoff)
        found = deviation(model, potential, graph)
        assert found.energy < ENERGY
        assert found.forces < FORCES
        assert found.stress < STRESS


def test_more_knots_are_more_accurate():
    potential = potential_of(POINTS["botnet"])
    errors = [worst(native(potential, accuracy=accuracy), potential).forces for accuracy in (1e-3, 1e-5, 1e-7, 1e-9)]
    assert errors[0] > 1e-5
    assert all(after < 0.2 * before for before, after in zip(errors[:-1], errors[1:], strict=True))


def test_the_measured_error_is_that_of_the_tables(tmp_path):
    potential = potential_of(POINTS["nequip"])
    (tmp_path / "m.eqn").write_bytes(native_bytes(potential, accuracy=1e-6))
    tabulation = read_native(tmp_path / "m.eqn").header["tabulation"]
    assert all(1e-8 < error <= 1e-6 for error in tabulation["relative_error"])
    assert tabulation["kinks"] == [0, 0, 0]


@pytest.mark.parametrize("name", ["nequip", "botnet", "mace", "agnesi, zbl", "learned density"])
def test_single_precision(name):
    potential = potential_of(POINTS[name])
    found = worst(native(potential, "float32"), potential)
    assert found.energy < 2e-6
    assert 1e-10 < found.forces < 5e-5


@pytest.mark.parametrize("tensor", ["layer1.table", "layer1.linear.weights", "layer2.self.weights", "layer0.up.weights", "energy.scale"])
def test_a_changed_tensor_is_seen(tmp_path, tensor):
    potential = potential_of(POINTS["nequip"])
    (tmp_path / "m.eqn").write_bytes(native_bytes(potential))
    header, tensors = read_native(tmp_path / "m.eqn")
    found = worst(NativeModel(to_bytes(header, tensors | {tensor: tensors[tensor] * 1.1}), "float64"), potential)
    assert found.forces > 10 * FORCES or found.energy > 10 * ENERGY


def test_finite_differences():
    """The engine's forces are the derivative of the engine's own energy: both come from one table."""
    potential = potential_of(POINTS["mace"])
    graph = neighbour_graph(*_pair_of_clusters(), np.zeros((3, 3)), np.zeros(3, dtype=bool), potential.spec.cutoff)
    model = native(potential, accuracy=1e-4)
    positions = graph.positions.numpy()
    forces = compute(model, graph).forces
    assert np.abs(forces - predict(potential, graph).forces.numpy()).max() > 1e-6
    for atom, axis in [(0, 0), (3, 1), (6, 2)]:
        energies = []
        for step in (-1e-4, 1e-4):
            moved = positions.copy()
            moved[atom, axis] += step
            energies.append(compute(model, graph, moved).energy)
        assert forces[atom, axis] == pytest.approx((energies[0] - energies[1]) / 2e-4, abs=1e-6)


def _pair_of_clusters() -> tuple[np.ndarray, np.ndarray]:
    from contract_models import cluster

    return cluster()
