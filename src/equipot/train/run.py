"""One training run, from a configuration to its folder."""

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

from equipot.errors import OutOfMemoryError, UserError, ran_out_of_memory
from equipot.model import Potential, load_model
from equipot.model.file import check_device, write_whole
from equipot.train.callbacks import (
    BAD_BATCH,
    BEST,
    LAST,
    METRICS,
    CatchInterrupt,
    Interrupted,
    RunFiles,
    Stop,
    TensorBoard,
    write_bad_batch,
)
from equipot.train.checkpoint import fingerprint, load_checkpoint
from equipot.train.config import RunConfig
from equipot.train.config_file import write_config
from equipot.train.datamodule import Batches, TrainingData
from equipot.train.evaluation import Evaluation, evaluate_frames
from equipot.train.linear_fit.run import fit as fit_least_squares
from equipot.train.metrics import MetricsFile
from equipot.train.module import NotFinite, TrainingModule
from equipot.train.out_of_memory import KeepState, in_words
from equipot.train.progress import EPOCHS, ShowProgress, clock
from equipot.train.setup import Prepared, make_potential, prepare
from equipot.train.steady import steady_memory
from equipot.train.uncertainty import add_uncertainty

log = logging.getLogger("equipot.train")


@dataclass(frozen=True)
class Result:
    """What a run leaves: its folder, the last row of metrics, and the errors on the test sets."""

    folder: Path
    row: dict[str, float]
    evaluations: dict[str, Evaluation]


def train(config: RunConfig, resume: bool = False, overwrite: bool = False, callbacks: list[pl.Callback] | None = None) -> Result:
    """Train as the configuration says, or go on where the run in its folder stopped.

    Raises UserError for mistakes (nothing is written then, but for a loss that is not finite: its batch is named in nan_batch.json) and
    Interrupted when asked to stop.
    """
    if config.train.ensemble > 1 and config.train.member is None:
        from equipot.train.ensemble import train_ensemble

        return train_ensemble(config, resume, overwrite, callbacks)
    free(Path(config.out), resume, overwrite)
    device = device_of(config)
    return train_prepared(config, prepare(config), device, resume, callbacks)


def train_prepared(
    config: RunConfig, prepared: Prepared, device: str, resume: bool = False, callbacks: list[pl.Callback] | None = None
) -> Result:
    """The training itself, of data that have been read and checked, into a folder that is free for it."""
    folder = Path(config.out)
    if config.train.threads is not None:
        torch.set_num_threads(config.train.threads)
    if config.train.fit == "least-squares":
        return _least_squares(config, prepared, folder, resume)
    module, data = build(config, prepared, device)
    mark = fingerprint(prepared, module)
    if resume:
        load_checkpoint(folder / LAST, module, mark)
    folder.mkdir(parents=True, exist_ok=True)
    if not resume:
        clear(folder)
    with logged(folder / "run.log", append=resume):
        _introduce(config, prepared, module.potential, folder)
        _fit(config, prepared, module, data, folder, mark, device, callbacks or [])
        if config.train.uncertainty:
            add_uncertainty(folder / BEST, prepared)
        evaluations = evaluate_tests(folder, prepared, device, config.train.valid_batch_size)
    return Result(folder, module.row, evaluations)


def build(config: RunConfig, prepared: Prepared, device: str = "cpu") -> tuple[TrainingModule, TrainingData]:
    """The Lightning module and data module of a run."""
    batches = Batches(prepared.train, config.train.batch_size, config.train.member_seed)
    held = Batches(prepared.validation, config.train.valid_batch_size) if prepared.validation else None
    module = TrainingModule(make_potential(prepared.spec, config, device), config, batches.n_batches)
    return module, TrainingData(batches, held, module)


