"""What active learning is told: frozen, checked sections of its YAML file. Reading the file is `config_file`'s work."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from equipot.train.config import MEASURES, Files, NotNegative, Positive, Section

Count = Annotated[int, Field(gt=0)]
STOP_FACTOR = 5.0
GOALS = tuple(name for name in MEASURES if name != "loss")


class DoubtConfig(Section):
    """How far the members of the ensemble are apart."""

    forces_std: Positive
    """eV/Å, of the atom where it is largest: standard deviation of the members' force vectors"""


class ExploreConfig(Section):
    """Molecular dynamics with the ensemble, in search of structures that it is unsure of."""

    structures: Files | None = None
    """files of structures to start from; null: those of the initial labelled set"""
    ensemble: Literal["nve", "langevin", "nvt"] = "langevin"
    temperature: Positive | list[Positive] = 300.0
    """K; of several, the walkers take turns"""
    timestep: Positive = 0.5
    """fs"""
    steps: Count = 2000
    """of each walker in each round"""
    interval: Count = 20
    """steps from one sample to the next"""
    walkers: Count = 8
    """trajectories in each round, each from a structure and velocities of its own"""
    friction: Positive | None = None
    """1/ps, of langevin"""
    tau: Positive | None = None
    """fs, of nvt"""
    threshold: DoubtConfig
    """a sample above it is a candidate"""
    stop: DoubtConfig | None = None
    """a trajectory ends above it, and what is above is no candidate; null: five times the threshold"""

    @field_validator("structures", "temperature")
    @classmethod
    def _some(cls, value: Any) -> Any:
        if value is not None and (not value or isinstance(value, list) and not all(value)):
            raise ValueError("is empty: give at least one")
        return value

    @model_validator(mode="after")
    def _in_order(self) -> "ExploreConfig":
        if self.limit <= self.threshold.forces_std:
            raise ValueError(f"stop.forces_std {self.limit:g} must be above threshold.forces_std {self.threshold.forces_std:g}")
        if self.interval > self.steps:
            raise ValueError(f"interval {self.interval} is longer than a trajectory of {self.steps} steps: nothing would be sampled")
        for key, ensemble in (("friction", "langevin"), ("tau", "nvt")):
            if getattr(self, key) is not None and self.ensemble != ensemble:
                raise ValueError(f"{key} goes with the ensemble {ensemble}, not with {self.ensemble}: leave it out")
        return self

    @property
    def limit(self) -> float:
        """eV/Å, above which a trajectory ends."""
        return STOP_FACTOR * self.threshold.forces_std if self.stop is None else self.stop.forces_std

    def temperature_of(self, walker: int) -> float:
        """K of a walker."""
        kelvin = self.temperature if isinstance(self.temperature, list) else [self.temperature]
        return float(kelvin[walker % len(kelvin)])


class SelectConfig(Section):
    """Which of the candidates are labelled."""

    strategy: Literal["spread", "farthest", "random"] = "spread"
    """spread: the most uncertain first; farthest: each time the one least like any known; random: of all samples, whatever the threshold"""
    max: Count = 20
    """structures in each round"""
    min_distance: NotNegative = 0.02
    """Å, by which a structure must differ from every labelled one and every other that is taken (`learn.fingerprint`)"""
    cutoff: Positive = 5.0
    """Å, up to which distances count in that"""


class LabelConfig(Section):
    """What computes energies and forces."""

    calculator: str
    """tblite, pyscf, or module:function, which returns an ASE calculator"""
    arguments: dict[str, Any] = {}
    """keyword arguments of the calculator"""
    modules: str | None = None
    """folder in which the module is looked for, besides the one the program is run in; null: that of this file"""
    processes: Count = 1
    """structures at a time, each in a process of its own"""
    threads: Count = 1
    """of each process"""
    timeout: Positive = 3600.0
    """s for one structure, after which it counts as failed"""
    relabel: bool = False
    """label the initial, validation and test sets with this calculator too, whatever labels they have"""


class GoalConfig(Section):
    """Errors on a held-out set at which the learning is over; all that are given must be reached."""

    on: str | None = None
    """the set, by its name in data.test; null: the first"""
    energy_mae: Positive | None = None
    energy_rmse: Positive | None = None
    energy_per_atom_mae: Positive | None = None
    energy_per_atom_rmse: Positive | None = None
    forces_mae: Positive | None = None
    forces_rmse: Positive | None = None
    stress_mae: Positive | None = None
    stress_rmse: Positive | None = None

    @model_validator(mode="after")
    def _something(self) -> "GoalConfig":
        if not self.wanted():
            raise ValueError("name an error to reach, such as forces_mae: 0.05")
        return self

    def wanted(self) -> dict[str, float]:
        """The errors by name."""
        return {name: getattr(self, name) for name in GOALS if getattr(self, name) is not None}


class BudgetConfig(Section):
    """What may be spent."""

    labels: Count
    """structures labelled beside the initial set, failed ones included"""


class LearnConfig(Section):
    """A whole active learning. `train` is checked as a training configuration."""

    train: dict[str, Any]
    """a training configuration, or the path of one, whose data.train is the initial labelled set"""
    ensemble: Annotated[int, Field(ge=2, le=100)] = 4
    """members"""
    explore: ExploreConfig
    select: SelectConfig = SelectConfig()
    label: LabelConfig
    rounds: Count = 5
    """of exploring and labelling; a last training comes after them"""
    goal: GoalConfig | None = None
    budget: BudgetConfig | None = None
    seed: Annotated[int, Field(ge=0)] = 0
    """of start structures, velocities and random choices; that of the training is its own"""
    out: str
    """the folder"""
