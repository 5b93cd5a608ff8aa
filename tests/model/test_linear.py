"""Models that are linear in their parameters: rows of the matrix against predictions and finite differences."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from equipot.data.graph import Graph
from equipot.data.neighbours import neighbour_graph
from equipot.model import Potential, linear, predict
from equipot.model.linear import VOIGT, LinearModel
from equipot.presets import ace, botnet, mace, nequip
from equipot.spec import ModelSpec, NormaliserSpec, PairSpec, ReadoutSpec, nonlinear_because

CUTOFF, ELEMENTS = 3.4, (1, 8)
SPEC = ace(CUTOFF, correlation=4, l_max=2, n_radial=3, degrees=(3, 5, 7, 8))


def potential(spec: ModelSpec = SPEC, seed: int = 1) -> Potential:
    energy = replace(spec.energy, e0=(-1.0, -3.0), scale=(0.7, 1.3), shift=0.0)
    return Potential(replace(spec, elements=ELEMENTS, energy=energy), dtype=torch.float64, seed=seed)


def molecule(step: np.ndarray | float = 0.0) -> Graph:
    rng = np.random.default_rng(4)
    positions = np.array([[0, 0, 0], [1.6, 0, 0], [0, 1.7, 0], [0.3, 0.2, 1.8], [1.5, 1.4, 0.4]]) + 0.2 * rng.normal(size=(5, 3))
    return neighbour_graph(positions + step, np.array([0, 1, 1, 0, 1]), np.zeros((3, 3)), np.zeros(3, dtype=bool), CUTOFF)


def crystal(strain: np.ndarray | None = None) -> Graph:
    """Smaller than the cutoff: atoms see several images of others and of themselves."""
    cell = np.array([[3.1, 0.2, -0.1], [0.7, 3.2, 0.3], [-0.4, 0.5, 3.3]])
    positions = np.array([[0.05, 0.1, 0.02], [0.55, 0.45, 0.1], [0.1, 0.6, 0.55]]) @ cell
    deform = np.eye(3) if strain is None else np.eye(3) + strain
    return neighbour_graph(positions @ deform, np.array([0, 1, 1]), cell @ deform, np.ones(3, dtype=bool), CUTOFF)


def errors(model: LinearModel, graph: Graph, stress: bool) -> list[float]:
    """Largest deviations of base + X c from the prediction: energy, forces, stress."""
    rows, base, whole, c = (
        model.rows(graph, True, stress),
        model.base(graph, stress),
        predict(model.potential, graph, stress=stress),
        model.weights(),
    )
    found = [abs(float(base.energy[0]) + rows.energy @ c - float(whole.energy[0]))]
    found.append(np.abs(base.forces.numpy().reshape(-1) + rows.forces @ c - whole.forces.numpy().reshape(-1)).max())
    if stress:
        found.append(max(abs(float(base.stress[0][a] - whole.stress[0][a]) + row @ c) for a, row in zip(VOIGT, rows.stress, strict=True)))
    return found


@pytest.mark.parametrize(
    "spec",
    [
        SPEC,
        ace(CUTOFF, correlation=2, l_max=3, n_radial=3, degrees=(3, 7), basis="chebyshev", transform="agnesi", elements=False),
        replace(SPEC, pair=PairSpec(kind="zbl"), elements=ELEMENTS, pair_cutoff=((2.6, 3.0), (3.2, CUTOFF))),
    ],
    ids=["order 4", "shared weights", "zbl, cutoffs by pair"],
)
def test_rows_are_the_prediction(spec):
    model = LinearModel(potential(spec))
    assert float(predict(model.potential, molecule()).forces.abs().max()) > 0.1
    assert max(errors(model, molecule(), False)) < 1e-10
    assert max(errors(model, crystal(), True)) < 1e-10


def test_force_rows_are_the_slopes_of_the_energy_row():
    model, h = LinearModel(potential()), 1e-5
    rows = model.rows(molecule())
    for place in (0, 5, 13):
        step = np.zeros(15)
        step[place] = h
        up, down = (model.rows(molecule(sign * step.reshape(5, 3)), forces=False).energy for sign in (1, -1))
        assert np.abs((down - up) / (2 * h) - rows.forces[place]).max() < 1e-7
    assert np.abs(rows.forces).max() > 0.1


def test_stress_rows_are_the_slopes_under_strain():
    model, h = LinearModel(potential()), 1e-5
    rows, volume = model.rows(crystal(), True, True), float(torch.linalg.det(crystal().cell[0]).abs())
    for (a, b), row in zip(VOIGT, rows.stress, strict=True):
        strain = np.zeros((3, 3))
        strain[a, b] += 0.5 * h
        strain[b, a] += 0.5 * h
        up, down = (model.rows(crystal(sign * strain), forces=False).energy for sign in (1, -1))
        assert np.abs((up - down) / (2 * h * volume) - row).max() < 1e-7


def test_the_energy_is_linear_in_the_parameters():
    model = LinearModel(potential())
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, model.n_columns))
    base = float(model.base(molecule(), False).energy[0])

    def energy(c: np.ndarray) -> float:
        model.set_weights(c)
        return float(predict(model.potential, molecule(), forces=False).energy[0].detach()) - base

    assert abs(energy(2.0 * a - 3.0 * b) - 2.0 * energy(a) + 3.0 * energy(b)) < 1e-9 * abs(energy(a))
    assert sum(p.numel() for p in model.potential.parameters()) == model.n_columns


def test_rows_see_a_dropped_term(monkeypatch):
    """Without the derivative of the harmonics the force rows are wrong, and the tests above say so."""
    plain = torch.func.jvp

    def without_harmonics(*args):
        values, (radial, harmonics) = plain(*args)
        return values, (radial, 0.0 * harmonics)

    monkeypatch.setattr(linear.torch.func, "jvp", without_harmonics)
    assert errors(LinearModel(potential()), molecule(), False)[1] > 1e-2


LAYER = SPEC.layers[0]


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (nequip(n_layers=2), "2 layers"),
        (mace(n_layers=1), "not coupled"),
        (botnet(n_layers=1), "not coupled"),
        (replace(SPEC, layers=(replace(LAYER, readout=ReadoutSpec()),)), "readout has weights"),
        (replace(SPEC, layers=(replace(LAYER, irreps="2x0e"),)), "2x0e"),
        (replace(SPEC, layers=(replace(LAYER, normaliser=NormaliserSpec(kind="density")),)), "density"),
        (replace(SPEC, radial_basis=replace(SPEC.radial_basis, trainable=True)), "radial functions"),
        (replace(SPEC, energy=replace(SPEC.energy, train_scale=True)), "scale"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_what_is_not_linear_is_refused(spec, reason):
    assert reason in nonlinear_because(spec)
    assert nonlinear_because(SPEC) is None


def test_a_potential_that_is_not_linear_is_refused():
    with pytest.raises(ValueError, match="readout"):
        LinearModel(potential(replace(SPEC, layers=(replace(LAYER, readout=ReadoutSpec()),))))
