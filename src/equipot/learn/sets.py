"""The sets that a learning starts from: read once, written in eV and Å into its folder, with labels of the labelling calculator where wanted."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from equipot.data.elements import separate_isolated
from equipot.data.frame import Frame, elements_of, to_numbers
from equipot.data.labels import Keys
from equipot.data.readers import read_frames
from equipot.data.split import INDEX_SUFFIXES
from equipot.data.units import Units
from equipot.data.writer import write_frames
from equipot.errors import UserError
from equipot.learn.config_file import Plan
from equipot.learn.label import FAILED, LABELLED, label_frames, tidy
from equipot.train.config import DataConfig, KeysConfig, RunConfig, UnitsConfig

log = logging.getLogger("equipot.learn")
TRAIN, VALIDATION, ATOMS = "train", "validation", "isolated_atoms"


@dataclass(frozen=True)
class Sets:
    """What the files of a plan hold."""

    train: list[Frame]  # with the isolated atoms that stand among them
    validation: list[Frame]  # empty where it is a part of the training set
    tests: dict[str, list[Frame]]
    starts: list[Frame]  # of the explorations
    elements: list[str]


def read_sets(plan: Plan) -> Sets:
    """Everything read and checked. Raises UserError where there is nothing to start from, or atoms of elements that the model will not know."""
    data, explore = plan.training.data, plan.config.explore
    how = Keys(**data.keys.model_dump()), Units(**data.units.model_dump())
    train = read_frames(data.train, *how)
    structures = separate_isolated(train)[0]
    if not structures:
        raise UserError(f"train.data.train: {data.train} holds no structures (isolated atoms do not count): name a file that does")
    validation = read_frames(data.validation, *how) if _is_file(data) else []
    tests = {name: read_frames(files, *how) for name, files in data.test_sets().items()}
    starts = structures if explore.structures is None else separate_isolated(read_frames(explore.structures, *how))[0]
    if not starts:
        raise UserError(f"explore.structures: {explore.structures} holds no structures to start from (isolated atoms do not count)")
    elements = elements_of(structures)
    for frame in starts:
        if unknown := [e for e in elements_of([frame]) if e not in elements]:
            raise UserError(
                f"explore.structures: {frame.source}: {', '.join(unknown)} is not in the initial labelled set ({', '.join(elements)}), so the "
                "model does not know it: start from other structures, or add labelled ones with it to train.data.train"
            )
    if plan.config.label.relabel and not _is_file(data) and isinstance(data.validation, str | list):
        raise UserError("train.data.validation: numbers of frames do not go with label.relabel: give a count, a fraction or a file")
    return Sets(train, validation, tests, starts, elements)


def write_sets(plan: Plan, sets: Sets, folder: Path) -> dict[str, Any]:
    """Write them into `folder`, labelled anew where that is wanted, and the isolated atoms where no E0 is given; returns how many there are.

    Raises UserError where the labelling calculator fails for all of a set, or for an isolated atom.
    """
    folder.mkdir(parents=True, exist_ok=True)
    options = plan.config.label
    parts = {TRAIN: sets.train, VALIDATION: sets.validation, **{_test(name): frames for name, frames in sets.tests.items()}}
    if options.relabel:
        parts[TRAIN] = separate_isolated(sets.train)[0]
    counts = {}
    for name, frames in parts.items():
        if not frames:
            continue
        if options.relabel:
            counts[name] = label_frames(frames, folder / name, options, f"structures of the {name} set")
            frames = read_frames(folder / name / LABELLED)
        write_frames(frames, folder / f"{name}.extxyz", overwrite=True)
        counts.setdefault(name, {"n_labelled": len(frames), "n_failed": 0})
    if needs_atoms(plan, sets):
        counts[ATOMS] = _label_atoms(plan, sets.elements, folder)
    elif plan.training.data.isolated_atoms and not options.relabel:
        write_frames(read_frames(plan.training.data.isolated_atoms), folder / f"{ATOMS}.extxyz", overwrite=True)
    for place in (folder, *(folder / name for name in counts)):
        tidy(place)
    return counts


def needs_atoms(plan: Plan, sets: Sets) -> bool:
    """Whether E0 is still to be computed: no energies are given, and no isolated atoms with labels of the same kind."""
    if plan.training.data.reference_energies is not None:
        return False
    given = plan.training.data.isolated_atoms is not None or bool(separate_isolated(sets.train)[1])
    return plan.config.label.relabel or not given


def _label_atoms(plan: Plan, elements: list[str], folder: Path) -> dict[str, Any]:
    alone = [
        Frame(np.array([z]), np.zeros((1, 3)), np.zeros((3, 3)), np.zeros(3, dtype=bool), config_type="IsolatedAtom")
        for z in to_numbers(elements)
    ]
    remedy = "give energies in train.data.reference_energies, or labelled atoms in train.data.isolated_atoms"
    try:
        found = label_frames(alone, folder / ATOMS, plan.config.label, "isolated atoms", try_again=True)
    except UserError as error:
        raise UserError(f"{error}; or {remedy}") from None
    if found["n_failed"]:
        bad = read_frames(folder / ATOMS / FAILED)
        said = "; ".join(f"{f.symbols[0]}: {f.info['reason']}" for f in bad)
        raise UserError(f"{folder / ATOMS}: isolated atoms could not be labelled ({said}): {remedy}")
    write_frames(read_frames(folder / ATOMS / LABELLED), folder / f"{ATOMS}.extxyz", overwrite=True)
    return found


def round_training(plan: Plan, out: Path, number: int) -> RunConfig:
    """The ordinary training of a round, on the initial set and what the rounds before it have labelled."""
    given, sets = plan.training.data, out / "sets"
    atoms = sets / f"{ATOMS}.extxyz"
    data = given.model_copy(
        update={
            "train": [str(sets / f"{TRAIN}.extxyz"), *(str(out / f"round-{k}" / LABELLED) for k in range(number))],
            "validation": str(sets / f"{VALIDATION}.extxyz") if _is_file(given) else given.validation,
            "test": {name: str(sets / f"{_test(name)}.extxyz") for name in given.test_sets()} or None,
            "isolated_atoms": str(atoms) if atoms.is_file() else None,
            "keys": KeysConfig(),
            "units": UnitsConfig(),
        }
    )
    train = plan.training.train.model_copy(update={"ensemble": plan.config.ensemble, "member": None})
    folder = out / f"round-{number}"
    return plan.training.model_copy(update={"data": data, "train": train, "name": f"{out.name}-{number}", "out": str(folder / "train")})


def known_frames(training: RunConfig) -> list[Frame]:
    """Every labelled structure of a training: what is trained on and what it is validated on."""
    files = [*training.data.train] + ([training.data.validation] if isinstance(training.data.validation, str) else [])
    return separate_isolated([frame for file in files if not file.endswith(INDEX_SUFFIXES) for frame in read_frames(file)])[0]


def _is_file(data: DataConfig) -> bool:
    """Whether the validation set is a file of structures."""
    return isinstance(data.validation, str) and not data.validation.endswith(INDEX_SUFFIXES)


def _test(name: str) -> str:
    return f"test-{name}"
