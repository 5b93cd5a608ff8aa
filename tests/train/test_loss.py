"""The loss against numbers computed by hand, and its masks and schedule."""

import math

import pytest
import torch

from equipot.data.graph import Graph, Labels, make_graph
from equipot.model import Prediction
from equipot.train.config import LossConfig
from equipot.train.loss import ErrorSums, Loss, Weights, residuals

F64 = torch.float64


def graph(sizes: list[int]) -> Graph:
    n, empty = sum(sizes), torch.zeros(0, dtype=torch.int64)
    structure = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    cell, pbc = torch.eye(3, dtype=F64).repeat(len(sizes), 1, 1), torch.ones(len(sizes), 3, dtype=torch.bool)
    zeros = torch.zeros(n, 3, dtype=F64)
    return make_graph(zeros, torch.zeros(n, dtype=torch.int64), empty, empty, torch.zeros(0, 3, dtype=F64), cell, pbc, structure)


def labels(sizes: list[int], has_energy=None, has_forces=None, has_stress=None, weight=None) -> Labels:
    b, n = len(sizes), sum(sizes)
    flags = [torch.tensor([True] * b if h is None else h) for h in (has_energy, has_forces, has_stress)]
    weight = torch.tensor([1.0] * b if weight is None else weight, dtype=F64)
    return Labels(torch.zeros(b, dtype=F64), torch.zeros(n, 3, dtype=F64), torch.zeros(b, 3, 3, dtype=F64), *flags, weight)


def prediction(energy, forces, stress) -> Prediction:
    e = torch.tensor(energy, dtype=F64)
    f = torch.tensor(forces, dtype=F64)[:, None].expand(-1, 3).clone()
    s = torch.tensor(stress, dtype=F64)[:, None, None].expand(-1, 3, 3).clone()
    return Prediction(e, e, e, f, s)


SIZES = [2, 1]
PREDICTED = prediction(energy=[4.0, 3.0], forces=[1.0, 2.0, 5.0], stress=[0.5, 0.1])
# per atom: 2 and 3; forces 1, 2, 5; stress 0.5, 0.1


ALL = Weights(1, 10, 100)


def value(kind: str = "mse", weights: Weights = ALL, **kwargs) -> float:
    config = LossConfig(kind=kind, huber_delta=1.5)
    return float(Loss(config)(residuals(PREDICTED, labels(SIZES, **kwargs), graph(SIZES)), weights))


@pytest.mark.parametrize(
    ("kind", "energy", "forces", "stress"),
    [
        ("mse", (4 + 9) / 2, (1 + 4 + 25) / 3, (0.25 + 0.01) / 2),
        ("mae", (2 + 3) / 2, (1 + 2 + 5) / 3, (0.5 + 0.1) / 2),
        ("huber", (1.5 * (2 - 0.75) + 1.5 * (3 - 0.75)) / 2, (0.5 + 1.5 * (2 - 0.75) + 1.5 * (5 - 0.75)) / 3, (0.125 + 0.005) / 2),
    ],
)
def test_values_by_hand(kind, energy, forces, stress):
    assert value(kind, Weights(1, 0, 0)) == pytest.approx(energy, abs=1e-12)
    assert value(kind, Weights(0, 1, 0)) == pytest.approx(forces, abs=1e-12)
    assert value(kind, Weights(0, 0, 1)) == pytest.approx(stress, abs=1e-12)
    assert value(kind) == pytest.approx(energy + 10 * forces + 100 * stress, abs=1e-12)


def test_a_missing_label_contributes_nothing():
    assert value(has_energy=[True, False]) == pytest.approx(4 + 10 * 10 + 100 * 0.13)
    assert value(has_forces=[True, False]) == pytest.approx(6.5 + 10 * 2.5 + 100 * 0.13)
    assert value(has_stress=[False, True]) == pytest.approx(6.5 + 10 * 10 + 100 * 0.01)
    assert value(has_energy=[False, False], has_forces=[False, False], has_stress=[False, False]) == 0.0


def test_weights_of_structures():
    # forces: atoms 1 and 2 with weight 2, atom 3 with weight 0.5
    assert value(weight=[2.0, 0.5]) == pytest.approx((8 + 4.5) / 2 + 10 * (2 + 8 + 12.5) / 3 + 100 * (0.5 + 0.005) / 2)
    assert value(weight=[0.0, 1.0], has_energy=[True, False]) == pytest.approx(10 * 25 / 3 + 100 * 0.005)


def test_no_forces_predicted():
    without = PREDICTED._replace(forces=None, stress=None)
    errors = residuals(without, labels(SIZES), graph(SIZES))
    assert float(Loss(LossConfig())(errors, Weights(1, 100, 0))) == 6.5


def test_schedule_of_weights():
    stages = [{"from_epoch": 10, "forces": 7.0}, {"from_fraction": 0.75, "energy": 50.0}]
    loss = Loss(LossConfig(energy=1.0, forces=100.0, schedule=stages))
    assert loss.weights(0.0, 0) == (1.0, 100.0, 0.0)
    assert loss.weights(0.74, 10) == (1.0, 7.0, 0.0)
    assert loss.weights(0.75, 0) == (50.0, 100.0, 0.0)
    assert loss.final_weights() == (50.0, 7.0, 0.0)
    assert not loss.needs_stress
    assert Loss(LossConfig(schedule=[{"from_fraction": 0.5, "stress": 1.0}])).needs_stress


def test_errors_over_batches():
    sums = ErrorSums()
    for _ in range(2):
        sums.add(residuals(PREDICTED, labels(SIZES, has_stress=[False, False]), graph(SIZES)))
    found = sums.measures()
    assert found["energy_mae"] == pytest.approx((4 + 3) / 2)
    assert found["energy_per_atom_rmse"] == pytest.approx(math.sqrt((4 + 9) / 2))
    assert found["forces_mae"] == pytest.approx(8 / 3)
    assert found["forces_rmse"] == pytest.approx(math.sqrt(10))
    assert not any(name.startswith("stress") for name in found)
