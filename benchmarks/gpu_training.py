"""Trains NequIP, BOTNet and MACE on batches of the size of 3BPA's, update by update and captured, for `benchmarks/gpu.py`.

Five made-up molecules of 27 atoms of H, C, N and O a batch, up to 3,510 edges, with random labels: losses and weights of captured updates are compared
with those of ordinary ones from the same start, then both are timed, and ordinary ones on the reference operations. Times are of whole updates,
waiting for the device once at the end.
"""

import logging
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import ase.io
import numpy as np
import torch
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from equipot.train.config import RunConfig
from equipot.train.datamodule import Batches
from equipot.train.module import TrainingModule
from equipot.train.setup import Prepared, make_potential, prepare

MODELS = {
    "nequip": {"preset": "nequip", "cutoff": 5.0},
    "botnet": {"preset": "botnet", "cutoff": 5.0},
    "mace": {"preset": "mace", "cutoff": 5.0, "n_channels": 128, "l_features": 1},
}
ENOUGH = 1e-3
"""Largest relative difference of losses in float32: sums of forces are added in no fixed order on a GPU."""


@dataclass
class Training:
    """What was found of one model: ms per update and losses by way, and why a way is missing."""

    name: str
    ms: dict[str, float] = field(default_factory=dict)
    losses: dict[str, float] = field(default_factory=dict)
    difference: float = float("nan")
    notes: dict[str, str] = field(default_factory=dict)

    @property
    def agrees(self) -> bool:
        """Whether captured and ordinary updates have the same losses."""
        return self.difference <= ENOUGH


def molecules(n: int = 20) -> list[Atoms]:
    """27 atoms each, about 1.4 Å apart."""
    rng = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(*[np.arange(3)] * 3, indexing="ij"), -1).reshape(-1, 3)
    found = []
    for _ in range(n):
        atoms = Atoms("C9H12N3O3", positions=1.4 * grid + rng.normal(0, 0.1, (27, 3)))
        atoms.calc = SinglePointCalculator(atoms, energy=rng.normal(), forces=rng.normal(size=(27, 3)))
        found.append(atoms)
    return found


def configure(model: dict, backend: str, optimizer: str, device: str, file: Path) -> RunConfig:
    """A run on the molecules; nothing of it is written."""
    zero = dict.fromkeys(("H", "C", "N", "O"), 0.0)
    train = {"batch_size": 5, "backend": backend, "optimizer": optimizer, "device": device, "learning_rate": 1e-3}
    data = {"train": str(file), "validation": 0, "reference_energies": zero}
    return RunConfig.model_validate({"name": "gpu", "model": model, "data": data, "train": train, "out": str(file.parent / "run")})


def make(config: RunConfig, prepared: Prepared, capture: bool) -> tuple[TrainingModule, Batches]:
    """A module on its device."""
    batches = Batches(prepared.train, config.train.batch_size, 0)
    device = torch.device(config.train.device)
    module = TrainingModule(make_potential(prepared.spec, config, str(device)), config, batches.n_batches).to(device)
    module.average.to(device)
    module.clock.start()
    if capture:
        module.capture(prepared.train)
    return module, batches


def epochs(module: TrainingModule, batches: Batches, n: int) -> list[float]:
    """The mean loss of each."""
    found = []
    for _ in range(n):
        for batch in batches.places(module.epoch) if module.captured else batches.iterate(module.epoch):
            module.training_step(batch if module.captured else moved(batch, module.device), 0)
        found.append(module.finish_epoch()["train_loss"])
    return found


def moved(batch: tuple, device: torch.device) -> tuple:
    """A batch on the device, as Lightning brings it there."""
    graph, labels, places = batch
    return *(type(part)(*(t.to(device, non_blocking=True) for t in part)) for part in (graph, labels)), places


def run(
    name: str, device: str = "cuda", backend: str = "triton", optimizer: str = "adam", seconds: float = 9.0, model: dict | None = None
) -> Training:
    """One model: losses of 5 epochs of 4 updates compared, then at most `seconds` of timing."""
    result, losses = Training(f"{name}, {optimizer}"), {}
    handler = _Lines(result.notes)
    logging.getLogger("equipot").addHandler(handler)
    try:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "molecules.xyz"
            ase.io.write(file, molecules(), format="extxyz")
            for way, ops, capture in (("captured", backend, True), ("eager", backend, False), ("eager, reference", "reference", False)):
                try:
                    config = configure(model or MODELS[name], ops, optimizer, device, file)
                    module, batches = make(config, prepare(config), capture)
                    losses[way] = epochs(module, batches, 5)
                    result.losses[way] = losses[way][-1]
                    result.ms[way] = timed(module, batches, seconds / 3)
                except Exception as error:
                    result.notes[way] = f"{type(error).__name__}: {error}".splitlines()[0][:160]
    finally:
        logging.getLogger("equipot").removeHandler(handler)
    if {"captured", "eager"} <= set(losses):
        a, b = (np.array(losses[way]) for way in ("captured", "eager"))
        result.difference = float(np.max(np.abs(a - b) / np.abs(b)))
    return result


def timed(module: TrainingModule, batches: Batches, seconds: float) -> float:
    """ms per update, from one to another wait for the device."""
    begin, before = time.perf_counter(), module.updates
    while module.updates == before or (time.perf_counter() - begin < seconds and module.updates - before < 200):
        epochs(module, batches, 5)
    return 1e3 * (time.perf_counter() - begin) / (module.updates - before)


class _Lines(logging.Handler):
    """Warnings as notes: a capture that failed, an operation that fell back."""

    def __init__(self, notes: dict[str, str]):
        super().__init__(logging.WARNING)
        self.notes = notes

    def emit(self, record: logging.LogRecord) -> None:
        self.notes[f"log {len(self.notes)}"] = record.getMessage()


def markdown(results: list[Training]) -> list[str]:
    """A table, and the notes."""
    ways = ("captured", "eager", "eager, reference")
    lines = ["### training, 5 molecules of 27 atoms, float32", "", f"| model | {' | '.join(f'{w}, ms' for w in ways)} | losses differ by |"]
    lines.append("|---" * (len(ways) + 2) + "|")
    for r in results:
        cells = " | ".join(f"{r.ms[w]:.2f}" if w in r.ms else "–" for w in ways)
        lines.append(f"| {r.name} | {cells} | {r.difference:.1e}{'' if r.agrees else ' (too much)'} |")
    return [*lines, "", *(f"- {r.name}, {way}: {text}" for r in results for way, text in r.notes.items()), ""]
