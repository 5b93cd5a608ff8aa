"""The run of an ensemble: a run of its own for each member, one model file for all of them."""

import json
import logging
from datetime import UTC, datetime
from pathlib import Path

import lightning.pytorch as pl

from equipot.errors import UserError
from equipot.model import Ensemble, load_model, read_header, save_model
from equipot.train.callbacks import BEST, LAST
from equipot.train.config import RunConfig
from equipot.train.config_file import write_config
from equipot.train.run import Result, clear, device_of, evaluate_tests, free, logged, train_prepared
from equipot.train.setup import Prepared, of_member, prepare
from equipot.whole_file import write_whole

log = logging.getLogger("equipot.train")


def train_ensemble(config: RunConfig, resume: bool = False, overwrite: bool = False, callbacks: list[pl.Callback] | None = None) -> Result:
    """Train `train.ensemble` members one after another, each into `member-<i>` of the run's folder, and put them together.

    The data are read once; elements, reference energies, statistics and the validation set are the same for all, so that the members are models
    of the same spec. Each has a random start and order of its own and, with `train.bootstrap`, a sample of its own of the training frames, and is
    an ordinary run with all of `max_time` or `max_epochs`. best.equipot holds the best model of every member, evaluation.json the errors of their
    mean and how far they are apart.
    Raises what `train` raises; a stopped run goes on where it stopped with `resume`.
    """
    folder = Path(config.out)
    members = [member_config(config, i) for i in range(config.train.ensemble)]
    _free(folder, members, resume, overwrite)
    device = device_of(config)
    prepared = prepare(config)
    folder.mkdir(parents=True, exist_ok=True)
    if not resume:
        _clear(folder)
    with logged(folder / "run.log", append=resume):
        write_config(config, folder / "config.yaml")
        write_whole(folder / "split.json", json.dumps(prepared.split_record(), indent=0).encode())
        rows = [_member(member, prepared, device, resume, callbacks) for member in members]
        join(folder, config, prepared, [Path(member.out) for member in members])
        evaluations = evaluate_tests(folder, prepared, device, config.train.valid_batch_size)
    return Result(folder, rows[-1], evaluations)


def member_config(config: RunConfig, index: int) -> RunConfig:
    """The run of one member, which can also be started or resumed by itself."""
    train = config.train.model_copy(update={"member": index})
    return config.model_copy(update={"train": train, "name": f"{config.name}-{index}", "out": str(Path(config.out) / f"member-{index}")})


def join(folder: Path, config: RunConfig, prepared: Prepared, members: list[Path]) -> None:
    """best.equipot of the whole, from those of the members."""
    files = [member / BEST for member in members]
    for file in files:
        if not file.is_file():
            raise UserError(f"{file}: this member has left no model: see its run.log, and go on by --resume")
    origins = [read_header(file)["provenance"] for file in files]
    facts = {
        "ensemble": [{k: p[k] for k in ("epoch", "updates", "elapsed_s", "metrics") if k in p} for p in origins],
        "elapsed_s": round(sum(p.get("elapsed_s") or 0.0 for p in origins), 1),
        "trained": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    save_model(Ensemble([load_model(file) for file in files]), folder / BEST, {**prepared.provenance(config), **facts})
    log.info("an ensemble of %d in %s", len(files), folder / BEST)


def _member(config: RunConfig, prepared: Prepared, device: str, resume: bool, callbacks: list[pl.Callback] | None) -> dict[str, float]:
    """One member, from its start or from where it stopped; returns its last row of metrics."""
    folder = Path(config.out)
    if resume and config.train.fit == "least-squares" and (folder / BEST).is_file():
        return {}  # solved in one go
    log.info("member %d of %d", config.train.member + 1, config.train.ensemble)
    return train_prepared(config, of_member(prepared, config), device, resume and (folder / LAST).is_file(), callbacks).row


def _free(folder: Path, members: list[RunConfig], resume: bool, overwrite: bool) -> None:
    """As for any run, of the folder and of all members'."""
    begun = [m for m in members if any((Path(m.out) / name).is_file() for name in (LAST, BEST))]
    if resume and not begun:
        raise UserError(f"{folder}: there is no member to resume from: leave --resume out to start this ensemble")
    if not resume:
        for place in (folder, *(Path(m.out) for m in members)):
            free(place, False, overwrite)


def _clear(folder: Path) -> None:
    """Remove what earlier runs left, also members that this ensemble does not have."""
    for place in (folder, *folder.glob("member-*")):
        clear(place)
