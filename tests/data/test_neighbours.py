"""Neighbour lists against ASE's, and the list with a skin against the list without."""

import numpy as np
import pytest
import torch
from ase.neighborlist import primitive_neighbor_list
from hypothesis import given, settings
from hypothesis import strategies as st

from equipot.data.graph import make_graph
from equipot.data.neighbours import SkinList, neighbour_graph
from equipot.errors import UserError

CELLS = {
    "cubic": 8.0 * np.eye(3),
    "smaller than the cutoff": np.array([[3.0, 0, 0], [1.2, 2.5, 0], [0.7, -0.9, 2.8]]),
    "skewed": np.array([[5.0, 0, 0], [9.0, 4, 0], [3, -7, 6.0]]),
    "left-handed": np.array([[0, 6.0, 0], [6.0, 0, 0], [0, 1.0, 6.0]]),
}
PERIODICITIES = [(p & 1 > 0, p & 2 > 0, p & 4 > 0) for p in range(8)]


def edges(graph):
    """Every edge as (centre, neighbour, shift)."""
    columns = torch.cat([graph.receiver[:, None], graph.sender[:, None], graph.shift.long()], dim=1)
    return sorted(map(tuple, columns.tolist()))


def edges_of_ase(positions, cell, pbc, cutoff):
    i, j, shift = primitive_neighbor_list("ijS", np.array(pbc), cell, positions, cutoff, self_interaction=False)
    return sorted(map(tuple, np.column_stack([i, j, shift]).tolist()))


def same(one, other):
    for name, a, b in zip(one._fields, one, other, strict=True):
        assert a.dtype == b.dtype, name
        assert torch.equal(a, b), name


@pytest.mark.parametrize("pbc", PERIODICITIES)
@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_as_ase(cell, pbc):
    """Wrapped or not, one atom or many, the cell smaller than the cutoff, own images included."""
    rng = np.random.default_rng(1)
    for n_atoms in (1, 2, 9):
        for spread in (0, 3):
            positions = rng.uniform(-spread, 1 + spread, (n_atoms, 3)) @ cell
            for cutoff in (2.3, 5.0):
                graph = neighbour_graph(positions, np.zeros(n_atoms), cell, pbc, cutoff)
                assert edges(graph) == edges_of_ase(positions, cell, pbc, cutoff)


def test_cells_with_missing_vectors():
    rng = np.random.default_rng(2)
    positions = rng.uniform(-2, 7, (12, 3))
    for pbc in PERIODICITIES[:-1]:
        cell = np.where(np.array(pbc)[:, None], np.array([[5.0, 1, 0], [0, 5, 1], [1, 0, 5]]), 0.0)
        graph = neighbour_graph(positions, np.zeros(12), cell, pbc, 4.0)
        assert edges(graph) == edges_of_ase(positions, np.where(cell.any(1)[:, None], cell, 50 * np.eye(3)), pbc, 4.0)
        assert torch.equal(graph.cell[0], torch.from_numpy(cell))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), moves=st.integers(1, 4))
def test_wrapping_changes_the_shifts_only(seed, moves):
    rng = np.random.default_rng(seed)
    cell, positions = CELLS["skewed"], rng.uniform(0, 1, (6, 3)) @ CELLS["skewed"]
    whole = rng.integers(-moves, moves + 1, (6, 3))
    one = neighbour_graph(positions, np.zeros(6), cell, True, 4.5)
    two = neighbour_graph(positions + whole @ cell, np.zeros(6), cell, True, 4.5)

    def canonical(graph, offset):
        shift = graph.shift.numpy() + offset[graph.sender] - offset[graph.receiver]
        return sorted(map(tuple, np.column_stack([graph.receiver, graph.sender, shift.astype(int)]).tolist()))

    assert canonical(one, np.zeros((6, 3), dtype=int)) == canonical(two, whole)


def test_graph_is_well_formed():
    """Sorted by receiver; both orders and their starts agree; every edge has its reverse; the edge vector is shorter than the cutoff."""
    rng = np.random.default_rng(3)
    cell = CELLS["smaller than the cutoff"]
    graph = neighbour_graph(rng.uniform(-1, 2, (5, 3)) @ cell, np.arange(5), cell, True, 4.0)
    assert (graph.receiver.diff() >= 0).all()
    for i in range(5):
        assert (graph.receiver[graph.receiver_start[i] : graph.receiver_start[i + 1]] == i).all()
        assert (graph.sender[graph.by_sender[graph.sender_start[i] : graph.sender_start[i + 1]]] == i).all()
    vector = graph.positions[graph.sender] - graph.positions[graph.receiver] + graph.shift @ graph.cell[0]
    assert float(vector.norm(dim=1).max()) < 4.0
    reverse = sorted((j, i, -a, -b, -c) for i, j, a, b, c in edges(graph))
    assert reverse == edges(graph)
    again = make_graph(
        graph.positions,
        graph.species,
        *(t.flip(0) for t in (graph.sender, graph.receiver, graph.shift)),
        graph.cell,
        graph.pbc,
        graph.structure,
    )
    same(graph, again)


