"""Where the time of an update goes: `equipot train --profile`."""

import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from equipot.errors import UserError
from equipot.ops import native
from equipot.train.config import RunConfig
from equipot.train.datamodule import Batches
from equipot.train.module import TrainingModule
from equipot.train.setup import make_potential, prepare
from equipot.train.steady import steady_memory

# What the name of a function of the C++ library begins with.
PARTS = {
    "convolution": "edge convolution",
    "linear": "linear maps of features",
    "product": "products of the density",
    "gate": "gates",
    "perceptron": "perceptrons",
    "harmonics": "harmonics and radial functions",
    "bessel": "harmonics and radial functions",
}
OPTIMISER = "optimiser, clipping and average"
REST = "torch's operations, and torch and Python between all"


class Profile(NamedTuple):
    """Median times of an update and of putting its batch together, and the means of the update's parts, all in ms."""

    update_ms: float
    batch_ms: float
    parts: dict[str, float]
    backend: str


def profile_updates(config: RunConfig, n: int = 20) -> Profile:
    """Time n updates of a fresh model on the training data, then n more with a clock in each part; nothing is written. Raises UserError as a training would.

    The parts are clocked where they are called, not traced: a trace keeps so much between the arrays of an update that they must be paged in anew,
    which made convolutions appear five times as long as they are. The clocks stop for C++ operations and the optimiser; the rest is what is left.
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
        with _clocks(module) as spent:
            begin = time.perf_counter()
            _updates(module, batches, n)
            spent[REST] = time.perf_counter() - begin - n * batch_ms / 1e3 - sum(spent.values())
    parts = {part: 1e3 * seconds / n for part, seconds in spent.most_common() if seconds > 0}
    return Profile(update_ms, batch_ms, parts, module.potential.ops.name)


@contextmanager
def _clocks(module: TrainingModule) -> Iterator[Counter[str]]:
    """The seconds that functions of the C++ library, by part, and the optimiser take while the block lasts."""
    spent: Counter[str] = Counter()

    def clocked(part: str, function: Callable) -> Callable:
        def run(*args: Any) -> Any:
            begin = time.perf_counter()
            result = function(*args)
            spent[part] += time.perf_counter() - begin
            return result

        return run

    find, step, update, clip = native.function, module.optimizer.step, module.average.update, module.clip
    native.function = lambda name, suffix: clocked(PARTS[name.split("_")[0]], find(name, suffix))
    module.optimizer.step, module.average.update, module.clip = (clocked(OPTIMISER, f) for f in (step, update, clip))
    try:
        yield spent
    finally:
        native.function = find
        module.optimizer.step, module.average.update, module.clip = step, update, clip


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
