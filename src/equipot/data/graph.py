"""The graph every model sees: atoms, directed edges inside the cutoff, and the structures they belong to."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Graph(NamedTuple):
    """A batch of B structures with N atoms and E directed edges; edge e goes from neighbour `sender[e]` to centre `receiver[e]`.

    The edge vector is r_e = positions[sender] − positions[receiver] + shift @ cell[structure of receiver]. Edges are sorted by
    receiver, so the edges of centre i are `receiver_start[i] : receiver_start[i+1]`; `by_sender` lists the edges sorted by sender, those of
    neighbour j are `by_sender[sender_start[j] : sender_start[j+1]]`. The two directions of a pair of atoms share a row p = `pair[e]` of whatever
    depends on their distance alone; `pair_edges[p]` are its two edges (twice the same where a list holds one direction only).
    """

    positions: Tensor  # (N, 3) float64, Å
    species: Tensor  # (N,) int64, index into the model's list of elements
    sender: Tensor  # (E,) int64, the neighbour j
    receiver: Tensor  # (E,) int64, the centre i, ascending
    shift: Tensor  # (E, 3) float64, whole numbers of lattice vectors added to the neighbour's position
    cell: Tensor  # (B, 3, 3) float64, rows are lattice vectors, Å; zeros where there is none
    pbc: Tensor  # (B, 3) bool
    structure: Tensor  # (N,) int64, the structure of each atom, ascending
    receiver_start: Tensor  # (N + 1,) int64
    by_sender: Tensor  # (E,) int64
    sender_start: Tensor  # (N + 1,) int64
    pair: Tensor  # (E,) int64
    pair_edges: Tensor  # (P, 2) int64

    @property
    def n_atoms(self) -> int:
        return self.positions.shape[0]

    @property
    def n_edges(self) -> int:
        return self.sender.shape[0]

    @property
    def n_structures(self) -> int:
        return self.cell.shape[0]


class Labels(NamedTuple):
    """Reference values of a batch; what a frame lacks is zero here and has weight zero in its mask."""

    energy: Tensor  # (B,) float64, eV
    forces: Tensor  # (N, 3) float64, eV/Å
    stress: Tensor  # (B, 3, 3) float64, eV/Å³
    has_energy: Tensor  # (B,) bool
    has_forces: Tensor  # (B,) bool
    has_stress: Tensor  # (B,) bool
    weight: Tensor  # (B,) float64, weight of each structure in the loss


def make_graph(
    positions: Tensor, species: Tensor, sender: Tensor, receiver: Tensor, shift: Tensor, cell: Tensor, pbc: Tensor, structure: Tensor
) -> Graph:
    """A graph from unsorted edges: sorts them by receiver (then sender, then shift) and builds both orders.

    Shapes as in `Graph`; `cell` (B, 3, 3), `pbc` (B, 3). The order is a function of the edges alone, so results are reproducible.
    """
    n_atoms = positions.shape[0]
    order = _lexicographic_order(receiver, sender, shift)
    sender, receiver, shift = sender[order].contiguous(), receiver[order].contiguous(), shift[order].contiguous()
    by_sender = torch.argsort(sender, stable=True)
    pair, pair_edges = _pairs(sender, receiver, shift, n_atoms)
    return Graph(
        positions=positions,
        species=species,
        sender=sender,
        receiver=receiver,
        shift=shift,
        cell=cell,
        pbc=pbc,
        structure=structure,
        receiver_start=_starts(receiver, n_atoms),
        by_sender=by_sender,
        sender_start=_starts(sender, n_atoms),
        pair=pair,
        pair_edges=pair_edges,
    )


def concatenate(graphs: list[Graph]) -> Graph:
    """One batch from several graphs; both edge orders are joined, not sorted anew."""
    n_atoms = torch.tensor([0] + [g.n_atoms for g in graphs]).cumsum(0).tolist()
    n_edges = torch.tensor([0] + [g.n_edges for g in graphs]).cumsum(0).tolist()
    n_pairs = torch.tensor([0] + [g.pair_edges.shape[0] for g in graphs]).cumsum(0).tolist()
    n_structures = torch.tensor([0] + [g.n_structures for g in graphs]).cumsum(0).tolist()

    def join(field: str, offsets: list[int] | None = None, drop_last: bool = False) -> Tensor:
        parts = [getattr(g, field) for g in graphs]
        if drop_last:
            parts = [p[:-1] for p in parts[:-1]] + [parts[-1]]
        if offsets is not None:
            parts = [p + o for p, o in zip(parts, offsets, strict=False)]
        return torch.cat(parts)

    return Graph(
        positions=join("positions"),
        species=join("species"),
        sender=join("sender", n_atoms),
        receiver=join("receiver", n_atoms),
        shift=join("shift"),
        cell=join("cell"),
        pbc=join("pbc"),
        structure=join("structure", n_structures),
        receiver_start=join("receiver_start", n_edges, drop_last=True),
        by_sender=join("by_sender", n_edges),
        sender_start=join("sender_start", n_edges, drop_last=True),
        pair=join("pair", n_pairs),
        pair_edges=join("pair_edges", n_edges),
    )


def batch_in_words(graph: Graph, sources: Sequence[str]) -> str:
    """The size of a batch, and which of its structures has most edges, for a message; `sources` says where each comes from."""
    edges = torch.bincount(graph.structure.cpu()[graph.receiver.cpu()], minlength=graph.n_structures)
    most = int(edges.argmax())
    size = f"{graph.n_atoms} atoms and {graph.n_edges} edges"
    if graph.n_structures == 1:
        return f"{sources[0]} with {size}"
    return f"a batch of {graph.n_structures} structures with {size}, most of them ({edges[most]}) in {sources[most]}"


def to_device(graph: Graph, device: torch.device | str) -> Graph:
    """The same graph on another device."""
    return Graph(*(t.to(device) for t in graph))


def _starts(index: Tensor, n: int) -> Tensor:
    counts = torch.bincount(index, minlength=n)
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)])


def _pairs(sender: Tensor, receiver: Tensor, shift: Tensor, n_atoms: int) -> tuple[Tensor, Tensor]:
    """The pair of every edge (E,) and the edges of every pair (P, 2): (j → i, S) and (i → j, −S) are one pair."""
    n_edges = sender.shape[0]
    whole = shift.long()
    first_sign = whole[:, 0].sign() * 4 + whole[:, 1].sign() * 2 + whole[:, 2].sign()
    swap = (sender < receiver) | ((sender == receiver) & (first_sign < 0))
    low, high = torch.where(swap, sender, receiver), torch.where(swap, receiver, sender)
    whole = torch.where(swap.unsqueeze(1), -whole, whole)
    reach = int(whole.abs().max()) if n_edges else 0
    width = 2 * reach + 1
    key = low * n_atoms + high
    for axis in range(3):
        key = key * width + whole[:, axis] + reach
    pair = torch.unique(key, return_inverse=True)[1]
    n_pairs = int(pair.max()) + 1 if n_edges else 0
    edges = torch.arange(n_edges, device=sender.device)
    empty = edges.new_zeros(n_pairs)
    first = empty.scatter_reduce(0, pair, edges, "amin", include_self=False)
    last = empty.scatter_reduce(0, pair, edges, "amax", include_self=False)
    # numbered by their first edges: rows of pairs are met in order, and pair[e] is e where no edge has a partner
    order = torch.argsort(first)
    return torch.argsort(order)[pair], torch.stack([first, last], dim=1)[order]


def _lexicographic_order(receiver: Tensor, sender: Tensor, shift: Tensor) -> Tensor:
    order = torch.arange(receiver.shape[0], device=receiver.device)
    for key in (shift[:, 2], shift[:, 1], shift[:, 0], sender, receiver):
        order = order[torch.argsort(key[order], stable=True)]
    return order
