"""Data sets, batches, splits and statistics."""

import json
import pickle

import numpy as np
import pytest
import torch

from equipot.data.dataset import DataSet, collate, collate_indexed, frame_graph
from equipot.data.frame import Frame, species_index, to_numbers
from equipot.data.references import References
from equipot.data.split import split
from equipot.data.statistics import statistics
from equipot.errors import UserError

RNG = np.random.default_rng(0)


def frame(symbols="HO", periodic=False, labels="efs", weight=1.0, index=0):
    numbers = np.array(to_numbers(list(symbols)))
    n = len(numbers)
    return Frame(
        numbers=numbers,
        positions=RNG.uniform(0, 4, (n, 3)),
        cell=4.0 * np.eye(3) * periodic,
        pbc=np.full(3, periodic),
        energy=float(RNG.normal()) if "e" in labels else None,
        forces=RNG.normal(size=(n, 3)) if "f" in labels else None,
        stress=np.eye(3) if "s" in labels and periodic else None,
        weight=weight,
        source=f"a.xyz#{index}",
    )


def test_masks_and_weights():
    """Labels that differ per frame: what is missing is zero with weight zero in its mask."""
    frames = [frame("HO", True), frame("O", labels="e", weight=0.5), frame("HHO", labels="f"), frame("HO", True, labels="s")]
    data = DataSet(frames, ["H", "O"], 3.0)
    graph, labels, index = collate_indexed([data[i] for i in range(4)])
    assert labels.has_energy.tolist() == [True, True, False, False]
    assert labels.has_forces.tolist() == [True, False, True, False]
    assert labels.has_stress.tolist() == [True, False, False, True]
    assert labels.weight.tolist() == [1.0, 0.5, 1.0, 1.0]
    assert index.tolist() == [0, 1, 2, 3]
    assert graph.structure.tolist() == [0, 0, 1, 2, 2, 2, 3, 3]
    assert graph.species.tolist() == [0, 1, 1, 0, 0, 1, 0, 1]
    assert (labels.energy.dtype, labels.forces.shape, labels.stress.shape) == (torch.float64, (8, 3), (4, 3, 3))
    assert labels.energy[0] == frames[0].energy
    assert not labels.forces[2].any()
    torch.testing.assert_close(labels.forces[3:6], torch.from_numpy(frames[2].forces))


def test_a_batch_is_its_parts():
    frames = [frame("HHO", True), frame("O"), frame("HO")]
    data = DataSet(frames, [1, 8], 5.0)
    graph, _ = collate([data[2], data[0], data[-2]])
    atoms = edges = 0
    for part in (data.graphs[2], data.graphs[0], data.graphs[1]):
        chosen = slice(edges, edges + part.n_edges)
        assert torch.equal(graph.sender[chosen] - atoms, part.sender)
        assert torch.equal(graph.shift[chosen], part.shift)
        assert torch.equal(graph.positions[atoms : atoms + part.n_atoms], part.positions)
        atoms, edges = atoms + part.n_atoms, edges + part.n_edges


def test_subset_shares_graphs_and_pickles():
    data = DataSet([frame(index=i) for i in range(5)], ["H", "O"], 3.0)
    part = data.subset([3, 1])
    assert [f.index for f in part.frames] == [3, 1]
    assert part[0].graph is data.graphs[3]
    assert part[1].index == 1
    assert len(pickle.loads(pickle.dumps(part))) == 2
    with pytest.raises(IndexError):
        part[2]


def test_unknown_elements():
    with pytest.raises(UserError, match=r"a.xyz#7: O is not among the elements known here \(H\)"):
        DataSet([frame(index=7)], ["H"], 3.0)
    with pytest.raises(UserError, match="'Qq' is not an element"):
        species_index(np.array([1]), ["Qq"])
    assert species_index(np.array([8, 1]), ["O", "H"]).tolist() == [0, 1]


