"""What a training run is told: frozen, checked sections of the YAML configuration. Reading the file is `config_file`'s work."""

import re
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]


def seconds(text: str) -> float:
    """Seconds of "HH:MM:SS"; raises ValueError for anything else."""
    match = re.fullmatch(r"(\d+):([0-5]?\d):([0-5]?\d)", text)
    if not match:
        raise ValueError('a time is written "HH:MM:SS"')
    hours, minutes, rest = (int(part) for part in match.groups())
    return 3600.0 * hours + 60.0 * minutes + rest


def _some(text: str) -> str:
    if seconds(text) <= 0:
        raise ValueError("no time at all")
    return text


Duration = Annotated[str, AfterValidator(_some)]
Files = str | list[str]
MEASURES = (
    "loss",
    "energy_mae",
    "energy_rmse",
    "energy_per_atom_mae",
    "energy_per_atom_rmse",
    "forces_mae",
    "forces_rmse",
    "stress_mae",
    "stress_rmse",
)
Measure = Literal[MEASURES]


class Section(BaseModel):
    """A part of the configuration: frozen, no unknown keys, no guessing of types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True, allow_inf_nan=False)


class KeysConfig(Section):
    """Names of the labels in the files, where they are not the usual ones."""

    energy: str | None = None
    forces: str | None = None
    stress: str | None = None
    virial: str | None = None
    config_type: str | None = None
    weight: str | None = None


class UnitsConfig(Section):
    """Units of the files, by name or as a number of eV and Å; none given: eV, Å, eV/Å and eV/Å³, or what the format says."""

    energy: str | float | None = None
    length: str | float | None = None
    forces: str | float | None = None
    stress: str | float | None = None


class DataConfig(Section):
    """Where the structures are. A file may end in a choice of frames: `file.xyz@0:100`. ${VARIABLE} is replaced."""

    train: Files
    """a file or a list of files to train on"""
    validation: float | int | str | list[int] = 0.1
    """kept for validation: a fraction, a count, a file of structures, a file or a list of frame numbers (in data.train, from 0), or 0"""
    n_train: Annotated[int, Field(gt=0)] | None = None
    """train on so many of the frames left after validation"""
    test: Files | dict[str, Files] | None = None
    """files to evaluate at the end, by name"""
    isolated_atoms: str | None = None
    """a file of isolated atoms, whose energies are E0"""
    reference_energies: dict[str, float] | Literal["least-squares"] | None = None
    """E0 by element in eV, or least-squares"""
    keys: KeysConfig = KeysConfig()
    units: UnitsConfig = UnitsConfig()

    @field_validator("train")
    @classmethod
    def _named(cls, value: Files) -> Files:
        if not value or not all(value):
            raise ValueError("name at least one file")
        return value

    @field_validator("validation")
    @classmethod
    def _enough(cls, value: Any) -> Any:
        if isinstance(value, int | float) and (value < 0 or (isinstance(value, float) and value >= 1)):
            raise ValueError("a fraction is below 1, a count is a whole number from 0")
        return value

    def test_sets(self) -> dict[str, Files]:
        """The test files by name."""
        if self.test is None:
            return {}
        return self.test if isinstance(self.test, dict) else {"test": self.test}


class StageConfig(Section):
    """Weights of the loss from some point of the training on; those not given stay as they were."""

    from_fraction: Annotated[float, Field(ge=0, lt=1)] | None = None
    """from this part of the training on, of max_time, max_updates or max_epochs, whichever is further on"""
    from_epoch: Annotated[int, Field(ge=0)] | None = None
    """from this epoch on, counted from 0"""
    energy: NotNegative | None = None
    forces: NotNegative | None = None
    stress: NotNegative | None = None

    @model_validator(mode="after")
    def _one_start(self) -> "StageConfig":
        if (self.from_fraction is None) == (self.from_epoch is None):
            raise ValueError("a stage starts either from_fraction or from_epoch")
        return self


class LossConfig(Section):
    """Weights and form of the loss; its equation is in `loss`."""

    energy: NotNegative = 1.0
    """weight of the error of the energy per atom"""
    forces: NotNegative = 10.0
    """weight of the error of the force components"""
    stress: NotNegative = 0.0
    """weight of the error of the stress components"""
    kind: Literal["mse", "mae", "huber"] = "mse"
    huber_delta: Positive = 0.01
    """where Huber's loss goes over from square to straight, in eV, eV/Å and eV/Å³"""
    schedule: list[StageConfig] = []
    """later weights"""
    config_types: dict[str, NotNegative] = {}
    """weight of the structures of a config_type"""

    @model_validator(mode="after")
    def _something(self) -> "LossConfig":
        if not (self.energy or self.forces or self.stress):
            raise ValueError("all weights are zero: there is nothing to train on")
        return self


