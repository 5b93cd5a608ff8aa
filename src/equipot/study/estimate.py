"""What a study will take, from a few measured updates of every variant: `equipot study --dry-run`."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch

from equipot.data.graph import Labels, to_device
from equipot.study.cost import n_parameters
from equipot.study.plan import Plan, Run, run_config
from equipot.train.config import RunConfig
from equipot.train.datamodule import Batches
from equipot.train.module import Batch, TrainingModule
from equipot.train.progress import clock
from equipot.train.run import device_of
from equipot.train.setup import make_potential, prepare
from equipot.train.steady import steady_memory

WARM, MEASURED = 3, 10
STARTING = 5.0  # seconds for a process to import what it needs


class Measured(NamedTuple):
    """Of a variant with its largest size: what an update of so many structures, a validation and a run's beginning and end take, in s."""

    n_parameters: int
    structures: int
    update: float
    validation: float
    ends: float


class Estimate(NamedTuple):
    """Of one run; `seconds` None where it cannot be told."""

    run: Run
    n_parameters: int
    updates: int | None
    seconds: float | None


def estimates(out: Path, plan: Plan) -> Iterator[Estimate]:
    """Every run of a plan, each variant measured once with its largest size, with as many threads as its runs will have."""
    torch.set_num_threads(plan.executor.get("threads", 1))
    largest = {run.variant: run for run in sorted(plan.runs, key=lambda r: r.size)}
    measured = {variant: measure(run_config(out, plan, run)) for variant, run in largest.items()}
    for run in plan.runs:
        found = measured[run.variant]
        if found is None:
            yield Estimate(run, 0, None, None)
            continue
        config = run_config(out, plan, run)
        updates, seconds = training_time(config, run.size, found)
        yield Estimate(run, found.n_parameters, updates, STARTING + found.ends + seconds)


def training_time(config: RunConfig, size: int, found: Measured) -> tuple[int, float]:
    """Updates and seconds of a training on `size` structures: updates, and validations every so many epochs, or max_time."""
    train = config.train
    per_epoch = -(-size // train.batch_size)
    update = found.update * min(1.0, size / found.structures)
    epoch = per_epoch * update + found.validation / train.validate_every
    updates = train.max_epochs * per_epoch
    if train.max_updates is not None:
        updates = min(updates, train.max_updates)
    seconds = updates / per_epoch * epoch
    if train.max_seconds is not None and seconds > train.max_seconds:
        return int(train.max_seconds / epoch * per_epoch), train.max_seconds
    return updates, seconds


def measure(config: RunConfig) -> Measured | None:
    """A few updates and one validation batch of a fresh model; None for what makes no updates. Raises UserError as a training would."""
    begin = time.perf_counter()
    prepared = prepare(config)
    ends = time.perf_counter() - begin
    if config.train.fit != "gradient":
        return None
    batches = Batches(prepared.train, config.train.batch_size, config.train.seed)
    device = device_of(config)
    module = TrainingModule(make_potential(prepared.spec, config, device), config, batches.n_batches).to(device)
    module.average.to(module.device)
    module.clock.start()
    with steady_memory():
        _updates(module, batches, WARM)
        update = _updates(module, batches, MEASURED) / MEASURED
    per_structure = 0.0
    if prepared.validation:
        held = Batches(prepared.validation, config.train.valid_batch_size)
        module.on_validation_epoch_start()
        begin = time.perf_counter()
        batch = _there(next(held.iterate()), module)
        module.validation_step(batch, 0)
        per_structure = (time.perf_counter() - begin) / batch[0].n_structures
        module.on_validation_epoch_end()
    atoms = sum(f.n_atoms for f in prepared.train.frames) / len(prepared.train)
    tested = sum(f.n_atoms for frames in prepared.tests.values() for f in frames) / atoms
    structures = min(config.train.batch_size, len(prepared.train))
    per_structure = per_structure or update / structures / 3.0
    validation = per_structure * (len(prepared.validation) if prepared.validation else 0)
    return Measured(n_parameters(module.potential), structures, update, validation, ends + tested * per_structure)


def _updates(module: TrainingModule, batches: Batches, n: int) -> float:
    """Seconds of n updates, with their batches put together."""
    begin, done, epoch = time.perf_counter(), 0, 0
    while done < n:
        for batch in batches.iterate(epoch):
            module.training_step(_there(batch, module), 0)
            done += 1
            if done == n:
                break
        epoch += 1
    return time.perf_counter() - begin


def _there(batch: Batch, module: TrainingModule) -> Batch:
    """The batch on the device of the module."""
    graph, labels, places = batch
    return to_device(graph, module.device), Labels(*(part.to(module.device) for part in labels)), places


def in_words(seconds: float | None) -> str:
    """H:MM:SS, or that it is not known."""
    return "not known" if seconds is None else clock(seconds)
