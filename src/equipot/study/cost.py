"""What a run has cost, and whether it was done with its training."""

import csv
import math
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from equipot.data.dataset import frame_graph
from equipot.data.frame import Frame
from equipot.data.graph import concatenate, to_device
from equipot.model import Potential, predict
from equipot.train.callbacks import METRICS
from equipot.train.config import RunConfig

ANNEALED = 0.05  # of the learning rate
LAST_PART, SETTLED = 0.1, 0.02
_COLUMNS = {"energy": "meV", "forces": "meV_A", "stress": "meV_A3"}


def training_cost(folder: Path, config: RunConfig) -> dict[str, float]:
    """train_seconds, updates (of a training by gradient) and, where it can be told, converged, from the metrics of a run."""
    rows = read_metrics(folder)
    if not rows:
        return {}
    cost = {"train_seconds": rows[-1]["elapsed_s"]}
    if config.train.fit == "gradient":
        cost["updates"] = rows[-1]["updates"]
    settled = converged(rows, config)
    return cost if settled is None else cost | {"converged": float(settled)}


def read_metrics(folder: Path) -> list[dict[str, float]]:
    """The rows of metrics.csv as numbers; what is empty is left out."""
    if not (folder / METRICS).is_file():
        return []
    with open(folder / METRICS, newline="") as file:
        rows = [{k: float(v) for k, v in row.items() if k and v} for row in csv.DictReader(file) if None not in row.values()]
    return [row for row in rows if "updates" in row and "elapsed_s" in row]


def converged(rows: Sequence[dict[str, float]], config: RunConfig) -> bool | None:
    """Whether a run had settled when it ended; None without validation data.

    A cosine schedule has come down to 5 % of the learning rate or less (another schedule need not), and the best validation error, a root mean
    square where it is one of squares, became less than 2 % better in the last tenth of the updates. An annealed run settles: that it has says
    that its budget was used up in order, not that a larger budget would be of no use.
    """
    if config.train.fit == "least-squares":
        return True
    column = validation_column(config)
    measured = [(row["updates"], row[column]) for row in rows if column in row]
    if not measured:
        return None
    last = rows[-1]["updates"]
    rate = next((row["learning_rate"] for row in reversed(rows) if "learning_rate" in row), 0.0)
    if config.train.scheduler == "cosine" and rate > ANNEALED * config.train.learning_rate:
        return False
    before = [error for updates, error in measured if updates <= (1.0 - LAST_PART) * last]
    if not before:
        return False
    power = 0.5 if column == "valid_loss" and config.loss.kind == "mse" else 1.0
    best = min(error for _, error in measured)
    return 1.0 - (best / min(before)) ** power < SETTLED if min(before) > 0.0 else True


def validation_column(config: RunConfig) -> str:
    """The column of metrics.csv that decides what is best."""
    measure = config.train.measure
    if measure == "loss":
        return "valid_loss"
    quantity = measure.rpartition("_")[0]
    if quantity == "energy":  # metrics.csv has it per atom
        return measure.replace("energy", "valid_energy_per_atom") + "_meV"
    return f"valid_{measure}_{_COLUMNS[quantity.removesuffix('_per_atom')]}"


def inference_time(potential: Potential, frames: Sequence[Frame], seconds: float = 0.5) -> float:
    """Microseconds per atom for energy and forces of a batch of up to 16 frames, the median of repetitions over about `seconds`."""
    chosen = list(frames[:16])
    elements = list(potential.spec.elements)
    graph = to_device(concatenate([frame_graph(f, elements, potential.spec.cutoff) for f in chosen]), potential.e0.device)
    times: list[float] = []
    for _ in range(2):  # the first one sets things up
        predict(potential, graph, forces=True, stress=False).forces.detach().cpu()
    while len(times) < 3 or (sum(times) < seconds and len(times) < 1000):
        begin = time.perf_counter()
        predict(potential, graph, forces=True, stress=False).forces.detach().cpu()  # to the CPU: the device has then finished
        times.append(time.perf_counter() - begin)
    return 1e6 * statistics.median(times) / sum(f.n_atoms for f in chosen)


def n_parameters(potential: torch.nn.Module) -> int:
    """Numbers that are trained, of a potential that was not read from a file: those are frozen."""
    return sum(p.numel() for p in potential.parameters() if p.requires_grad)


def fraction_done(folder: Path, config: RunConfig) -> float:
    """The part of a run that metrics.csv says is done, by updates or time."""
    rows = read_metrics(folder)
    if not rows:
        return 0.0
    done = rows[-1]["updates"] / config.train.max_updates if config.train.max_updates else 0.0
    if config.train.max_seconds is not None:
        done = max(done, rows[-1]["elapsed_s"] / config.train.max_seconds)
    epochs = (rows[-1].get("epoch", 0.0) + 1.0) / config.train.max_epochs
    return min(1.0, max(done, epochs if math.isfinite(epochs) else 0.0))