class LeastSquaresConfig(Section):
    """How `fit: least-squares` solves; its equations are in `linear_fit.run`."""

    solver: Literal["ridge", "ard"] = "ridge"
    """ridge with a smoothness prior, or automatic relevance determination, for up to 1,500 columns"""
    regularisation: Positive | list[Positive] | None = None
    """strength of the ridge relative to the mean square of a column, or several to choose from; null: searched for; the validation set decides"""
    smoothness: NotNegative = 2.0
    """power of the degree of a factor in the smoothness prior"""
    columns: Annotated[int, Field(gt=0)] | None = None
    """solve for so many functions, those that say most about the training data; the others get the weight 0; null: all"""
    tolerance: NotNegative = 0.02
    """of the strengths whose validation error is within this part of the best, the strongest is taken"""

    @model_validator(mode="after")
    def _consistent(self) -> "LeastSquaresConfig":
        if self.regularisation == []:
            raise ValueError("regularisation: give at least one strength, or null")
        if self.solver == "ard" and self.regularisation is not None:
            raise ValueError("solver ard finds its regularisation itself: leave regularisation out, or take solver ridge")
        return self

    def candidates(self) -> list[float]:
        """The strengths that are given, strongest first."""
        given = self.regularisation or []
        return sorted(given if isinstance(given, list) else [given], reverse=True)