def test_statistics_by_hand():
    """A water-like line O–H at 1 Å, a second H at 3 Å, and a lone atom that BOTNet's mean leaves out."""
    cell, pbc = np.zeros((3, 3)), np.zeros(3, dtype=bool)
    line = Frame(np.array([8, 1, 1]), np.array([[0, 0, 0], [0, 0, 1.0], [0, 0, 3.0]]), cell, pbc, -30.0, np.arange(9.0).reshape(3, 3))
    lone = Frame(np.array([8, 1]), np.array([[0, 0, 0], [0, 0, 9.0]]), cell, pbc, -20.0)
    references = References({"H": -1.0, "O": -10.0}, "given", "")
    found = statistics(DataSet([line, lone], ["H", "O"], 2.5), references)
    assert found.mean_neighbours == pytest.approx(4 / 3)
    assert found.mean_neighbours_all == pytest.approx(4 / 5)
    assert found.neighbours_by_element == pytest.approx({"H": 1.0, "O": 0.5})
    assert found.rms_forces == pytest.approx(np.sqrt(np.mean(np.arange(9.0) ** 2)))
    assert found.rms_forces_by_element["O"] == pytest.approx(np.sqrt(5 / 3))
    assert found.mean_interaction == pytest.approx((-18 / 3 - 9 / 2) / 2)
    assert found.std_interaction == pytest.approx(0.75)
    assert found.min_distance == pytest.approx({"H-O": 1.0, "H-H": 2.0})
    assert (found.n_structures, found.n_atoms, found.n_energies, found.n_forces, found.n_stresses) == (2, 5, 2, 1, 0)
    json.dumps(found.to_dict(), allow_nan=False)
    with pytest.raises(UserError):
        statistics(DataSet([], ["H"], 2.5), references)


def test_graph_of_a_frame_uses_its_cell():
    crystal = frame("H", periodic=True)
    assert frame_graph(crystal, ["H"], 4.1).n_edges == 6


@pytest.mark.parametrize(("validation", "n"), [(0.1, 10), (0.25, 25), (30, 30), (0.001, 1), (None, 0), (0, 0), (0.999, 99)])
def test_split_by_fraction_and_count(validation, n):
    train, held = split(100, validation, seed=3)
    assert len(held) == n
    assert sorted(train + held) == list(range(100))
    assert (train, held) == split([None] * 100, validation, seed=3)
    if n:
        assert held != split(100, validation, seed=4)[1]


def test_split_by_indices(tmp_path):
    expected = [1, 5, 9]
    np.save(tmp_path / "i.npy", expected)
    (tmp_path / "i.json").write_text("[9, 1, 5]")
    (tmp_path / "i.txt").write_text("1\n5\n9\n")
    for given in (expected, np.array([5, 1, 9]), [1, 5, -1], *(tmp_path / f"i.{s}" for s in ("npy", "json", "txt"))):
        train, held = split(10, given)
        assert held == expected
        assert train == [0, 2, 3, 4, 6, 7, 8]


def test_subsets_are_nested():
    """A learning curve's small sets are part of its large ones, and never meet the validation set."""
    assert max(split(100, 0.2, seed=1, n_train=5)[0]) > 20  # drawn from all of them, not the first of a trajectory
    previous: set[int] = set()
    for n in (5, 20, 80):
        train, held = split(100, 0.2, seed=1, n_train=n)
        assert len(train) == n
        assert previous <= set(train)
        assert not set(train) & set(held)
        previous = set(train)


@pytest.mark.parametrize("wrong", [100, 101, -1, 1.5, float("nan"), [100], [0, 0], [0.5], list(range(100)), "a.xyz", "none.json", [True]])
def test_split_that_cannot_be(wrong):
    with pytest.raises(UserError):
        split(100, wrong)


def test_split_with_too_large_a_subset():
    with pytest.raises(UserError, match="80 frames to train on"):
        split(100, 0.2, n_train=81)
    with pytest.raises(UserError):
        split(100, 0.2, n_train=0)