def test_atom_exactly_at_the_cutoff():
    """In neither direction, in every direction of space, with and without a skin and images."""
    for axis in range(3):
        positions = np.zeros((2, 3))
        positions[1, axis] = 4.0
        assert neighbour_graph(positions, [0, 0], np.zeros((3, 3)), False, 4.0).n_edges == 0
        assert SkinList([0, 0], 4.0).update(positions, np.zeros((3, 3)), False).n_edges == 0
        assert neighbour_graph(positions, [0, 0], np.zeros((3, 3)), False, np.nextafter(4.0, 5.0)).n_edges == 2
    assert neighbour_graph([[0.3, 0.4, 0.5]], [0], 4.0 * np.eye(3), True, 4.0).n_edges == 0
    assert neighbour_graph([[0.3, 0.4, 0.5]], [0], 4.0 * np.eye(3), True, 4.0001).n_edges == 6


def test_tensors_are_taken_too():
    rng = np.random.default_rng(7)
    cell, positions = CELLS["cubic"], rng.uniform(0, 8, (6, 3))
    tensors = (
        torch.from_numpy(positions).requires_grad_(),
        torch.zeros(6, dtype=torch.int64),
        torch.from_numpy(cell),
        torch.ones(3, dtype=bool),
    )
    same(neighbour_graph(*tensors, 4.0), neighbour_graph(positions, np.zeros(6), cell, True, 4.0))


def test_no_neighbours_and_one_atom():
    for pbc, cell in ((False, np.zeros((3, 3))), (True, 50 * np.eye(3))):
        graph = neighbour_graph([[1.0, 2.0, 3.0]], [2], cell, pbc, 5.0)
        assert (graph.n_atoms, graph.n_edges, graph.n_structures) == (1, 0, 1)
        assert graph.receiver_start.tolist() == [0, 0]
        assert graph.shift.shape == (0, 3)
        same(graph, SkinList([2], 5.0).update([[1.0, 2.0, 3.0]], cell, pbc))


def test_pair_cutoff():
    positions, species = [[0, 0, 0], [0, 0, 2.0], [0, 0, 5.0]], [0, 1, 0]
    pairs = torch.tensor([[5.5, 1.5], [2.5, 5.5]])
    graph = neighbour_graph(positions, species, np.zeros((3, 3)), False, 5.5, pairs)
    # centre 1 sees its neighbour 0 (2.5 Å for H around O, say), not the reverse (1.5 Å).
    assert [(i, j) for i, j, *_ in edges(graph)] == [(0, 2), (1, 0), (2, 0)]
    same(graph, SkinList(species, 5.5, 1.0, pairs).update(positions, np.zeros((3, 3)), False))
    with pytest.raises(UserError, match="pair cutoffs"):
        neighbour_graph(positions, species, np.zeros((3, 3)), False, 5.0, pairs)


@pytest.mark.parametrize("cutoff", [0.0, -1.0, float("nan"), float("inf")])
def test_cutoff_must_be_positive(cutoff):
    with pytest.raises(UserError, match="cutoff"):
        neighbour_graph([[0, 0, 0]], [0], np.zeros((3, 3)), False, cutoff)


def test_damaged_structures():
    with pytest.raises(UserError, match="NaN"):
        neighbour_graph([[0, 0, np.nan]], [0], np.zeros((3, 3)), False, 3.0)
    with pytest.raises(UserError, match="periodic along a, b, c, but the cell"):
        neighbour_graph([[0, 0, 0]], [0], np.diag([5.0, 5, 0]), (True, True, True), 3.0)
    with pytest.raises(UserError, match="2 species for 1 atoms"):
        neighbour_graph([[0, 0, 0]], [0, 0], np.zeros((3, 3)), False, 3.0)


@pytest.mark.parametrize("pbc", [(True, True, True), (True, True, False), (False, False, False)])
@pytest.mark.parametrize("change", ["none", "breathing", "shear"])
def test_skin_gives_the_same_graphs(pbc, change):
    """A hot walk with drift, atoms leaving the cell and being wrapped back, and the cell changing: never an edge more or less."""
    rng = np.random.default_rng(4)
    cell = CELLS["left-handed"].copy() + 0.3
    positions = rng.uniform(0, 1, (30, 3)) @ cell
    kept = SkinList(np.arange(30) % 2, 4.0, skin=0.8)
    for step in range(120):
        positions = positions + rng.normal(0, 0.02, positions.shape) + 0.03
        if change != "none":
            strain = np.eye(3) + (0.003 * np.sin(step) * np.eye(3) if change == "breathing" else rng.normal(0, 0.001, (3, 3)))
            cell, positions = cell @ strain, positions @ strain
        if step % 30 == 29:
            positions[step % 7] += cell[0] if pbc[0] else 0.0
        same(kept.update(positions, cell, pbc), neighbour_graph(positions, np.arange(30) % 2, cell, pbc, 4.0))
    assert kept.n_updates == 120
    assert 2 <= kept.n_builds <= 40


