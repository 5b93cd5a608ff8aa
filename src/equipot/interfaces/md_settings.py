"""What a molecular dynamics run is: its settings, checked before any work."""

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

from equipot.errors import UserError

ENSEMBLES = ("nve", "langevin", "nvt", "npt")
BAROSTATS = ("isotropic", "full")
VELOCITIES = ("auto", "file", "draw")
_ONLY_FOR = {"friction": ("langevin",), "tau": ("nvt", "npt"), "pressure": ("npt",), "pressure_tau": ("npt",), "barostat": ("npt",)}


@dataclass(frozen=True)
class MDSettings:
    """Ensemble, length and constants of a run; what is None takes the default named beside it. Raises UserError for what cannot be meant.

    nve: velocity Verlet; langevin: Langevin thermostat; nvt: Nose-Hoover chain; npt: the same with a Martyna-Tobias-Klein barostat.
    velocities: those of the structure's file ("file"), drawn at `temperature` ("draw"), or the file's where it has some ("auto").
    """

    ensemble: str = "nve"
    steps: int = 10_000  # in all, also of a run that is resumed
    timestep: float = 0.5  # fs
    temperature: float = 300.0  # K
    pressure: float | None = None  # GPa; 0
    friction: float | None = None  # 1/ps; 10
    tau: float | None = None  # fs, of the thermostat; 100 timesteps
    pressure_tau: float | None = None  # fs, of the barostat; 1000 timesteps
    barostat: str | None = None  # "isotropic" keeps the cell's shape, "full" does not; "isotropic"
    velocities: str = "auto"
    seed: int = 0
    interval: int = 10  # steps between frames, and between rows of the log
    restart_interval: int = 1000  # steps between restart files
    max_temperature: float | None = None  # K, above it the run has blown up; 20 temperatures, at least 10,000
    dtype: str | None = None  # of the model; the one it was trained in

    def __post_init__(self) -> None:
        for name in ("steps", "interval", "restart_interval"):
            _require(getattr(self, name) >= 1, f"{name} must be 1 or more, not {getattr(self, name)}")
        for name in ("timestep", "friction", "tau", "pressure_tau", "max_temperature"):
            value = getattr(self, name)
            _require(value is None or (math.isfinite(value) and value > 0), f"{name} must be a positive number, not {value}")
        _require(0.0 <= self.temperature < math.inf, f"temperature must be zero or more kelvin, not {self.temperature}")
        _require(self.pressure is None or math.isfinite(self.pressure), f"pressure must be a number of GPa, not {self.pressure}")
        _require(self.seed >= 0, f"seed must be zero or more, not {self.seed}")
        _choice("ensemble", self.ensemble, ENSEMBLES)
        _choice("velocities", self.velocities, VELOCITIES)
        if self.barostat is not None:
            _choice("barostat", self.barostat, BAROSTATS)
        for name, ensembles in _ONLY_FOR.items():
            if getattr(self, name) is not None and self.ensemble not in ensembles:
                raise UserError(f"{name} goes with the ensemble {' or '.join(ensembles)}, not with {self.ensemble}: leave it out")
        if self.ensemble in ("nvt", "npt"):
            _require(self.temperature > 0, f"the ensemble {self.ensemble} needs a temperature above zero")

    @property
    def temperature_limit(self) -> float:
        """K, above it a run is taken to have blown up."""
        return max(20.0 * self.temperature, 10_000.0) if self.max_temperature is None else self.max_temperature

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for the restart file."""
        return asdict(self)

    def continued(self, given: dict[str, Any]) -> "MDSettings":
        """These settings for a resumed run: `given` may change steps and restart_interval; raises UserError if anything else differs."""
        known = {f.name for f in fields(self)}
        for name, value in given.items():
            _require(name in known, f"{name} is not a setting of a run")
            if name not in ("steps", "restart_interval") and getattr(self, name) != value:
                raise UserError(
                    f"the run was started with {name} {getattr(self, name)}, not {value}: leave it out with --resume, or start a new run"
                )
        changed = {name: given[name] for name in ("steps", "restart_interval") if name in given}
        return MDSettings(**(self.to_dict() | changed))


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise UserError(message)


def _choice(name: str, value: str, known: tuple[str, ...]) -> None:
    _require(value in known, f"{name} {value!r} is not known: one of {', '.join(known)}")