class TrainConfig(Section):
    """How the training goes."""

    fit: Literal["gradient", "least-squares"] = "gradient"
    """gradient steps, or the solution of a model that is linear in its parameters in one go"""
    least_squares: LeastSquaresConfig = LeastSquaresConfig()
    """of fit: least-squares"""
    batch_size: Annotated[int, Field(gt=0)] = 5
    valid_batch_size: Annotated[int, Field(gt=0)] = 16
    max_epochs: Annotated[int, Field(gt=0)] = 1000
    max_time: Duration | None = None
    """longest training time, "HH:MM:SS" """
    max_updates: Annotated[int, Field(gt=0)] | None = None
    """most updates of the weights"""
    dtype: Literal["float32", "float64"] = "float32"
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """of the weights, the split and the order of the batches"""
    ensemble: Annotated[int, Field(gt=0, le=100)] = 1
    """models to train, each from a start of its own; together they are one model, which knows how far they are apart"""
    bootstrap: bool = True
    """train each model of an ensemble on as many frames drawn from the training frames with replacement"""
    uncertainty: bool = False
    """afterwards put into the model how sure its last layer is of energies, calibrated on the validation data"""
    member: Annotated[int, Field(ge=0)] | None = None
    """train this member of the ensemble only, counted from 0; null: all"""
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"
    """auto, cpu or cuda"""
    backend: Literal["auto", "reference", "cpu", "triton"] = "auto"
    """implementation of the operations: cpu is C++, triton runs on a GPU; auto takes the fastest that is there"""
    capture: bool = True
    """on a GPU, replay every update as a CUDA graph of a padded batch (docs/gpu.md); without effect on the CPU"""
    threads: Annotated[int, Field(gt=0)] | None = None
    """threads of torch; none given: torch's own choice"""
    optimizer: Literal["soap", "adam", "amsgrad", "adamw", "schedule_free"] = "soap"
    """soap: Adam in the eigenbasis of the gradients, several times fewer updates to the same error (docs/results.md)"""
    learning_rate: Positive = 0.03
    """0.03 for soap, 0.01 for the others where none is given"""
    weight_decay: NotNegative = 0.0
    scheduler: Literal["cosine", "plateau", "constant"] = "cosine"
    """cosine anneals to the end of max_time, max_updates or max_epochs, whichever comes first"""
    plateau_factor: Annotated[float, Field(gt=0, lt=1)] = 0.8
    plateau_patience: Annotated[int, Field(gt=0)] = 50
    """validations without progress after which the learning rate falls"""
    warmup: Annotated[int, Field(ge=0)] = 100
    """updates over which the learning rate rises from 0"""
    ema: Annotated[float, Field(gt=0, lt=1)] | None = 0.99
    """decay of the moving average of the weights, which is what is evaluated and saved; null: none"""
    clip_ratio: Annotated[float, Field(gt=1)] | None = 4.0
    """largest norm of the gradient, as a multiple of its running mean: a bad batch cannot throw the weights far; null: no such limit"""
    clip_norm: Positive | None = None
    """largest norm of the gradient, absolute; it depends on the weights of the loss"""
    patience: Annotated[int, Field(gt=0)] | None = None
    """stop after so many validations without progress"""
    validate_every: Annotated[int, Field(gt=0)] = 1
    """epochs from one validation to the next"""
    measure: Measure = "loss"
    """what "best" means on the validation set"""
    checkpoint_seconds: NotNegative = 60.0
    """time from one writing of last.ckpt to the next"""

    @model_validator(mode="before")
    @classmethod
    def _fitting_defaults(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("optimizer", "soap") != "soap":
            data = {"learning_rate": 0.01, **data}
        if isinstance(data, dict) and data.get("optimizer") == "schedule_free":
            data = {"ema": None, "scheduler": "constant", **data}
        if isinstance(data, dict) and data.get("fit") == "least-squares":
            data = {"dtype": "float64", **data}
        return data

    @model_validator(mode="after")
    def _consistent(self) -> "TrainConfig":
        if self.member is not None and self.member >= self.ensemble:
            raise ValueError(f"train.member {self.member}: an ensemble of {self.ensemble} has members 0 to {self.ensemble - 1}")
        if self.uncertainty and self.ensemble > 1:
            raise ValueError("train.uncertainty is of one model, and an ensemble knows its spread: leave one of the two out")
        if self.optimizer == "schedule_free" and (self.ema is not None or self.scheduler != "constant"):
            raise ValueError("schedule_free averages the weights itself and needs no schedule: leave ema null and scheduler constant")
        return self

    @property
    def member_seed(self) -> int:
        """What weights, order and bootstrap are drawn from: the seed itself, or of a member of an ensemble one of its own."""
        if self.member is None:
            return self.seed
        return int(np.random.SeedSequence([self.seed, self.member]).generate_state(1, np.uint64)[0] >> np.uint64(1))

    @property
    def max_seconds(self) -> float | None:
        """`max_time` in seconds."""
        return None if self.max_time is None else seconds(self.max_time)


class RunConfig(Section):
    """A whole training run. `model` is checked by `model_config`."""

    name: str
    model: dict[str, Any]
    data: DataConfig
    loss: LossConfig = LossConfig()
    train: TrainConfig = TrainConfig()
    executor: Literal["local"] = "local"
    """where it runs"""
    out: str
    """the run folder"""

    @model_validator(mode="after")
    def _validated(self) -> "RunConfig":
        if self.data.validation in (0, 0.0) and not isinstance(self.data.validation, str):
            if self.train.uncertainty:
                raise ValueError("train.uncertainty is calibrated on validation data: set data.validation, or leave uncertainty out")
            if self.train.scheduler == "plateau":
                raise ValueError("scheduler plateau needs validation data: set data.validation, or another train.scheduler")
            if self.train.patience is not None:
                raise ValueError("train.patience needs validation data: set data.validation, or leave patience out")
            solver = self.train.least_squares
            if self.train.fit == "least-squares" and solver.solver == "ridge" and len(solver.candidates()) != 1:
                raise ValueError(
                    "least squares chooses its regularisation on validation data: set data.validation, or one least_squares.regularisation"
                )
        if self.train.fit == "least-squares" and (self.loss.kind != "mse" or self.loss.schedule):
            raise ValueError(
                "least squares minimises squares with fixed weights: leave loss.kind at mse and loss.schedule out, or take fit: gradient"
            )
        return self
