"""The few sizes that batches are padded to: a CUDA graph is of one size."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from equipot.data.graph import Graph

QUANTILES = (0.5, 0.9, 0.99)
"""Of random batches: each is a size, beside the largest batch that there can be."""
NEAR = 0.9
"""A size with more than this part of the atoms and edges of the next larger one is left out."""
_DRAWS = 300


class Sizes(NamedTuple):
    """Structures, atoms, edges and pairs of a batch, or of what it is padded to."""

    structures: int
    atoms: int
    edges: int
    pairs: int

    def holds(self, other: "Sizes") -> bool:
        """Whether a batch of these sizes fits, with an atom and a structure left over for the padding."""
        return self.structures > other.structures and self.atoms > other.atoms and self.edges >= other.edges and self.pairs >= other.pairs


def sizes_of(graph: Graph) -> Sizes:
    """The sizes of one graph or batch."""
    return Sizes(graph.n_structures, graph.n_atoms, graph.n_edges, graph.pair_edges.shape[0])


class Buckets:
    """Sizes for batches of `batch_size` out of the structures `each`, smallest first: quantiles of random batches, and the largest possible.

    Where all edges of all structures come in pairs, so does the padding; else there are more pairs than edges, so that neither is taken for
    the other.
    """

    def __init__(self, each: Sequence[Sizes], batch_size: int):
        self.each, self.batch_size = list(each), min(batch_size, len(each))
        table = np.array(self.each)[:, 1:3]
        draws = np.random.default_rng(0).integers(len(table), size=(_DRAWS, self.batch_size))
        found = {tuple(np.quantile(table[draws].sum(1), q, axis=0, method="higher").tolist()) for q in QUANTILES}
        kept = [tuple(np.sort(table, axis=0)[-self.batch_size :].sum(0).tolist())]
        for atoms, edges in sorted(found, reverse=True):
            if atoms < NEAR * kept[-1][0] or edges < NEAR * kept[-1][1]:
                kept.append((atoms, edges))
        both = all(s.edges == 2 * s.pairs for s in self.each)
        self.sizes = sorted(self._padded(atoms, edges, both) for atoms, edges in kept)

    def _padded(self, atoms: int, edges: int, both: bool) -> Sizes:
        edges += edges % 2
        return Sizes(self.batch_size + 1, atoms + 1, edges, edges // 2 if both else edges + 1)

    def of(self, places: Sequence[int]) -> Sizes:
        """The smallest that holds the batch of these structures."""
        batch = Sizes(*np.array([self.each[i] for i in places]).sum(0).tolist())
        return next(s for s in self.sizes if s.holds(batch))
