"""Neighbour lists: every ordered pair closer than the cutoff, in any cell, and a list kept between the steps of a simulation."""

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from equipot.data.graph import Graph, make_graph
from equipot.data.pair_search import State, check_skin, own, search, still_valid
from equipot.errors import UserError


def neighbour_graph(
    positions: ArrayLike, species: ArrayLike, cell: ArrayLike, pbc: ArrayLike, cutoff: float, pair_cutoff: Tensor | None = None
) -> Graph:
    """The graph of one structure: all pairs (also with periodic images, the own ones included) with |r_j − r_i + S·cell| < cutoff.

    `positions` (n, 3) Å, wrapped or not; `species` (n,) indices; `cell` (3, 3) Å, rows are vectors, zero where not periodic; `pbc` (3,) bool;
    `pair_cutoff` (n_elements, n_elements) Å by the species of centre and neighbour, none above `cutoff`. Raises UserError for a cutoff
    that is not positive or a periodic direction without a lattice vector.
    """
    state = State(positions, cell, pbc)
    limit = _Limit(species, cutoff, pair_cutoff)
    sender, receiver, shift = _pairs(state, limit.cutoff)
    keep = limit.inside(_squared_length(state.positions, state.cell, sender, receiver, shift), sender, receiver)
    return _to_graph(state, limit, sender[keep], receiver[keep], shift[keep])


def find_pairs(positions: ArrayLike, cell: ArrayLike, pbc: ArrayLike, cutoff: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Receiver, sender (E,) and edge vector (E, 3) Å of all pairs within the cutoff, in no order; raises as `neighbour_graph` does."""
    state = State(positions, cell, pbc)
    sender, receiver, shift = _pairs(state, cutoff)
    return receiver, sender, state.positions[sender] - state.positions[receiver] + shift @ state.cell


class SkinList:
    """The graph of a moving structure; the search is done anew only when atoms have moved far enough to matter.

    Pairs are kept to cutoff + skin, for as long as `pair_search.still_valid` says: half a skin of motion where the cell is fixed. The edges of
    each graph are those inside the cutoff itself, identical to `neighbour_graph`'s.
    `n_updates` counts the graphs given, `n_builds` the searches.
    """

    def __init__(self, species: ArrayLike, cutoff: float, skin: float = 1.0, pair_cutoff: Tensor | None = None) -> None:
        self.skin = check_skin(skin)
        self.n_updates = 0
        self.n_builds = 0
        self._limit = _Limit(species, cutoff, pair_cutoff)
        self._built: State | None = None
        self._wide: Graph | None = None

    @property
    def cutoff(self) -> float:
        return self._limit.cutoff

    def update(self, positions: ArrayLike, cell: ArrayLike, pbc: ArrayLike) -> Graph:
        """The graph at these positions (n, 3) Å, cell (3, 3) Å and pbc (3,); raises UserError as `neighbour_graph` does."""
        state = State(positions, cell, pbc)
        self.n_updates += 1
        if self._built is None or not still_valid(self._built, state, self.cutoff, self.skin):
            self._wide = _to_graph(state, self._limit, *_pairs(state, self.cutoff + self.skin))
            self._built = state
            self.n_builds += 1
        return self._filtered(state)

    def _filtered(self, state: "State") -> Graph:
        """The kept list cut to the cutoff; both edge orders are thinned, not sorted anew."""
        wide = self._wide
        sender, receiver, shift = wide.sender.numpy(), wide.receiver.numpy(), wide.shift.numpy()
        keep = self._limit.inside(_squared_length(state.positions, state.cell, sender, receiver, shift), sender, receiver)
        rank = np.concatenate([[0], np.cumsum(keep)])
        by_sender = wide.by_sender.numpy()
        kept_by_sender = keep[by_sender]
        rank_of_pair, pair_edges = _filtered_pairs(wide.pair_edges.numpy(), keep)
        rank_by_sender = np.concatenate([[0], np.cumsum(kept_by_sender)])
        return wide._replace(
            positions=torch.from_numpy(state.positions),
            cell=torch.from_numpy(state.cell)[None],
            sender=torch.from_numpy(sender[keep]),
            receiver=torch.from_numpy(receiver[keep]),
            shift=torch.from_numpy(shift[keep]),
            receiver_start=torch.from_numpy(rank[wide.receiver_start.numpy()]),
            by_sender=torch.from_numpy(rank[by_sender[kept_by_sender]]),
            sender_start=torch.from_numpy(rank_by_sender[wide.sender_start.numpy()]),
            pair=torch.from_numpy(rank_of_pair[wide.pair.numpy()[keep]]),
            pair_edges=torch.from_numpy(rank[pair_edges]),
        )


def _filtered_pairs(pair_edges: np.ndarray, keep: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The new number of every pair, and the kept edges of the kept pairs: where one direction went, the other stands twice."""
    both = keep[pair_edges]
    kept = both.any(axis=1)
    edges = np.where(both, pair_edges, pair_edges[:, ::-1])[kept]
    rank = np.concatenate([[0], np.cumsum(kept)])
    if both[kept].all():
        return rank, edges
    order = np.argsort(edges[:, 0])  # pairs are numbered by their first edges, and some lost theirs
    place = np.empty(len(order) + 1, dtype=np.int64)
    place[order], place[-1] = np.arange(len(order)), len(order)
    return place[rank], edges[order]


class _Limit:
    """Species, and how far a pair of them sees."""

    def __init__(self, species: ArrayLike, cutoff: float, pair_cutoff: Tensor | None) -> None:
        self.cutoff = float(cutoff)
        if not 0.0 < self.cutoff < float("inf"):
            raise UserError(f"cutoff {cutoff} must be a positive length in Å")
        self.species = own(species, np.int64).reshape(-1)
        self.pair = None if pair_cutoff is None else own(pair_cutoff, np.float64)
        if self.pair is not None and not ((self.pair >= 0.0) & (self.pair <= self.cutoff + 1e-12)).all():
            raise UserError(f"pair cutoffs must lie between 0 and the cutoff {self.cutoff} Å")

    def inside(self, squared: np.ndarray, sender: np.ndarray, receiver: np.ndarray) -> np.ndarray:
        """(E,) bool: the pair is closer than its cutoff."""
        if self.pair is None:
            return squared < self.cutoff**2
        return squared < self.pair[self.species[receiver], self.species[sender]] ** 2


def _pairs(state: State, reach: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sender, receiver (E,) int64 and shift (E, 3) float64 of all pairs within `reach`, in no order."""
    return search(state, reach, torch.get_num_threads())


def _squared_length(positions: np.ndarray, cell: np.ndarray, sender: np.ndarray, receiver: np.ndarray, shift: np.ndarray) -> np.ndarray:
    edge = positions[sender] - positions[receiver]
    if shift.any():
        edge += shift @ cell
    return np.einsum("ei,ei->e", edge, edge)


def _to_graph(state: State, limit: _Limit, sender: np.ndarray, receiver: np.ndarray, shift: np.ndarray) -> Graph:
    n = len(state.positions)
    if len(limit.species) != n:
        raise UserError(f"{len(limit.species)} species for {n} atoms")
    return make_graph(
        positions=torch.from_numpy(state.positions),
        species=torch.from_numpy(limit.species),
        sender=torch.from_numpy(sender),
        receiver=torch.from_numpy(receiver),
        shift=torch.from_numpy(shift),
        cell=torch.from_numpy(state.cell)[None],
        pbc=torch.from_numpy(state.pbc)[None],
        structure=torch.zeros(n, dtype=torch.int64),
    )
