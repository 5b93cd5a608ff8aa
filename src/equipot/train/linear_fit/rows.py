"""Structures as weighted rows of a least-squares problem: the loss of `train.loss` written as |X c − y|²."""

import logging
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from equipot.data.dataset import DataSet
from equipot.model.linear import VOIGT, LinearModel
from equipot.train.loss import Weights

log = logging.getLogger("equipot.train")
CHUNK_BYTES = 2**27
_VOIGT_COUNT = np.array([1.0, 1.0, 1.0, 2.0, 2.0, 2.0])  # how often a component stands in the 3×3 tensor
_SECONDS = 10.0


@dataclass(frozen=True)
class Chunk:
    """Rows of some structures. Row k enters the loss as weight[k] (X[k] c − y[k])²; all weights of a data set belong together."""

    x: np.ndarray  # (rows, P)
    y: np.ndarray  # (rows,) label less the base of the model: eV per atom, eV/Å, eV/Å³
    weight: np.ndarray  # (rows,)
    kind: np.ndarray  # (rows,) 0 energy, 1 force component, 2 stress component
    atoms: np.ndarray  # (rows,) atoms of the structure
    times: np.ndarray  # (rows,) how many labels the row stands for: 2 for the stress components off the diagonal

    def weighted(self) -> tuple[np.ndarray, np.ndarray]:
        """√w X and √w y, without the rows of weight zero."""
        used = self.weight > 0
        root = np.sqrt(self.weight[used])
        return self.x[used] * root[:, None], self.y[used] * root


def n_rows(dataset: DataSet, weights: Weights) -> int:
    """How many rows `chunks` gives."""
    total = 0
    for graph, labels in zip(dataset.graphs, dataset.labels, strict=True):
        energy, forces, stress = _present(labels, weights)
        total += energy + 3 * graph.n_atoms * forces + 6 * stress
    return total


def chunks(model: LinearModel, dataset: DataSet, weights: Weights, what: str, columns: np.ndarray | None = None) -> Iterator[Chunk]:
    """The rows of a data set, some structures at a time so that a chunk takes little memory, with the progress shown; all `columns` or those given.

    The weights are those of L = w_E ⟨ω (ΔE/N)²⟩ + w_F ⟨ω ΔF²⟩ + w_σ ⟨ω Δσ²⟩ over the whole set: w_q ω / n_q, n_q labels of the kind.
    """
    counts = _counts(dataset, weights)
    parts: list[Chunk] = []
    size = 0
    for graph, labels in _shown(list(zip(dataset.graphs, dataset.labels, strict=True)), what):
        part = _structure(model, graph, labels, weights, counts)
        if columns is not None:
            part = replace(part, x=part.x[:, columns])
        parts.append(part)
        size += part.x.nbytes
        if size >= CHUNK_BYTES:
            yield _joined(parts)
            parts, size = [], 0
    if parts:
        yield _joined(parts)


def _present(labels, weights: Weights) -> tuple[bool, bool, bool]:
    """Which labels of a structure become rows: energy always, to be measured; forces and stress where they have a weight."""
    return bool(labels.has_energy), bool(labels.has_forces) and weights.forces > 0, bool(labels.has_stress) and weights.stress > 0


def _counts(dataset: DataSet, weights: Weights) -> tuple[int, int, int]:
    present = [(g.n_atoms, *_present(labels, weights)) for g, labels in zip(dataset.graphs, dataset.labels, strict=True)]
    return sum(e for _, e, _, _ in present), sum(3 * n for n, _, f, _ in present if f), sum(9 * s for _, _, _, s in present)


def _structure(model: LinearModel, graph, labels, weights: Weights, counts: tuple[int, int, int]) -> Chunk:
    energy, forces, stress = _present(labels, weights)
    base = model.base(graph, stress)
    rows = model.rows(graph, forces, stress)
    n, omega = graph.n_atoms, float(labels.weight)
    x, y, weight, kind, times = [], [], [], [], []

    def add(number: int, part: np.ndarray, target: np.ndarray, w: np.ndarray | float, count: np.ndarray | float = 1.0) -> None:
        x.append(part)
        y.append(target)
        weight.append(np.broadcast_to(w, target.shape))
        kind.append(np.full(target.shape, number))
        times.append(np.broadcast_to(count, target.shape))

    if energy:
        add(0, rows.energy[None] / n, ((labels.energy - base.energy).numpy()) / n, weights.energy * omega / counts[0])
    if forces:
        add(1, rows.forces, (labels.forces - base.forces).numpy().reshape(-1), weights.forces * omega / counts[1])
    if stress:
        target = (labels.stress - base.stress).numpy()[0]
        add(2, rows.stress, np.array([target[a] for a in VOIGT]), weights.stress * omega / counts[2] * _VOIGT_COUNT, _VOIGT_COUNT)
    if not x:
        return Chunk(np.zeros((0, model.n_columns)), *(np.zeros(0) for _ in range(5)))
    joined = [np.concatenate(part) for part in (x, y, weight, kind)]
    return Chunk(*joined, np.full(len(joined[1]), float(n)), np.concatenate(times))


def _joined(parts: list[Chunk]) -> Chunk:
    return Chunk(*(np.concatenate([getattr(part, name) for part in parts]) for name in Chunk.__dataclass_fields__))


def signal(model: LinearModel, dataset: DataSet, weights: Weights, n: int) -> np.ndarray:
    """Σ w X² of every column over n structures spread over the data set, (P,)."""
    sample = dataset.subset(np.unique(np.linspace(0, len(dataset) - 1, min(n, len(dataset))).astype(int)))
    return sum((chunk.weight @ chunk.x**2 for chunk in chunks(model, sample, weights, "choosing columns")), np.zeros(model.n_columns))


def measures(chunks: list[tuple[Chunk, np.ndarray]]) -> dict[str, float]:
    """Loss and errors from chunks and their predictions X c, in the names of `train.loss.ErrorSums`; eV, eV/Å, eV/Å³."""
    loss, sums = 0.0, {}
    for chunk, predicted in chunks:
        error = predicted - chunk.y
        loss += float(chunk.weight @ error**2)
        for number, names in enumerate((("energy_per_atom", "energy"), ("forces",), ("stress",))):
            mine = chunk.kind == number
            for name in names:
                e = error[mine] * (chunk.atoms[mine] if name == "energy" else 1.0)
                t = chunk.times[mine]
                sums[name] = sums.get(name, np.zeros(3)) + [t @ np.abs(e), t @ e**2, t.sum()]
    found = {"loss": loss}
    for name, (absolute, square, n) in sums.items():
        if n:
            found |= {f"{name}_mae": absolute / n, f"{name}_rmse": math.sqrt(square / n)}
    return found


def _shown(items: list, what: str) -> Iterator:
    """The items, with a bar on a terminal and a line now and then elsewhere."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import track

        yield from track(items, description=what, console=Console(stderr=True), transient=True)
        return
    shown = time.monotonic()
    for i, item in enumerate(items):
        yield item
        if (now := time.monotonic()) - shown >= _SECONDS:
            shown = now
            log.info("%s: %d of %d structures", what, i + 1, len(items))
