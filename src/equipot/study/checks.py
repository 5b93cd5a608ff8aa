"""What is wrong with a study, found before anything runs: configurations, data, labels and sizes."""

import json
from typing import Any

from pydantic import ValidationError

from equipot.errors import UserError
from equipot.study.plan import Plan, Variant, expand
from equipot.study.study_file import Study
from equipot.train.config import RunConfig
from equipot.train.config_file import expand_variables
from equipot.train.loss import Loss
from equipot.train.setup import CheckedFrames, data_hashes, file_hashes, read_checked, requested_labels


def checked_plan(study: Study) -> Plan:
    """The runs of a study. Raises UserError for every mistake that can be known before they run."""
    spec = study.spec
    hashes = _probes(study)
    raws = {name: study.raw_config(name) for name in spec.variants}
    sets = evaluation_sets(study, raws)
    read: dict[str, CheckedFrames] = {}
    variants: dict[str, Variant] = {}
    labels: set[str] = set()
    for name, raw in raws.items():
        shared = _with_tests(raw, sets, spec.seeds[0], spec.sizes is None)
        config = study.config(name, shared)
        if config.train.ensemble > 1:
            raise UserError(
                f"{study.where(name)}: train.ensemble is {config.train.ensemble}: a study trains single models: give it seeds instead"
            )
        if config.train.device.startswith("cuda:"):
            raise UserError(f"{study.where(name)}: train.device is {config.train.device}: a study hands the GPUs out itself: take cuda")
        if (key := _key(config)) not in read:
            read[key] = read_checked(config)
        labels |= requested_labels(Loss(config.loss))
        hashes |= {k: v for k, v in data_hashes(config.data).items() if k not in hashes}
        variants[name] = Variant(raw, config, len(read[key].train))
        _enough(study, name, config, variants[name].available)
    for frames in read.values():
        _labelled(study, sets, frames, labels)
    return expand(study, variants, sets, hashes)


def evaluation_sets(study: Study, raws: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """name -> file, kind and labels of the sets of a study, or of the base's tests. Raises UserError where there are none."""
    sets = {name: s.model_dump(mode="json") for name, s in study.spec.evaluate.items()}
    if sets:
        return sets
    test = (study.spec.base.get("data") or {}).get("test")
    named = test if isinstance(test, dict) else {"test": test} if test else {}
    if not named and not study.spec.probes:
        raise UserError(f"{study.source.file}: evaluate is missing: name at least one set to measure the runs on, such as test: FILE")
    return {str(name): {"file": file, "kind": "in-domain", "labels": None} for name, file in named.items()}


def _with_tests(raw: dict[str, Any], sets: dict[str, dict[str, Any]], seed: int, all_frames: bool) -> dict[str, Any]:
    """A variant's configuration with all structures of its data, to learn how many there are."""
    found = dict(raw)
    if isinstance(raw.get("data"), dict):
        found["data"] = raw["data"] | {"test": {name: s["file"] for name, s in sets.items()}}
        if not all_frames:
            found["data"].pop("n_train", None)
    train = raw.get("train") or {}
    return found | {"train": train | {"seed": seed} if isinstance(train, dict) else train}


def _key(config: RunConfig) -> str:
    """What decides how the data of a variant are read and checked."""
    labels = sorted(requested_labels(Loss(config.loss)))
    return json.dumps([config.data.model_dump(mode="json"), labels, config.train.measure])


def _enough(study: Study, name: str, config: RunConfig, available: int) -> None:
    for i, size in enumerate(study.spec.sizes or []):
        if size > available:
            where, held = study.source.where(("sizes", i)), config.data.validation
            kept = "" if isinstance(held, str) else f" (validation keeps {held!r})"
            raise UserError(
                f"{where}: sizes: {size} is more than the {available} structures that {name} has to train on{kept}: take smaller ones"
            )


def _labelled(study: Study, sets: dict[str, dict[str, Any]], frames: CheckedFrames, labels: set[str]) -> None:
    for name, tested in frames.tests.items():
        for label in sets[name]["labels"] or sorted(labels):
            if all(getattr(f, label) is None for f in tested):
                where = study.source.where(("evaluate", name))
                raise UserError(
                    f"{where}: evaluate.{name}: {tested[0].file} has no {label}, which the study measures: "
                    "name a file that has, or say which labels are measured, such as labels: [energy]"
                )


def _probes(study: Study) -> dict[str, str]:
    """Hashes of the files that probes read. Raises UserError for a probe that is not one, or whose frames cannot be had."""
    from equipot.study.probes import ProbeSpec, check_frames

    hashes: dict[str, str] = {}
    for name, given in study.spec.probes.items():
        where = f"{study.source.where(('probes', name))}: probes.{name}"
        try:
            spec = ProbeSpec.model_validate(expand_variables({"probes": {name: given}}, study.source, ("probes",))["probes"][name])
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, ("", *first["loc"])))
            message = "not a key of a probe" if first["type"] == "extra_forbidden" else first["msg"].removeprefix("Value error, ")
            raise UserError(f"{where}{place}: {message}") from None
        try:
            check_frames(spec)
            hashes |= file_hashes(spec.files())
        except UserError as error:
            raise UserError(f"{where}: {error}") from None
    return hashes
