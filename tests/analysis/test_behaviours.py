"""Behaviours warn of what training did not teach: holes, motion that does not last, nothing to see."""

import broken_models as broken
import numpy as np
import pytest

from equipot.analysis.checks import dynamics, passed, run_checks
from equipot.analysis.checks.dimers import closest_distances, fall_inwards
from equipot.analysis.checks.probes import dimer, random_crystal, random_molecules, select, supercell
from equipot.data.frame import Frame


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Few steps are enough to see what is broken."""
    monkeypatch.setattr(dynamics, "MOST_STEPS", 60)


@pytest.fixture
def cluster() -> Frame:
    """Four atoms near the rest positions of `broken.Bonds`."""
    corners = np.array([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) * broken.Bonds.rest / np.sqrt(8)
    return Frame(np.array([1, 6, 8, 1]), 1.05 * corners, np.zeros((3, 3)), np.zeros(3, bool), source="cluster.xyz#0")


def one(potential, name, **context):
    (result,) = run_checks(potential, only=[name], **context)
    return result


def test_holes_are_named_and_walls_pass():
    assert one(broken.small_potential(kind=broken.Wall), "dimers").passed
    hole = one(broken.small_potential(kind=broken.Pit), "dimers")
    assert not hole.passed and hole.value > 10.0
    assert all(pair in hole.message for pair in ("H-H", "H-C", "H-O", "C-C", "C-O", "O-O"))
    assert passed([hole]) and not passed([hole], strict=True)


def test_the_reach_of_the_training_data_is_said():
    provenance = {"statistics": {"min_distance": {"H-O": 0.91}}}
    message = one(broken.small_potential(kind=broken.Pit), "dimers", provenance=provenance).message
    assert "H-O attracts" in message and "no data below 0.91 Å" in message


def test_fall_inwards_measures_the_deepest_fall():
    r = np.linspace(0.2, 1.0, 9)
    assert fall_inwards(r, 1.0 / r, 1.0)[0] == 0.0
    depth, distance = fall_inwards(r, np.array([0.0, 3.0, 2.5, 1.0, 4.0, 3.0, 2.0, 1.0, 0.0]), 1.0)
    assert (depth, distance) == (4.0, pytest.approx(0.6))


def test_closest_distances_see_periodic_images():
    cell = np.diag([2.0, 9.0, 9.0])
    crystal = Frame(np.array([1, 8]), np.array([[0.1, 0, 0], [1.5, 0, 0]]), cell, np.ones(3, bool))
    assert closest_distances([crystal, dimer(1, 8, 0.9)]) == pytest.approx({"H-O": 0.6, "H-H": 2.0, "O-O": 2.0})


def test_forces_that_are_no_derivative_drift(cluster):
    potential = broken.small_potential(kind=broken.Bonds)
    assert one(potential, "energy drift", structures=[cluster]).passed
    assert not one(potential, "energy drift", structures=[cluster], predict=broken.forces_scaled(1.5)).passed


def test_forces_that_are_not_a_function_of_positions_do_not_run_back(cluster):
    potential = broken.small_potential(kind=broken.Bonds)
    assert one(potential, "time reversal", structures=[cluster]).passed
    assert not one(potential, "time reversal", structures=[cluster], predict=broken.noisy_forces).passed


def test_a_pit_blows_up_and_says_so():
    result = one(broken.small_potential(kind=broken.Pit, scale=30.0), "energy drift")
    assert not result.passed and "give --data" in result.message


def test_without_forces_nothing_is_shown():
    assert one(broken.small_potential(), "contrast").passed
    assert not one(broken.small_potential(kind=broken.Dead), "contrast").passed


def test_random_structures_are_reasonable():
    rng = np.random.default_rng(0)
    for frame in [*random_molecules((1, 6, 8, 26), rng), *random_molecules((92,), rng)]:
        pairs = {tuple(sorted(name.split("-"))): d for name, d in closest_distances([frame]).items()}
        assert pairs and all(d > 0.4 for d in pairs.values())
        assert min(np.unique(frame.numbers, return_counts=True)[1]) >= 2
    for elements in ((14,), (1, 8), (3, 15, 16), (1, 6, 7, 8, 9, 16, 17, 35)):
        crystal = random_crystal(elements, rng)
        assert set(crystal.numbers) == set(elements) and min(closest_distances([crystal]).values(), default=1.0) > 0.5
        assert np.abs(crystal.cell - np.diag(np.diag(crystal.cell))).max() > 0.1


def test_selection_prefers_variety_and_small_structures():
    def frame(n, kind="a"):
        return Frame(np.ones(n, int), np.arange(3.0 * n).reshape(n, 3), np.zeros((3, 3)), np.zeros(3, bool), config_type=kind)

    frames = [frame(1), frame(4), frame(4), frame(4, "b"), frame(5), frame(500)]
    assert [(f.n_atoms, f.config_type) for f in select(frames)] == [(4, "a"), (4, "b"), (5, "a")]
    assert [f.n_atoms for f in select([frame(900), frame(500)])] == [500]
    assert select([frame(1)]) == []


def test_supercell_order():
    crystal = Frame(np.array([1, 8]), np.array([[0.0, 0, 0], [0.3, 0, 0]]), np.diag([1.0, 2.0, 3.0]), np.ones(3, bool))
    big = supercell(crystal, (2, 1, 2))
    assert big.numbers.tolist() == [1, 8] * 4
    assert big.positions[2:4] == pytest.approx(crystal.positions + [0, 0, 3.0])
    assert np.diag(big.cell).tolist() == [2.0, 2.0, 6.0]
