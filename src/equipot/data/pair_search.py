"""The search for pairs of atoms by vesin, and how long one with a skin holds. numpy only: simulations without torch use it too."""

import sys
from functools import cache
from types import ModuleType
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from equipot.errors import UserError

# The list is asked for a hair beyond the cutoff, and the cutoff is applied later to one formula for the distance: a pair at the cutoff
# is then in or out in both directions, with or without a skin.
MARGIN = 1e-6  # Å
MANY_ATOMS = 2000


class State:
    """Positions, cell and periodicity as checked arrays of our own; raises UserError where they make no sense."""

    def __init__(self, positions: ArrayLike, cell: ArrayLike, pbc: ArrayLike) -> None:
        self.positions = own(positions, np.float64).reshape(-1, 3)
        self.cell = own(cell, np.float64).reshape(3, 3)
        self.pbc = np.zeros(3, dtype=bool)
        self.pbc[:] = own(pbc, bool)  # not broadcast_to, which takes a twentieth of a molecule's step
        if not (np.isfinite(self.positions).all() and np.isfinite(self.cell).all()):
            raise UserError("positions or cell are NaN or infinite: the structure is damaged, or a simulation has blown up")
        used = self.cell[self.pbc]
        if len(used) and np.linalg.matrix_rank(used) < len(used):
            raise UserError(f"periodic along {_axes(self.pbc)}, but the cell has no independent vector for each: give the cell or drop pbc")


class Pairs(NamedTuple):
    """Ordered pairs: the neighbour `sender` at positions[sender] + shift @ cell, seen from the centre `receiver`."""

    sender: np.ndarray  # (E,) int64
    receiver: np.ndarray  # (E,) int64
    shift: np.ndarray  # (E, 3) float64, whole numbers


def search(state: State, reach: float, n_threads: int = 1) -> Pairs:
    """All pairs within `reach` Å, in no order."""
    found = _vesin().NeighborList(cutoff=reach + MARGIN, full_list=True, n_threads=n_threads if len(state.positions) >= MANY_ATOMS else 1)
    # vesin takes the cell's vectors along directions that are not periodic for nothing, but they must not make it singular.
    cell = _complete(state)
    receiver, sender, shift = found.compute(_gathered(state.positions, cell[~state.pbc], reach), cell, state.pbc, "ijS")
    return Pairs(sender.astype(np.int64), receiver.astype(np.int64), shift.astype(np.float64))


@cache
def _vesin() -> ModuleType:
    """vesin, which imports torch wherever that is installed, to know a tensor when it sees one: we give it arrays, and spare those seconds."""
    hidden = "torch" not in sys.modules
    if hidden:
        sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        import vesin
    finally:
        if hidden:
            del sys.modules["torch"]
    return vesin


def check_skin(skin: float) -> float:
    """The skin in Å; raises UserError unless it is zero or positive."""
    if not 0.0 <= skin < float("inf"):
        raise UserError(f"skin {skin} must be zero or positive (Å)")
    return float(skin)


def still_valid(old: State, state: State, cutoff: float, skin: float) -> bool:
    """Whether pairs searched at `old` to cutoff + skin are all there are within the cutoff at `state`.

    With F the linear map from the old cell to the new and w_i what is left of atom i's motion after it (less its mean), a pair that was outside
    stays outside the cutoff while σ_min(F) (cutoff + skin) − 2 max|w| ≥ cutoff: half a skin of motion where the cell is fixed.
    """
    if old.positions.shape != state.positions.shape or (old.pbc != state.pbc).any():
        return False
    moved, stretch = state.positions - old.positions, 1.0
    if (old.cell != state.cell).any():
        if abs(np.linalg.det(old.cell)) < 1e-6:
            return False
        deformation = np.linalg.solve(old.cell, state.cell)
        stretch = float(np.linalg.svd(deformation, compute_uv=False)[-1])
        moved = state.positions - old.positions @ deformation
    moved = moved - moved.mean(axis=0)
    furthest = float(np.sqrt((moved**2).sum(axis=1).max(initial=0.0)))
    return stretch * (cutoff + skin) - 2.0 * furthest >= cutoff


