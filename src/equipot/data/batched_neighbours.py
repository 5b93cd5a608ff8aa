"""The graph of many moving systems at once, kept on the device where their atoms are."""

import itertools

import torch
from torch import Tensor

from equipot.data.batched_search import Systems, batched_pairs, completed, squared_length
from equipot.data.graph import Graph, concatenate, make_graph, to_device
from equipot.data.neighbours import neighbour_graph
from equipot.data.pair_search import MARGIN, check_skin
from equipot.errors import UserError

COMPARED = 5000  # atoms


class BatchedSkinList:
    """The graph of B systems from tensors on any device, searched anew when in one of them pairs beyond the skin may have come near.

    The edges of every graph are those of `neighbour_graph`, system by system. Pairs are kept to cutoff + skin; a system's are all there are
    while σ_min(F) (cutoff + skin) − 2 max|w| ≥ cutoff, with F and w as in `pair_search.still_valid`. Lattice vectors by which an atom was moved
    since the search (wrapping) are taken off its position in the graph. Of what is on the device only sizes and such decisions are read.
    `n_updates` counts the graphs given, `n_builds` the searches.
    """

    def __init__(self, cutoff: float, skin: float = 1.0, pair_cutoff: Tensor | None = None) -> None:
        self.cutoff, self.skin, self.pair_cutoff = float(cutoff), check_skin(skin), pair_cutoff
        self.n_updates = self.n_builds = 0
        self._built: Systems | None = None
        self._wide: Graph | None = None

    def update(self, systems: Systems, species: Tensor) -> Graph:
        """The graph of these systems; species (N,) are indices. Raises UserError where positions or cells are not finite or a cell has no volume."""
        self.n_updates += 1
        now = self._unwrapped(systems, species)
        if now is None:
            _check(systems)
            now = self._built = systems
            self._wide = make_graph(systems.positions, species, *batched_pairs(systems, self.cutoff + self.skin), *systems[1:])
            self.n_builds += 1
        return self._filtered(now)

    def _unwrapped(self, systems: Systems, species: Tensor) -> Systems | None:
        """The systems with atoms as near to where they were at the search as lattice vectors allow; None if the list does not hold for them."""
        old, wide = self._built, self._wide
        if old is None or old.positions.shape != systems.positions.shape or old.cell.shape != systems.cell.shape:
            return None
        if not all(map(torch.equal, (*old[2:], wide.species), (*systems[2:], species))):
            return None
        before, stretch = old.positions, 1.0
        if not torch.equal(old.cell, systems.cell):
            if bool((torch.linalg.det(old.cell).abs() < 1e-6).any()):
                return None
            deformation = torch.linalg.solve(old.cell, systems.cell)
            stretch = torch.linalg.svdvals(deformation)[:, -1]
            before = (before[:, :, None] * deformation[old.structure]).sum(1)
        moved = systems.positions - before
        translation = _nearest_translation(moved, systems)
        moved = moved - translation
        n = torch.bincount(systems.structure, minlength=systems.cell.shape[0]).clamp(min=1)
        moved_as_one = torch.zeros_like(systems.cell[:, 0]).index_add_(0, systems.structure, moved) / n[:, None]
        squares = ((moved - moved_as_one[systems.structure]) ** 2).sum(1)
        furthest = squares.new_zeros(n.shape).scatter_reduce(0, systems.structure, squares, "amax").sqrt()
        holds = stretch * (self.cutoff + self.skin) - 2.0 * furthest >= self.cutoff
        return systems._replace(positions=systems.positions - translation) if bool(holds.all()) else None

    def _filtered(self, systems: Systems) -> Graph:
        """The kept list cut to the cutoff; both edge orders are thinned, not sorted anew."""
        wide = self._wide
        keep = self._inside(systems, wide)
        rank = _rank(keep)
        kept_by_sender = keep[wide.by_sender]
        both = keep[wide.pair_edges]
        kept = both.any(1)
        edges = torch.where(both, wide.pair_edges, wide.pair_edges.flip(1))[kept]
        order = torch.argsort(edges[:, 0])  # pairs are numbered by their first edges, and some may have lost theirs
        place = torch.argsort(order)
        return wide._replace(
            positions=systems.positions,
            cell=systems.cell,
            sender=wide.sender[keep],
            receiver=wide.receiver[keep],
            shift=wide.shift[keep],
            receiver_start=rank[wide.receiver_start],
            by_sender=rank[wide.by_sender[kept_by_sender]],
            sender_start=_rank(kept_by_sender)[wide.sender_start],
            pair=place[_rank(kept)[wide.pair[keep]]],
            pair_edges=rank[edges[order]],
        )

    def _inside(self, systems: Systems, wide: Graph) -> Tensor:
        squared = squared_length(systems, wide.sender, wide.receiver, wide.shift)
        if self.pair_cutoff is None:
            return squared < self.cutoff**2
        return squared < self.pair_cutoff.to(squared)[wide.species[wide.receiver], wide.species[wide.sender]] ** 2