def free(folder: Path, resume: bool, overwrite: bool) -> None:
    """Raises UserError where a run would be overwritten, there is none to resume, or no folder can be made."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file, and a run needs a folder: set another out")
    if resume and not (folder / LAST).is_file():
        raise UserError(f"{folder}: there is no {LAST} to resume from: leave --resume out to start this run")
    if not resume and not overwrite and ((folder / LAST).exists() or (folder / BEST).exists()):
        raise UserError(f"{folder}: holds a run already: go on with it by --resume, replace it by --overwrite, or set another out")


def clear(folder: Path) -> None:
    """Remove what an earlier run left under the names that this one writes."""
    for pattern in (BEST, LAST, METRICS, "evaluation.json", BAD_BATCH, "run.log", "events.out.tfevents.*"):
        for file in folder.glob(pattern):
            file.unlink()


def device_of(config: RunConfig) -> str:
    """The device a run is done on; raises UserError if it is not there."""
    if config.train.device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    check_device(config.train.device)
    return config.train.device


@contextmanager
def logged(path: Path, append: bool) -> Iterator[None]:
    """What the package says goes into a file too for as long as the block lasts, and every epoch, which is not always shown."""
    handler = logging.FileHandler(path, mode="a" if append else "w", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    loggers = [logging.getLogger("equipot"), EPOCHS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logger.level or logging.INFO)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)
        handler.close()


def _least_squares(config: RunConfig, prepared: Prepared, folder: Path, resume: bool) -> Result:
    """The run of a model that is linear in its parameters: solved, not trained; on the CPU."""
    if resume:
        raise UserError(f"{folder}: a least-squares fit is done in one go, so there is nothing to resume: leave --resume out")
    if config.train.device not in ("auto", "cpu"):
        raise UserError(f"train.device is {config.train.device}, but a least-squares fit runs on the cpu: leave it out")
    potential = make_potential(prepared.spec, config)
    folder.mkdir(parents=True, exist_ok=True)
    clear(folder)
    with logged(folder / "run.log", append=False):
        _introduce(config, prepared, potential, folder)
        row = fit_least_squares(config, prepared, potential, folder)
        if config.train.uncertainty:
            add_uncertainty(folder / BEST, prepared)
        evaluations = evaluate_tests(folder, prepared, "cpu", config.train.valid_batch_size)
    return Result(folder, row, evaluations)


def _introduce(config: RunConfig, prepared: Prepared, potential: Potential, folder: Path) -> None:
    """Write what is known before the first update, and say it."""
    write_config(config, folder / "config.yaml")
    write_whole(folder / "split.json", json.dumps(prepared.split_record(), indent=0).encode())
    n_valid = len(prepared.validation) if prepared.validation else 0
    said = log if config.train.member in (None, 0) else EPOCHS  # of the members of an ensemble the first tells of the data, the logs of all
    if prepared.references.kind in ("isolated", "given"):
        said.info("%s", prepared.references.message)
    for count in prepared.report.counts:
        labels = ", ".join(f"{name} {n}" for name, n in count.labels.items())
        said.info("%s (%s): %d structures; labelled: %s", count.file, count.role, count.n_frames, labels)
    for finding in prepared.report.warnings:
        # What the references cost has been said when they were found: only the run's log lacks it.
        (EPOCHS if finding.code == "no-isolated-atoms" else said).warning("%s", finding)
    sizes = f"{len(prepared.train)} structures to train on, {n_valid} for validation, {sum(map(len, prepared.tests.values()))} for tests"
    n_weights = sum(p.numel() for p in potential.parameters() if p.requires_grad)
    log.info("%s; %s with %d weights, %s; into %s", sizes, prepared.spec.preset, n_weights, config.train.dtype, folder)


def _fit(
    config: RunConfig,
    prepared: Prepared,
    module: TrainingModule,
    data: TrainingData,
    folder: Path,
    mark: dict[str, Any],
    device: str,
    extra: list[pl.Callback],
) -> None:
    metrics = MetricsFile(folder / METRICS, module.updates)
    files = RunFiles(folder, prepared.provenance(config), mark, metrics, config.train.checkpoint_seconds)
    interrupt, shown, events, kept = CatchInterrupt(files), ShowProgress(), TensorBoard(folder), KeepState(files)
    stop = Stop(config.train.validate_every, config.train.patience)
    trainer = make_trainer(device, [files, stop, events, shown, kept, *extra, interrupt], prepared.validation is not None)
    if module.progress.is_over(module.updates, module.clock.elapsed):
        log.info("this run was over already: raise train.max_time or train.max_epochs to go on")
        return
    try:
        with steady_memory():
            # memory ran out in the validation of this epoch
            if module.position >= module.progress.updates_per_epoch and data.validation_batches:
                trainer.validate(module, datamodule=data, verbose=False)
            trainer.fit(module, datamodule=data)
        log.info("trained for %s, %d updates%s", clock(module.clock.elapsed), module.updates, f" ({stop.reason})" if stop.reason else "")
    except NotFinite as error:
        files.write_best(module)
        _stop_at_bad_batch(folder, prepared, module, error)
    except (MemoryError, RuntimeError) as error:
        if not ran_out_of_memory(error):
            raise
        raise OutOfMemoryError(in_words(folder, prepared, module, kept.validating)) from None
    except Interrupted:
        log.info("interrupted after %d updates; the state is in %s", module.updates, folder / LAST)
        raise
    finally:
        shown.close()
        events.close()
        interrupt.restore()


def _stop_at_bad_batch(folder: Path, prepared: Prepared, module: TrainingModule, error: NotFinite) -> None:
    sources = [prepared.train.frames[i].source for i in error.places]
    write_bad_batch(folder / BAD_BATCH, module, error.what, error.value, sources)
    kept = f"; {folder / LAST} holds the last good state" if (folder / LAST).exists() else ""
    raise UserError(
        f"{folder}: the {error.what} became {error.value} in update {module.updates} (epoch {module.epoch}); the frames of its batch are in "
        f"nan_batch.json, the first is {sources[0]}{kept}: look at their labels, or lower train.learning_rate"
    ) from None


def make_trainer(device: str, callbacks: list[pl.Callback], validate: bool) -> pl.Trainer:
    """A Lightning trainer without what this package does itself."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    logging.getLogger("lightning.fabric").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    kind, _, index = device.partition(":")
    return pl.Trainer(
        accelerator="gpu" if kind == "cuda" else "cpu",
        devices=[int(index)] if index else 1,
        max_epochs=-1,
        limit_val_batches=1.0 if validate else 0,
        logger=False,
        callbacks=callbacks,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        inference_mode=False,
        use_distributed_sampler=False,
    )


def evaluate_tests(folder: Path, prepared: Prepared, device: str, batch_size: int) -> dict[str, Evaluation]:
    """Errors of the best model on the test sets, also as evaluation.json."""
    if not prepared.tests or not (folder / BEST).is_file():
        return {}
    potential = load_model(folder / BEST, device=device)
    found = {name: evaluate_frames(potential, frames, batch_size) for name, frames in prepared.tests.items()}
    content = {name: evaluation.to_dict() for name, evaluation in found.items()}
    write_whole(folder / "evaluation.json", json.dumps(content, indent=1).encode())
    return found
