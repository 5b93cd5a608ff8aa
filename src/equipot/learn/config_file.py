"""From a YAML file and KEY=VALUE words to a checked `Plan` of active learning, with the file's line in every complaint."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError
from ruamel.yaml import YAML

from equipot.errors import UserError
from equipot.learn.config import LearnConfig
from equipot.train.config import RunConfig
from equipot.train.config_file import (
    Path_,
    Source,
    checked_config,
    complaint,
    expand_variables,
    override,
    plain,
    read_source,
    user_error,
)
from equipot.train.model_config import Mistake

FILE = "learn.yaml"
_OURS = {  # what the learning sets in every training
    ("train", "ensemble"): "is a key of the learning itself: `ensemble`",
    ("train", "member"): "is of one member, and the learning trains all",
    ("data", "n_train"): "has no meaning here: the training set grows",
}


@dataclass(frozen=True)
class Plan:
    """Active learning as it was read: its own settings, and those of its trainings."""

    config: LearnConfig
    training: RunConfig


class _InlineTraining(Source):
    """A training configuration that stands in the file of the learning."""

    def __init__(self, outer: Source):
        super().__init__(outer.data["train"], outer.file)
        self.outer = outer

    def where(self, path: Path_) -> str:
        return f"{self.outer.where(('train', *path))}: train"


def read_plan(path: str | Path, overrides: Sequence[str] = ()) -> Plan:
    """The learning in a file, or in the folder of one, with KEY=VALUE words over it; train.KEY reaches into a training that is a file.

    Raises UserError for every mistake in it, naming key, line and the nearest valid key.
    """
    path = Path(path)
    file = path / FILE if path.is_dir() else path
    source = read_source(file, "configuration", "docs/active-learning.md says how one is written", "train, explore and label")
    apart = [w for w in overrides if w.startswith("train.") and isinstance(source.data.get("train"), str)]
    for word in overrides:
        if word not in apart:
            override(source, word)
    training = _training_source(source, file.parent)
    for word in apart:
        override(training, word.removeprefix("train."))
    data = plain(source.data) | {"train": plain(training.data)}
    data["out"] = str(path) if path.is_dir() else data.get("out") or f"runs/{file.stem}"
    data |= expand_variables({"out": data["out"]}, source)
    try:
        config = LearnConfig.model_validate(data)
    except ValidationError as error:
        raise complaint(error, data, source, LearnConfig, "a configuration of learning") from None
    plan = Plan(_with_modules(config, file.parent), _training(training))
    _check_goal(plan, source)
    return plan


def _with_modules(config: LearnConfig, folder: Path) -> LearnConfig:
    """`label.modules` as an absolute folder: the labelling processes run elsewhere."""
    modules = folder / (config.label.modules or "")
    return config.model_copy(update={"label": config.label.model_copy(update={"modules": str(modules.resolve())})})


def _training_source(source: Source, folder: Path) -> Source:
    given = source.data.get("train")
    if given is None:
        raise UserError(f"{source.file}: train is missing: give a training configuration, or the path of one")
    if isinstance(given, dict):
        return _InlineTraining(source)
    if not isinstance(given, str):
        raise UserError(f"{source.where(('train',))}: train: should be a training configuration or the path of one, not {given!r}")
    path = folder / given
    if not path.is_file():
        raise UserError(
            f"{source.where(('train',))}: train: there is no configuration {path}: a path is relative to the folder of this file"
        )
    return read_source(path, "configuration", "", "model and data")


def _training(source: Source) -> RunConfig:
    for (section, key), why in _OURS.items():
        part = source.data.get(section)
        if isinstance(part, dict) and part.get(key) is not None:
            raise UserError(f"{source.where((section, key))}: {section}.{key} {why}: leave it out")
    return checked_config(source)


def _check_goal(plan: Plan, source: Source) -> None:
    goal, sets = plan.config.goal, list(plan.training.data.test_sets())
    if goal is None:
        return
    if not sets:
        raise UserError(f"{source.where(('goal',))}: goal: is measured on a held-out set: name its file in train.data.test")
    if goal.on is not None and goal.on not in sets:
        raise user_error(Mistake(("goal", "on"), "is no set of train.data.test", sets), source)


def dump_plan(plan: Plan) -> str:
    """YAML of the learning with every default and the training written out; it can be read again."""
    yaml = YAML()
    yaml.default_flow_style = None
    yaml.width = 140
    data = plan.config.model_dump(mode="json", exclude_none=True)
    data["train"] = plan.training.model_dump(mode="json")  # with what is null, which is not always the default
    for key in ("ensemble", "member"):
        data["train"]["train"].pop(key, None)
    buffer = io.StringIO()
    yaml.dump(data, buffer)
    return buffer.getvalue()