def agrees(graph: Graph, neighbours: BatchedSkinList) -> bool:
    """Whether the edges of a list's graph are those that the CPU's search of single structures finds; the first systems, up to some thousand atoms.

    Pairs within 1e-6 Å of their cutoff, which rounding decides about, are left out.
    """
    host = to_device(graph, "cpu")
    sizes = torch.bincount(host.structure, minlength=host.n_structures)
    n_systems = max(1, int((sizes.cumsum(0) <= COMPARED).sum()))
    pair_cutoff = None if neighbours.pair_cutoff is None else neighbours.pair_cutoff.cpu()
    atoms = zip(host.positions.split(sizes.tolist()), host.species.split(sizes.tolist()), host.cell, host.pbc, strict=True)
    single = [neighbour_graph(*each, neighbours.cutoff, pair_cutoff) for each in itertools.islice(atoms, n_systems)]
    return torch.equal(*(_certain(g, neighbours.cutoff, pair_cutoff, n_systems) for g in (host, concatenate(single))))


def _certain(graph: Graph, cutoff: float, pair_cutoff: Tensor | None, n_systems: int) -> Tensor:
    """Edges of the first systems that are clearly inside their cutoff: receiver, sender, shift (E, 5)."""
    length = squared_length(
        Systems(graph.positions, graph.cell, graph.pbc, graph.structure), graph.sender, graph.receiver, graph.shift
    ).sqrt()
    limit = cutoff if pair_cutoff is None else pair_cutoff[graph.species[graph.receiver], graph.species[graph.sender]]
    chosen = (length < limit - MARGIN) & (graph.structure[graph.receiver] < n_systems)
    return torch.cat([graph.receiver[chosen, None], graph.sender[chosen, None], graph.shift[chosen].long()], 1)


def _rank(keep: Tensor) -> Tensor:
    """How many are kept before each place, and in all."""
    return torch.cat([keep.new_zeros(1, dtype=torch.int64), keep.cumsum(0)])


def _nearest_translation(moved: Tensor, systems: Systems) -> Tensor:
    """The lattice vector (N, 3) that is nearest, in each coordinate along the cell, to each of these vectors."""
    inverse = torch.linalg.inv_ex(completed(systems.cell, systems.pbc))[0]
    whole = (moved[:, :, None] * inverse[systems.structure]).sum(1).round() * systems.pbc[systems.structure]
    return (whole[:, :, None] * systems.cell[systems.structure]).sum(1)


def _check(systems: Systems) -> None:
    finite = systems.positions.isfinite().all(1)
    if not bool(finite.all() & systems.cell.isfinite().all()):
        wrong = int(systems.structure[~finite][0]) if not bool(finite.all()) else int((~systems.cell.isfinite().all((1, 2))).nonzero()[0])
        raise UserError(f"system {wrong}: positions or cell are NaN or infinite: the structure is damaged, or a simulation has blown up")
    cells = completed(systems.cell, systems.pbc)
    flat = torch.linalg.det(cells).abs() <= 1e-12 * cells.norm(dim=2).prod(1)
    if bool(flat.any()):
        raise UserError(
            f"system {int(flat.nonzero()[0])}: is periodic, but its cell has no independent vector for each such direction: give the cell or drop pbc"
        )
