"""How observables are taken: widths, ranges and the number of blocks."""

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from equipot.errors import UserError


@dataclass(frozen=True)
class Settings:
    """What is None takes the default named beside it. Raises UserError for what cannot be meant."""

    blocks: int = 8  # of a trajectory, for errors
    r_max: float | None = None  # Å; half the cell's smallest width, at least 6, at most 10
    r_bin: float = 0.02  # Å
    angle_bin: float = 2.0  # degrees
    bonds: dict[tuple[str, str], float] = field(default_factory=dict)  # Å, pair of elements (sorted); the first minimum of its g(r)
    samples: int = 2000  # frames at most for structure, evenly chosen
    fit: tuple[float, float] | None = None  # ps, lags of the fit to the mean-square displacement; 10 to 50 % of a block
    vacf_length: float | None = None  # ps; 2 ps, at most half a block
    elements: tuple[str, ...] = ()  # of mean-square displacements; all
    seed: int = 0  # of the bootstrap
    supercell: float = 12.0  # Å, the least width of the phonons' supercell
    displacement: float = 0.01  # Å, of the phonons' atoms
    strain: float = 0.005  # of the elastic constants
    volumes: tuple[float, float, int] = (0.94, 1.06, 9)  # of the equation of state: from, to, how many

    def __post_init__(self) -> None:
        _require(self.blocks >= 2, f"blocks must be 2 or more, not {self.blocks}: errors come from their spread")
        _require(self.samples >= 1, f"samples must be 1 or more, not {self.samples}")
        for name in ("r_max", "r_bin", "angle_bin", "vacf_length", "supercell", "displacement", "strain"):
            value = getattr(self, name)
            _require(value is None or (math.isfinite(value) and value > 0), f"{name} must be a positive number, not {value}")
        _require(
            self.r_max is None or self.r_bin < self.r_max / 4, f"r_bin {self.r_bin} leaves fewer than four bins below r_max {self.r_max}"
        )
        _require(self.angle_bin <= 60.0, f"angle_bin must be at most 60 degrees, not {self.angle_bin}")
        if self.fit is not None:
            _require(
                0.0 <= self.fit[0] < self.fit[1] < math.inf,
                f"the fit must go from a lag to a longer one, not {self.fit[0]} to {self.fit[1]} ps",
            )
        for pair, length in self.bonds.items():
            _require(math.isfinite(length) and length > 0, f"the bond {'-'.join(pair)} must be a positive length in Å, not {length}")

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for the results' file."""
        return asdict(self) | {"bonds": {"-".join(pair): length for pair, length in self.bonds.items()}}


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise UserError(message)