class EdgeList:
    """Pairs by centre, searched anew only when atoms have moved far enough to matter; those between cutoff and cutoff + skin are among them.

    `n_updates` counts the lists given, `n_builds` the searches.
    """

    def __init__(self, cutoff: float, skin: float = 1.0, n_threads: int = 1) -> None:
        self.cutoff, self.skin, self.n_threads = float(cutoff), check_skin(skin), n_threads
        self.n_updates = 0
        self.n_builds = 0
        self._built: State | None = None
        self._edges: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None

    def update(self, positions: ArrayLike, cell: ArrayLike, pbc: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """start (n + 1,) int64, sender (E,) int32 and shift (E, 3) int32: the edges of centre i are start[i] … start[i + 1].

        Their order is a function of the edges alone. Raises UserError as `State` does.
        """
        self.n_updates += 1
        if self._still_near(positions, cell, pbc):
            return self._edges
        state = State(positions, cell, pbc)
        if self._built is None or not still_valid(self._built, state, self.cutoff, self.skin):
            self._built = self._edges = None  # the old list makes room for the search, which needs several times as much
            self._edges = _by_centre(search(state, self.cutoff + self.skin, self.n_threads), len(state.positions))
            self._built = state
            self.n_builds += 1
        return self._edges

    def _still_near(self, positions: ArrayLike, cell: ArrayLike, pbc: ArrayLike) -> bool:
        """Whether the list plainly holds: `still_valid` for arrays as simulations give them, in half the time."""
        old = self._built
        if old is None or type(positions) is not np.ndarray or positions.shape != old.positions.shape:
            return False
        if np.asarray(cell).tobytes() != old.cell.tobytes() or np.asarray(pbc).tobytes() != old.pbc.tobytes():
            return False
        moved = positions - old.positions
        with np.errstate(invalid="ignore"):
            moved -= moved.sum(axis=0) / max(1, len(moved))
        squares = np.einsum("ia,ia->i", moved, moved)
        return bool(4.0 * squares.max(initial=0.0) <= self.skin**2)  # not so where anything is NaN


def _by_centre(pairs: Pairs, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    shift = pairs.shift.astype(np.int32)
    order = np.lexsort((shift[:, 2], shift[:, 1], shift[:, 0], pairs.receiver * n + pairs.sender))
    start = np.concatenate([[0], np.cumsum(np.bincount(pairs.receiver, minlength=n))])
    return start, pairs.sender[order].astype(np.int32), np.ascontiguousarray(shift[order])


def own(value: ArrayLike, dtype: type) -> np.ndarray:
    """A copy as an array, also of a tensor on any device."""
    return np.array(value.detach().cpu().numpy() if hasattr(value, "detach") else value, dtype=dtype)


def _complete(state: State) -> np.ndarray:
    """The cell with the vectors of non-periodic directions replaced by orthonormal ones, which no pair is shifted along."""
    if state.pbc.all():
        return state.cell
    used = state.cell[state.pbc]
    normal = np.linalg.svd(used)[2][len(used) :] if len(used) else np.eye(3)
    cell = state.cell.copy()
    cell[~state.pbc] = normal
    return cell


def _gathered(positions: np.ndarray, normals: np.ndarray, reach: float) -> np.ndarray:
    """Positions with empty space along the directions that are not periodic shortened to twice the reach, which changes no pair.

    The grid of the search covers empty space too: an atom that has flown off would cost time, and end the process from about 1e5 reaches on.
    """
    gathered = positions
    for normal in normals:
        height = positions @ normal
        if len(positions) < 2 or np.ptp(height) < 100.0 * reach:
            continue
        order = np.argsort(height, kind="stable")
        excess = np.maximum(np.diff(height[order]) - 2.0 * reach, 0.0)
        lowered = np.empty_like(height)
        lowered[order] = np.concatenate([[0.0], np.cumsum(excess)])
        gathered = gathered - lowered[:, None] * normal
    return gathered


def _axes(pbc: np.ndarray) -> str:
    return ", ".join(name for name, periodic in zip("abc", pbc, strict=True) if periodic)