def test_skin_is_rebuilt_when_it_must_be():
    """Atoms that approach from outside: half a skin each is the limit; a fast one must not be missed."""
    cell, kept = np.zeros((3, 3)), SkinList([0, 0], 3.0, skin=1.0)
    for gap in (4.5, 4.2, 3.9, 3.4, 3.01, 2.99, 2.0, 6.0, 2.9):
        positions = np.array([[0, 0, 0], [gap, 0, 0]])
        assert kept.update(positions, cell, False).n_edges == (2 if gap < 3.0 else 0)
    built = kept.n_builds
    kept.update(positions + 0.4, cell, False)
    kept.update(positions + 100.0, cell, False)  # a shift of the whole changes nothing
    assert kept.n_builds == built
    kept.update(positions, 9.0 * np.eye(3), True)
    assert kept.n_builds == built + 1


def test_skin_with_a_collapsing_cell():
    """All distances shrink and no atom moves in the cell's own coordinates: the bound on the strain alone must catch it."""
    fractional = np.random.default_rng(5).uniform(0, 1, (20, 3))
    kept, cell = SkinList(np.zeros(20), 4.0, skin=1.0), 12.0 * np.eye(3)
    for _ in range(60):
        cell = 0.99 * cell
        same(kept.update(fractional @ cell, cell, True), neighbour_graph(fractional @ cell, np.zeros(20), cell, True, 4.0))
    assert kept.n_builds < 10


def test_skin_with_a_cell_squeezed_along_one_axis():
    """The direction that shrinks counts, whatever the others do."""
    fractional = np.random.default_rng(8).uniform(0, 1, (40, 3))
    kept, cell = SkinList(np.zeros(40), 4.0, skin=1.0), 11.0 * np.eye(3)
    for _ in range(40):
        cell = cell @ np.diag([0.985, 1.015, 1.0])
        same(kept.update(fractional @ cell, cell, True), neighbour_graph(fractional @ cell, np.zeros(40), cell, True, 4.0))
    assert kept.n_builds < 10


def test_skin_sees_a_change_of_periodicity():
    cell, positions, kept = 6.0 * np.eye(3), np.array([[0.1, 3, 3], [5.9, 3, 3]]), SkinList([0, 0], 3.0)
    for pbc in (False, True, (False, True, True), (True, False, False)):
        same(kept.update(positions, cell, pbc), neighbour_graph(positions, [0, 0], cell, pbc, 3.0))
    assert kept.n_builds == 4


def test_skin_of_zero_builds_each_time():
    kept = SkinList([0, 0], 3.0, skin=0.0)
    rng = np.random.default_rng(6)
    for _ in range(5):
        positions = rng.uniform(0, 3, (2, 3))
        same(kept.update(positions, np.zeros((3, 3)), False), neighbour_graph(positions, [0, 0], np.zeros((3, 3)), False, 3.0))
    assert kept.n_builds == 5
    with pytest.raises(UserError, match="skin"):
        SkinList([0], 3.0, skin=-1.0)


@pytest.mark.parametrize("pbc", [(False, False, False), (True, True, False), (True, False, True), (False, True, False)])
@pytest.mark.parametrize("distance", [300.0, 1e6])
def test_atoms_that_have_flown_off_change_no_other_pair(pbc, distance):
    """The grid of the search would cover the way to them: slow, and the end of the process by an exception of the processor at 1e6 Å."""
    rng = np.random.default_rng(0)
    cell = np.array([[6.0, 0.4, 0.2], [-0.5, 6.5, 0.3], [0.6, -0.2, 7.0]])
    cluster = rng.random((6, 3)) @ cell
    used = cell[list(pbc)]
    away = np.linalg.svd(used)[2][-1] if len(used) else np.array([0.6, -0.8, 0.0])
    positions = np.concatenate([cluster, cluster[:2] + distance * away, cluster[2:3] - 3.0 * distance * away])
    species = np.zeros(9, dtype=int)
    together = neighbour_graph(positions, species, cell, pbc, 4.0)
    parts = [neighbour_graph(positions[own], species[own], cell, pbc, 4.0) for own in (slice(6), slice(6, 8), slice(8, 9))]
    found = sorted(map(tuple, torch.column_stack([together.receiver, together.sender, together.shift]).tolist()))
    wanted = [
        (r + start, s + start, *shift)
        for part, start in zip(parts, (0, 6, 8), strict=True)
        for r, s, shift in zip(part.receiver.tolist(), part.sender.tolist(), part.shift.tolist(), strict=True)
    ]
    assert found == sorted(wanted)
    assert len(parts[0].sender)
