"""Behaviours warn of what training did not teach: holes, motion that does not last, nothing to see."""

import broken_models as broken
import numpy as np
import pytest

from equipot.analysis.checks import dynamics, passed, run_checks
from equipot.analysis.checks.dimers import closest_distances, fall_inwards
from equipot.analysis.checks.probes import dimer, random_crystal, random_molecules, select, supercell
from equipot.analysis.checks.scans import spurious
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


@pytest.fixture
def chain() -> Frame:
    """H-C-O-H, straight but for a little, at the rest length of `broken.OneBond`."""
    positions = np.cumsum([[0.0, 0, 0], [1.2, 0.1, 0], [1.2, -0.1, 0.1], [1.2, 0.1, -0.1]], axis=0)
    return Frame(np.array([1, 6, 8, 1]), positions, np.zeros((3, 3)), np.zeros(3, bool), source="chain.xyz#0")


def test_a_second_minimum_of_a_stretched_bond_is_found(chain):
    assert one(broken.small_potential(kind=broken.OneBond), "bond stretch", structures=[chain]).passed
    result = one(broken.small_potential(kind=broken.TwoBonds), "bond stretch", structures=[chain])
    assert not result.passed and result.value > 0.3
    assert "chain.xyz#0 at 2.1" in result.message or "chain.xyz#0 at 2.0" in result.message
    curves = result.details["scans"]
    assert {name.split(" in ")[0] for name in curves} == {"C1-H0", "O2-C1", "O2-H3"} or len(curves) == 3
    assert passed([result]) and not passed([result], strict=True)


def test_a_second_minimum_of_a_crystal_is_found():
    crystal = Frame(np.array([1]), np.zeros((1, 3)), 2.2 * np.eye(3), np.ones(3, bool), source="c.xyz#0")
    crystal = supercell(crystal, (2, 1, 1))

    class Near(broken.OneBond):
        """One shell of neighbours."""

        def extra(self, graph, vectors):
            r = vectors.norm(dim=1)
            return broken.segment_sum(5.0 * (r - 2.2) ** 2 * (r < 2.6), graph.receiver, graph.n_atoms)

    class Twice(Near):
        def extra(self, graph, vectors):
            r = vectors.norm(dim=1)
            dip = -0.5 * broken.torch.exp(-1000 * (r - 2.464) ** 2)
            return super().extra(graph, vectors) + broken.segment_sum(dip, graph.receiver, graph.n_atoms)

    assert one(broken.small_potential(kind=Near), "volume", structures=[crystal]).passed
    result = one(broken.small_potential(kind=Twice), "volume", structures=[crystal])
    assert not result.passed and "at 1.4" in result.message


def test_abysses_and_minima():
    x = np.linspace(0.8, 2.0, 25)
    well = (x - 1.0) ** 2
    assert spurious(x, well, 1.0) == (0.0, 2.0)
    depth, where = spurious(x, np.where(x > 1.5, -0.3, well), 1.0)  # falls below the bond
    assert depth == pytest.approx(0.3 + 0.25, abs=0.05) and where >= 1.5
    depth, where = spurious(x, np.where(x < 0.9, well - 0.5, well), 1.0)  # collapses
    assert depth == pytest.approx(0.5, abs=0.05) and where == pytest.approx(0.85)
    depth, where = spurious(x, well - 0.8 * np.exp(-200 * (x - 1.6) ** 2), 1.0)
    assert depth > 0.4 and where == pytest.approx(1.6)
    assert np.isnan(spurious(x, well + np.where(x > 1.9, np.nan, 0.0), 1.0)[0])


def test_what_needs_data_is_not_measured_without_and_says_so(chain):
    potential = broken.small_potential()
    for name in ("bond stretch", "volume"):
        result = one(potential, name)
        assert result.skipped and passed([result], strict=True) and "--data" in result.message
        assert result.to_dict()["value"] is None and result.to_dict()["skipped"] is True
    assert one(potential, "volume", structures=[chain]).skipped  # no crystal
    ring = Frame(np.array([6] * 3), 1.4 * np.eye(3), np.zeros((3, 3)), np.zeros(3, bool), source="ring.xyz#0")
    assert one(potential, "bond stretch", structures=[ring]).skipped  # no bond parts it


def test_pairs_the_data_never_saw_are_named(chain):
    message = one(broken.small_potential(kind=broken.Wall), "dimers", structures=[chain]).message
    assert "no data below: H-H 3.6" in message and "C-C not at all" in message
    assert "is not known" in one(broken.small_potential(kind=broken.Wall), "dimers").message


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
