"""Memory that runs out in a training: the state is kept, and one line says which batch it was and how to go on."""

import gc
import traceback
from contextlib import suppress
from pathlib import Path

import lightning.pytorch as pl
import torch

from equipot.data.dataset import collate_indexed
from equipot.data.graph import batch_in_words
from equipot.errors import ran_out_of_memory
from equipot.train.callbacks import LAST, RunFiles
from equipot.train.module import TrainingModule
from equipot.train.setup import Prepared


class KeepState(pl.Callback):
    """Writes the state as it was before the update, or the validation, that ran out of memory; not where it died while weights were being changed."""

    def __init__(self, files: RunFiles):
        self.files, self.validating = files, False

    def on_exception(self, trainer: pl.Trainer, module: TrainingModule, exception: BaseException) -> None:
        if not ran_out_of_memory(exception):
            return
        traceback.clear_frames(exception.__traceback__)  # what the update had made so far makes room
        module.optimizer.zero_grad(set_to_none=True)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self.validating = module.validating
        module.leave_validation()
        if not module.changing:
            with suppress(MemoryError, RuntimeError):
                self.files.write(module)


def in_words(folder: Path, prepared: Prepared, module: TrainingModule, validating: bool) -> str:
    """One line on the batch at which memory ran out."""
    batch = module.batch
    if not validating and module.places is not None:
        batch = collate_indexed([prepared.train[i] for i in module.places])
    if batch is None:
        return f"{folder}: out of memory before the first update: free some, or start again with a smaller model"
    graph, _, places = batch
    key, dataset = ("train.valid_batch_size", prepared.validation) if validating else ("train.batch_size", prepared.train)
    where = f"in the validation after update {module.updates}" if validating else f"in update {module.updates} (epoch {module.epoch})"
    named = batch_in_words(graph, [dataset.frames[i].source for i in places.tolist()])
    if graph.n_structures == 1:
        return f"{folder}: out of memory {where}, at {named}: leave this structure out, or start again with a smaller model or cutoff"
    go_on = "go on by --resume" if (folder / LAST).is_file() else "start again"
    smaller = f"with a smaller {key}, such as {key}={graph.n_structures // 2} (equipot train … --find-batch-size measures what fits)"
    return f"{folder}: out of memory {where}, at {named}: {go_on} {smaller}"
