"""What a study is told: the checked content of STUDY.yaml. Reading the file is `study_file`'s work."""

import re
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from equipot.train.config import Duration, Files, Section

Label = Literal["energy", "forces", "stress"]
Domain = Literal["in-domain", "out-of-domain"]
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+=-]*")


class EvaluationSpec(Section):
    """A named set of structures to evaluate on."""

    file: Files
    """a file or a list of files"""
    kind: Domain = "in-domain"
    """in-domain, or out-of-domain"""
    labels: list[Label] | None = None
    """the labels that are measured; none given: those that the losses of the study ask for"""


class BudgetSpec(Section):
    """What every run may spend. Equal updates for every variant and size is the default advice."""

    max_updates: Annotated[int, Field(gt=0)] | None = None
    """updates of the weights, the same for every run"""
    max_time: Duration | None = None
    """training time of every run, "HH:MM:SS" """
    validations: Annotated[int, Field(gt=0)] | None = None
    """about so many validations in every run of max_updates, whatever its size; none given: train.validate_every"""

    @model_validator(mode="after")
    def _one(self) -> "BudgetSpec":
        if (self.max_updates is None) == (self.max_time is None):
            raise ValueError("give max_updates or max_time, one of them")
        if self.validations is not None and self.max_updates is None:
            raise ValueError("validations needs max_updates: with max_time, the number of epochs is not known before")
        return self


class ExecutorSpec(Section):
    """Where the runs go, and what each of them takes."""

    kind: Literal["local", "ray"] = "local"
    """local processes, or tasks of a Ray cluster"""
    workers: Annotated[int, Field(gt=0)] | None = None
    """runs at a time; none given: as many as fit the cores, the memory and the GPUs"""
    threads: Annotated[int, Field(gt=0)] = 1
    """cores of each run"""
    memory: Annotated[float, Field(gt=0)] | None = None
    """GiB of each run; none given: 1.5 are reckoned with here, and Ray is not asked for any"""
    gpus: Annotated[float, Field(gt=0, le=1)] | None = None
    """of each run that trains on a GPU; a fraction lets several share one; none given: 1"""
    address: str | None = None
    """of a Ray cluster: auto, HOST:PORT or ray://HOST:PORT; none given: Ray is started here"""

    @model_validator(mode="after")
    def _of_ray(self) -> "ExecutorSpec":
        if self.address is not None and self.kind != "ray":
            raise ValueError("address is of kind ray: leave it out, or set kind: ray")
        return self


class StudySpec(Section):
    """A whole study."""

    name: str
    base: dict[str, Any]
    """a training configuration, here or as the path of a file; its keys are those of `equipot train`"""
    variants: dict[str, dict[str, Any]]
    """overrides by name, with dotted or nested keys; `base` among them gives a variant a base of its own"""
    sizes: Annotated[list[Annotated[int, Field(gt=0)]], Field(min_length=1)] | None = None
    """numbers of training structures; none given: all"""
    seeds: Annotated[list[Annotated[int, Field(ge=0, lt=2**63)]], Field(min_length=1)] = [0]
    """of the weights, the choice of structures and the order of the batches"""
    evaluate: dict[str, EvaluationSpec] = {}
    """sets to evaluate on; none given: data.test of the base"""
    probes: dict[str, Any] = {}
    """probes by name, see `equipot.study.probes`"""
    budget: BudgetSpec | None = None
    """what every run may spend; none given: what its configuration says"""
    executor: ExecutorSpec = ExecutorSpec()
    """local, ray, or a section with options"""
    out: str
    """the folder of the study"""

    @field_validator("variants", mode="before")
    @classmethod
    def _nothing_is_the_base(cls, value: Any) -> Any:
        if isinstance(value, dict) and not value:
            raise ValueError("name at least one variant, such as base: {}")
        return {k: {} if v is None else v for k, v in value.items()} if isinstance(value, dict) else value

    @field_validator("evaluate", mode="before")
    @classmethod
    def _files(cls, value: Any) -> Any:
        return {k: {"file": v} if isinstance(v, str | list) else v for k, v in value.items()} if isinstance(value, dict) else value

    @field_validator("executor", mode="before")
    @classmethod
    def _kind(cls, value: Any) -> Any:
        return {"kind": value} if isinstance(value, str) else value

    @field_validator("variants", "evaluate", "probes")
    @classmethod
    def _names(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name in value:
            if not _NAME.fullmatch(name):
                raise ValueError(f"{name!r} is no name for a folder: take letters, digits and _ . + = -")
        return value
