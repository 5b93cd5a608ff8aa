"""The Lightning data module: batches of prebuilt graphs in an order that is a function of seed and epoch."""

from collections.abc import Iterator
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch

from equipot.data.dataset import DataSet, collate_indexed
from equipot.data.graph import Graph, Labels
from equipot.train.module import Batch, TrainingModule


class Batches:
    """The batches of a data set, in order or, with a `seed`, shuffled anew in every epoch.

    The order is a function of seed and epoch, so a run continued at `position` sees what it would have seen.
    """

    def __init__(self, dataset: DataSet, batch_size: int, seed: int | None = None):
        self.dataset, self.batch_size, self.seed = dataset, batch_size, seed

    @property
    def n_batches(self) -> int:
        return -(-len(self.dataset) // self.batch_size)

    def order(self, epoch: int) -> list[int]:
        """Places of the data set in the order in which this epoch visits them."""
        n = len(self.dataset)
        return list(range(n)) if self.seed is None else np.random.default_rng([self.seed, epoch]).permutation(n).tolist()

    def iterate(self, epoch: int = 0, position: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from `position` on."""
        for places in self.places(epoch, position):
            yield collate_indexed([self.dataset[i] for i in places])

    def places(self, epoch: int = 0, position: int = 0) -> Iterator[list[int]]:
        """The places of the structures of these batches."""
        order = self.order(epoch)
        for start in range(position * self.batch_size, len(order), self.batch_size):
            yield order[start : start + self.batch_size]


class _Epochs:
    """What Lightning iterates over: the rest of the epoch that the module is in. It has no length, as that changes when a run is resumed."""

    def __init__(self, batches: Batches, module: TrainingModule):
        self.batches, self.module = batches, module

    def __iter__(self) -> Iterator[Batch | list[int]]:
        choose = self.batches.iterate if self.module.captured is None else self.batches.places
        return choose(self.module.epoch, self.module.position)


class _InOrder:
    """All batches, in order."""

    def __init__(self, batches: Batches):
        self.batches = batches

    def __len__(self) -> int:
        return self.batches.n_batches

    def __iter__(self) -> Iterator[Batch]:
        return self.batches.iterate()


class TrainingData(pl.LightningDataModule):
    """Training and validation batches."""

    def __init__(self, train: Batches, validation: Batches | None, module: TrainingModule):
        super().__init__()
        self.train_batches, self.validation_batches, self.module = train, validation, module

    def train_dataloader(self) -> _Epochs:
        return _Epochs(self.train_batches, self.module)

    def val_dataloader(self) -> Any:
        return _InOrder(self.validation_batches) if self.validation_batches else []

    def transfer_batch_to_device(self, batch: Batch | list[int], device: torch.device, dataloader_idx: int) -> Batch | list[int]:
        if device.type == "cpu" or isinstance(batch, list):
            return batch
        graph, labels, places = batch
        move = {"device": device, "non_blocking": True}
        return Graph(*(t.to(**move) for t in graph)), Labels(*(t.to(**move) for t in labels)), places


def with_stand_in_cells(dataset: DataSet) -> DataSet:
    """The same graphs, where a molecule or slab has a full cell of volume 1 Å³ or more, so that it may share a batch with crystals under stress.

    Only the vectors along directions without periodicity are replaced, along which no edge is shifted: energy and forces are the same, and the
    stress of such a structure, which means nothing, has no label.
    """
    changed = dataset.subset(range(len(dataset)))
    for i, (graph, labels) in enumerate(zip(changed.graphs, changed.labels, strict=True)):
        if not bool(graph.pbc.all()) and not bool(labels.has_stress.any()):
            changed.graphs[i] = graph._replace(cell=_completed(graph), pbc=torch.ones_like(graph.pbc))
    return changed


def _completed(graph: Graph) -> torch.Tensor:
    cell, periodic = graph.cell[0].clone(), graph.pbc[0]
    used = cell[periodic]
    normal = torch.linalg.svd(used)[2][len(used) :] if len(used) else torch.eye(3, dtype=cell.dtype)
    cell[~periodic] = normal
    return cell[None]
