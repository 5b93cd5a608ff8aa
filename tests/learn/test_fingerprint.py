"""The distance between structures: zero for the same one in another guise, and not for another."""

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from equipot.data.frame import Frame
from equipot.learn import fingerprint as module
from equipot.learn.fingerprint import distance, fingerprint, lower_bound, nearest

CUTOFF = 4.0


def molecule(seed: int = 0, n: int = 7) -> Frame:
    rng = np.random.default_rng(seed)
    numbers = np.array([1, 6, 8, 1, 6, 1, 1][:n])
    return Frame(numbers, rng.normal(0, 1.6, (n, 3)), np.zeros((3, 3)), np.zeros(3, dtype=bool))


def crystal(seed: int = 0) -> Frame:
    rng = np.random.default_rng(seed)
    cell = np.diag([4.1, 4.3, 4.6]) + rng.normal(0, 0.1, (3, 3))
    return Frame(np.array([13, 29, 13, 29]), rng.random((4, 3)) @ cell, cell, np.ones(3, dtype=bool))


def between(one: Frame, other: Frame) -> float:
    return distance(fingerprint(one, CUTOFF), fingerprint(other, CUTOFF))


def guises(frame: Frame) -> dict[str, Frame]:
    turn = Rotation.random(rng=np.random.default_rng(3)).as_matrix()
    order = np.random.default_rng(4).permutation(frame.n_atoms)
    found = {
        "copy": replace(frame),
        "rotated": replace(frame, positions=frame.positions @ turn.T, cell=frame.cell @ turn.T),
        "reflected": replace(frame, positions=-frame.positions, cell=-frame.cell),
        "moved": replace(frame, positions=frame.positions + [3.0, -1.0, 0.5]),
        "permuted": replace(frame, numbers=frame.numbers[order], positions=frame.positions[order]),
    }
    if frame.pbc.all():
        found["wrapped otherwise"] = replace(
            frame, positions=frame.positions + np.array([[1, 0, 0], [0, -2, 1], [0, 0, 3], [0, 0, 0]]) @ frame.cell
        )
    return found


@pytest.mark.parametrize("frame", [molecule(), crystal()], ids=["molecule", "crystal"])
def test_guises_of_one_structure_are_the_same(frame):
    for name, guise in guises(frame).items():
        assert between(frame, guise) < 1e-6, name


@pytest.mark.parametrize("make", [molecule, crystal])
def test_others_are_not(make):
    frames = [make(seed) for seed in range(6)]
    for i in range(6):
        for j in range(i):
            assert between(frames[i], frames[j]) > 0.1
    rng = np.random.default_rng(0)
    moved = replace(frames[0], positions=frames[0].positions + rng.normal(0, 0.05, frames[0].positions.shape))
    assert 0.01 < between(frames[0], moved) < 0.2  # in Å, about how far atoms have moved


def test_swapped_elements_and_other_compositions_differ():
    frame = molecule()
    swapped = replace(frame, numbers=frame.numbers[[1, 0, 2, 3, 4, 5, 6]])
    assert between(frame, swapped) > 0.1
    assert between(frame, molecule(n=6)) == np.inf
    assert nearest(fingerprint(frame, CUTOFF), []) == np.inf


def test_it_is_the_smallest_over_all_pairings():
    """By the definition, over every permutation of four hydrogens."""
    rng = np.random.default_rng(5)
    a, b = (
        fingerprint(Frame(np.ones(4, dtype=int), rng.normal(0, 1.2, (4, 3)), np.zeros((3, 3)), np.zeros(3, dtype=bool)), 6.0)
        for _ in range(2)
    )
    x, y = a.distances[:, 0], b.distances[:, 0]
    least = min(((x - y[list(p)]) ** 2).sum() for p in permutations(range(4)))
    assert distance(a, b) == pytest.approx(np.sqrt(least / (4 * 3.0)), rel=1e-12)
    assert distance(a, b) == pytest.approx(distance(b, a), rel=1e-12)


def test_the_bound_is_one_and_nearest_is_exact():
    prints = [fingerprint(molecule(seed), CUTOFF) for seed in range(12)]
    exact = [distance(prints[0], other) for other in prints[1:]]
    bounds = [lower_bound(prints[0], other) for other in prints[1:]]
    assert all(0 < low <= d for low, d in zip(bounds, exact, strict=True))
    assert nearest(prints[0], prints[1:]) == pytest.approx(min(exact), rel=1e-12)


def test_it_does_not_jump_where_neighbours_cross_the_cutoff():
    frame = molecule()
    step = 1e-3
    walk = [replace(frame, positions=frame.positions + np.outer(frame.numbers == 8, [step * k, 0, 0])) for k in range(1500)]
    prints = [fingerprint(f, CUTOFF) for f in walk]
    assert len({round(7 * p.n_neighbours) for p in prints}) > 2  # neighbours have come and gone
    assert max(distance(a, b) for a, b in zip(prints[:-1:10], prints[1::10], strict=False)) < 2 * step


def test_without_the_pairing_of_atoms_permuted_copies_would_stay(monkeypatch):
    """That the test above can fail: pair atoms in the order in which they stand."""
    monkeypatch.setattr(module, "linear_sum_assignment", lambda squares: (np.arange(len(squares)), np.arange(len(squares))))
    frame = molecule()
    assert between(frame, guises(frame)["permuted"]) > 0.1
    assert between(frame, guises(frame)["rotated"]) < 1e-6
