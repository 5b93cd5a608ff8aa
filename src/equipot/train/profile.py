"""Where the time of an update goes: `equipot train --profile`."""

import statistics
import time
from collections import Counter
from typing import NamedTuple

from torch.profiler import ProfilerActivity, profile

from equipot.errors import UserError
from equipot.train.config import RunConfig
from equipot.train.datamodule import Batches
from equipot.train.module import TrainingModule
from equipot.train.setup import make_potential, prepare
from equipot.train.steady import steady_memory

# What an operation's name begins with; the first that fits. What is left are small operations of torch, and its and Python's own work between them.
PARTS = {
    "edge convolution": ("_Convolution", "equipot::edge_convolution"),
    "linear maps of features": ("_Linear", "_Transposed", "_Weights", "equipot::irreps_linear"),
    "products of the density": ("_Product", "equipot::symmetric_product"),
    "gates": ("_Gate", "equipot::gate"),
    "perceptrons": ("_Perceptron",),
    "matrix products": ("aten::mm", "aten::addmm", "aten::bmm", "aten::matmul"),
    "optimiser and average": ("aten::_fused_adam", "aten::_foreach", "Optimizer."),
    "activations": ("aten::silu", "aten::sigmoid", "aten::tanh"),
}
REST = "other operations and the work between them"


class Profile(NamedTuple):
    """Median times of an update in ms, and the share of each part of `update_ms`."""

    update_ms: float
    batch_ms: float
    shares: dict[str, float]
    n_operations: float


def profile_updates(config: RunConfig, n: int = 20) -> Profile:
    """Time n updates of a fresh model on the training data, then trace n more; nothing is written. Raises UserError as a training would.

    Times are those of the first n. The shares are those of the traced ones, in which every small operation costs more: REST is an upper bound.
    """
    if config.train.fit != "gradient":
        raise UserError(f"train.fit is {config.train.fit}, which makes no updates to profile: leave --profile out")
    prepared = prepare(config)
    batches = Batches(prepared.train, config.train.batch_size, config.train.seed)
    module = TrainingModule(make_potential(prepared.spec, config), config, batches.n_batches)
    module.clock.start()
    with steady_memory():
        _updates(module, batches, 5)
        batch_ms, update_ms = _updates(module, batches, n)
        with profile(activities=[ProfilerActivity.CPU]) as trace:
            _updates(module, batches, n)
    events = [(event.key, event.self_cpu_time_total, event.count) for event in trace.key_averages()]
    spent: Counter[str] = Counter()
    for name, microseconds, _ in events:
        spent[next((part for part, names in PARTS.items() if name.startswith(names)), REST)] += microseconds
    total = sum(spent.values())
    return Profile(update_ms, batch_ms, {part: t / total for part, t in spent.most_common() if t}, sum(count for *_, count in events) / n)


def _updates(module: TrainingModule, batches: Batches, n: int) -> tuple[float, float]:
    """Median ms to put a batch together and to make an update."""
    times: list[tuple[float, float]] = []
    while len(times) < n:
        begin = time.perf_counter()
        for batch in batches.iterate(len(times)):
            ready = time.perf_counter()
            module.training_step(batch, 0)
            end = time.perf_counter()
            times.append((1e3 * (ready - begin), 1e3 * (end - ready)))
            begin = end
            if len(times) == n:
                break
    return statistics.median(t for t, _ in times), statistics.median(t for _, t in times)
