"""STUDY.yaml: read, checked, and each variant's configuration made from base and overrides, with the place of every mistake."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML

from equipot.errors import UserError
from equipot.study.spec import StudySpec
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
)

STUDY_FILE = "study.yaml"
_OURS = {  # what a study sets in every run
    ("name",): "is the name of the run",
    ("out",): "is the folder of the run",
    ("executor",): "is a key of the study",
    ("train", "seed"): "comes from `seeds`",
    ("train", "threads"): "comes from `executor`",
    ("data", "n_train"): "comes from `sizes`",
    ("data", "test"): "comes from `evaluate`",
}
_BUDGET = dict.fromkeys([("train", "max_updates"), ("train", "max_time"), ("train", "max_epochs")], "comes from `budget`")


@dataclass(frozen=True)
class Study:
    """A study as it was read: its spec, and where its parts stand."""

    spec: StudySpec
    source: Source
    bases: dict[str, Source]  # of variants with a base of their own, and of the study under ""

    def raw_config(self, variant: str) -> dict[str, Any]:
        """Base and overrides of a variant as one plain configuration, not yet checked."""
        overrides = nested(self.spec.variants[variant], f"{self.where(variant)}")
        for path, why in (_OURS | (_BUDGET if self.spec.budget else {})).items():
            if _has(overrides, path, part=False):
                raise UserError(f"{self.where(variant)}: {'.'.join(path)} {why} in a study: leave it out")
        base = plain(self.bases[variant if variant in self.bases else ""].data)
        return merged({k: v for k, v in base.items() if k not in ("name", "out", "executor")}, overrides)

    def config(self, variant: str, raw: dict[str, Any]) -> RunConfig:
        """The checked configuration of `raw`, which a variant was made to. Raises UserError naming the variant or the base."""
        return checked_config(_VariantSource({"name": variant, "out": "", **raw}, self, variant))

    def where(self, variant: str) -> str:
        """ "STUDY.yaml, line 7: variants.NAME"."""
        return f"{self.source.where(('variants', variant))}: variants.{variant}"


class _VariantSource(Source):
    """The configuration of a variant: what it overrides stands in the study, the rest in its base."""

    def __init__(self, data: dict[str, Any], study: Study, variant: str):
        super().__init__(data, study.source.file)
        self.study, self.variant = study, variant
        self.overrides = nested(study.spec.variants[variant], "")
        self.base = study.bases[variant if variant in study.bases else ""]

    def where(self, path: Path_) -> str:
        if len(path) and _has(self.overrides, path):
            return self.study.where(self.variant)
        return self.base.where(path)


class _InlineBase(Source):
    """A base that stands in the study file."""

    def __init__(self, source: Source, prefix: Path_):
        data = source.data
        for key in prefix:
            data = data[key]
        super().__init__(data, source.file)
        self.outer, self.prefix = source, prefix

    def where(self, path: Path_) -> str:
        return f"{self.outer.where((*self.prefix, *path))}: {'.'.join(map(str, self.prefix))}"


def read_study(path: str | Path, overrides: Sequence[str] = ()) -> Study:
    """The study in a file, or in the folder of one, with KEY=VALUE words over it; base.KEY reaches into a base that is a file.

    Raises UserError for every mistake in it but those of its configurations.
    """
    path = Path(path)
    folder = path if path.is_dir() else None
    file = path / STUDY_FILE if folder else path
    source = read_source(file, "study", "docs/studies.md says how one is written", "base, variants and seeds")
    of_base = [word for word in overrides if word.startswith("base.") and isinstance(source.data.get("base"), str)]
    for word in overrides:
        if word not in of_base:
            override(source, word)
    data = plain(source.data)
    data.setdefault("name", file.stem)
    data["out"] = str(folder) if folder else data.get("out") or f"runs/{data['name']}"
    data |= expand_variables({"out": data["out"]}, source)
    bases = _bases(data, source, file.parent, of_base)
    try:
        spec = StudySpec.model_validate(data)
    except ValidationError as error:
        raise complaint(error, data, source, StudySpec, "a study") from None
    for name in spec.evaluate:
        if name == "cost":
            raise UserError(
                f"{source.where(('evaluate', name))}: evaluate.cost: this name is taken by the costs of the runs: choose another"
            )
    return Study(spec, source, bases)


def _bases(data: dict[str, Any], source: Source, folder: Path, overrides: Sequence[str]) -> dict[str, Source]:
    """The bases as sources, that of the study overridden; in `data` they are replaced by what they hold."""
    found: dict[str, Source] = {}
    variants = data.get("variants")
    owners: list[tuple[str, Path_]] = [("", ("base",))]
    if isinstance(variants, dict):
        owners += [(name, ("variants", name, "base")) for name, v in variants.items() if isinstance(v, dict) and "base" in v]
    for owner, prefix in owners:
        holder = data if not owner else variants[owner]
        if "base" not in holder:
            raise UserError(f"{source.file}: base is missing: give a training configuration, or the path of one")
        base = holder["base"]
        if isinstance(base, str):
            found[owner] = _base_file(base, source.where(prefix), folder)
            for word in () if owner else overrides:
                override(found[owner], word.removeprefix("base."))
        elif isinstance(base, dict):
            found[owner] = _InlineBase(source, prefix)
        else:
            raise UserError(
                f"{source.where(prefix)}: {'.'.join(prefix)}: should be a training configuration or the path of one, not {base!r}"
            )
        holder["base"] = plain(found[owner].data)
    return found


def _base_file(name: str, where: str, folder: Path) -> Source:
    path = folder / name
    if not path.is_file():
        raise UserError(f"{where}: base: there is no configuration {path}: a path is relative to the folder of the study's file")
    return read_source(path, "configuration", "", "model and data")


def nested(overrides: dict[str, Any], where: str) -> dict[str, Any]:
    """Dotted keys taken apart, `base` left out. Raises UserError where a key is set twice."""
    found: dict[str, Any] = {}
    for key, value in overrides.items():
        if key == "base":
            continue
        parts = key.split(".")
        for part in reversed(parts[1:]):
            value = {part: value}
        _join(found, parts[0], value, where)
    return found


def _join(into: dict[str, Any], key: str, value: Any, where: str) -> None:
    if key not in into:
        into[key] = nested(value, where) if isinstance(value, dict) else value
    elif isinstance(into[key], dict) and isinstance(value, dict):
        for k, v in value.items():
            _join(into[key], k, v, where)
    else:
        raise UserError(f"{where}: {key} is set twice: set it once")


def merged(base: Any, over: Any) -> Any:
    """`over` over `base`, key by key where both are mappings; a list is replaced."""
    if not isinstance(base, dict) or not isinstance(over, dict):
        return over
    return base | {k: merged(base.get(k), v) for k, v in over.items()}


def _has(data: Any, path: Path_, part: bool = True) -> bool:
    """Whether `data` sets the key at `path`, or, with `part`, something that it would be a part of."""
    for key in path:
        if not isinstance(data, dict):
            return part
        if key not in data:
            return False
        data = data[key]
    return True


def dump_study(study: Study) -> str:
    """YAML of the study with every default and the bases written out; it can be read again."""
    yaml = YAML()
    yaml.default_flow_style = None
    yaml.width = 140
    buffer = io.StringIO()
    yaml.dump(study.spec.model_dump(mode="json", exclude_none=True), buffer)
    return buffer.getvalue()
