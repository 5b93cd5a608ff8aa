"""Frames as graphs and labels, built once, and their batches."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from equipot.data.frame import Frame, species_index
from equipot.data.graph import Graph, Labels, concatenate
from equipot.data.neighbours import neighbour_graph


class Sample(NamedTuple):
    """One structure of a data set: its graph, its labels (B = 1) and its place in the data set."""

    graph: Graph
    labels: Labels
    index: int


class DataSet(torch.utils.data.Dataset):
    """Frames with their graphs for a list of elements and a cutoff (Å), all built at once; item i is a `Sample`.

    `progress` may wrap the loop over frames (as tqdm or rich's track do). Raises UserError for a frame with an element that is not in
    `elements`, naming it.
    """

    def __init__(
        self,
        frames: Sequence[Frame],
        elements: list[str] | list[int],
        cutoff: float,
        pair_cutoff: Tensor | None = None,
        progress: Callable[[Sequence[Frame]], Iterable[Frame]] | None = None,
    ) -> None:
        self.frames = list(frames)
        self.elements = list(elements)
        self.cutoff = float(cutoff)
        self.graphs = [frame_graph(f, self.elements, cutoff, pair_cutoff) for f in (progress(self.frames) if progress else self.frames)]
        self.labels = [frame_labels(f) for f in self.frames]

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> Sample:
        index = range(len(self))[index]
        return Sample(self.graphs[index], self.labels[index], index)

    def subset(self, indices: Iterable[int]) -> "DataSet":
        """The same graphs, not built again, of some frames."""
        chosen = [int(i) for i in indices]
        other = object.__new__(DataSet)
        other.elements, other.cutoff = self.elements, self.cutoff
        other.frames, other.graphs, other.labels = ([part[i] for i in chosen] for part in (self.frames, self.graphs, self.labels))
        return other


def frame_graph(frame: Frame, elements: list[str] | list[int], cutoff: float, pair_cutoff: Tensor | None = None) -> Graph:
    """The graph of one frame; raises UserError naming the frame where an element is unknown or a periodic direction has no vector."""
    species = species_index(frame.numbers, elements, frame.source or "structure")
    return neighbour_graph(frame.positions, species, frame.cell, frame.pbc, cutoff, pair_cutoff)


def frame_labels(frame: Frame) -> Labels:
    """The labels of one frame (B = 1); what it lacks is zero with a mask that says so."""
    forces = np.zeros((frame.n_atoms, 3)) if frame.forces is None else frame.forces
    stress = np.zeros((3, 3)) if frame.stress is None else frame.stress
    return Labels(
        energy=torch.tensor([frame.energy if frame.energy is not None else 0.0], dtype=torch.float64),
        forces=torch.tensor(forces, dtype=torch.float64),
        stress=torch.tensor(stress, dtype=torch.float64)[None],
        has_energy=torch.tensor([frame.energy is not None]),
        has_forces=torch.tensor([frame.forces is not None]),
        has_stress=torch.tensor([frame.stress is not None]),
        weight=torch.tensor([frame.weight], dtype=torch.float64),
    )


def collate(samples: Sequence[Sample]) -> tuple[Graph, Labels]:
    """One batch of several samples."""
    graph = concatenate([s.graph for s in samples])
    labels = Labels(*(torch.cat(parts) for parts in zip(*(s.labels for s in samples), strict=True)))
    return graph, labels


def collate_indexed(samples: Sequence[Sample]) -> tuple[Graph, Labels, Tensor]:
    """One batch and the (B,) places of its structures in the data set, by which a bad batch can be named."""
    return *collate(samples), torch.tensor([s.index for s in samples])
