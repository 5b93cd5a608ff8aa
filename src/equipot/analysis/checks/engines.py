"""Do all engines say the same? Energy, forces and stress of odd structures, against torch in float64."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from equipot.analysis.checks.odd_structures import Odd
from equipot.data.frame import Frame
from equipot.errors import CannotExpressError, MissingPackageError, UserError

LIMITS = {"energy": 1e-6, "forces": 1e-5, "stress": 1e-6}
"""The largest deviation from torch: eV per atom, eV/Å and eV/Å³; all engines in float64. The native engine's radial functions are tables,
of 1e-8 of their largest value unless exported otherwise. Where the forces are above 1 eV/Å (root mean square) or a stress is above 1 eV/Å³,
as many times more."""
UNITS = {"energy": "eV/atom", "forces": "eV/Å", "stress": "eV/Å³"}


class Evaluated(Protocol):
    """Results for one structure; stress (3, 3) only where it is periodic in all directions."""

    energy: float
    forces: np.ndarray
    stress: np.ndarray | None


Evaluate = Callable[[Sequence[Frame]], Sequence[Evaluated | None]]
"""All structures, in float64; None for what the program around the engine knows no way to describe."""


@dataclass(frozen=True)
class Parity:
    """How far one engine is from the reference."""

    name: str
    skipped: str = ""  # why it could not be tried
    failed: str = ""  # how it ended, if not with results
    structures: dict[str, dict[str, float]] = field(default_factory=dict)  # deviations by structure and quantity, in the units of LIMITS
    scales: dict[str, float] = field(default_factory=dict)  # what the limits are multiplied with, by structure
    left_out: int = 0  # structures that the program around the engine cannot describe

    @property
    def passed(self) -> bool:
        """Whether no deviation is above its limit, or nothing was tried."""
        if self.skipped:
            return True
        return not self.failed and bool(self.structures) and self.excess <= 1.0

    @property
    def worst(self) -> str:
        """The structure with the largest deviation in units of its limit."""
        return max(self.structures, key=self._excess, default="")

    @property
    def excess(self) -> float:
        """That deviation."""
        return max(map(self._excess, self.structures), default=0.0)

    def largest(self, quantity: str) -> float:
        """Of one quantity, over all structures."""
        return float(np.max([d[quantity] for d in self.structures.values() if quantity in d], initial=0.0))

    def _excess(self, name: str) -> float:
        parts = (value / (LIMITS[quantity] * self.scales[name]) for quantity, value in self.structures[name].items())
        return max((np.inf if np.isnan(p) else p for p in parts), default=0.0)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        largest = {quantity: self.largest(quantity) for quantity in LIMITS}
        return {
            "name": self.name,
            "passed": self.passed,
            "skipped": self.skipped or None,
            "failed": self.failed or None,
            **largest,
            "worst": self.worst or None,
            "left_out": self.left_out,
            "structures": self.structures,
        }


def compare(
    reference: Evaluate, engines: Mapping[str, Evaluate], odd: Sequence[Odd], announce: Callable[[str], None] = lambda _: None
) -> list[Parity]:
    """Every engine on all structures. The reference is among the results too: its own deviations are those from `Odd.same_as`.

    An engine that raises MissingPackageError or CannotExpressError is skipped, one that raises anything else of the user's has failed.
    """
    announce("torch")
    truth = dict(zip((o.name for o in odd), reference([o.frame for o in odd]), strict=True))
    scales = {name: _scale(t) for name, t in truth.items()}
    results = [_parity("torch", [truth[o.name] for o in odd], truth, odd, scales)]
    for name, evaluate in engines.items():
        announce(name)
        try:
            results.append(_parity(name, evaluate([o.frame for o in odd]), truth, odd, scales))
        except (MissingPackageError, CannotExpressError) as error:
            results.append(Parity(name, skipped=str(error)))
        except UserError as error:
            results.append(Parity(name, failed=str(error)))
    return results


def summary(results: Sequence[Parity]) -> dict[str, Any]:
    """Plain data of a comparison, as `equipot check --engines --json` writes it."""
    return {
        "passed": all(r.passed for r in results),
        "reference": "torch, float64",
        "limits": LIMITS,
        "units": UNITS,
        "results": [r.to_dict() for r in results],
    }


def _parity(
    name: str, found: Sequence[Evaluated | None], truth: Mapping[str, Evaluated], odd: Sequence[Odd], scales: Mapping[str, float]
) -> Parity:
    deviations = {
        o.name: _deviations(f, truth[o.same_as or o.name], o.frame.n_atoms) for o, f in zip(odd, found, strict=True) if f is not None
    }
    return Parity(name, structures=deviations, scales=dict(scales), left_out=len(odd) - len(deviations))


def _scale(true: Evaluated) -> float:
    stress = 0.0 if true.stress is None else _largest(true.stress)
    return max(1.0, float(np.sqrt(np.mean(true.forces**2))), stress)


def _deviations(found: Evaluated, true: Evaluated, n: int) -> dict[str, float]:
    deviations = {"energy": abs(found.energy - true.energy) / n, "forces": _largest(found.forces - true.forces)}
    if found.stress is not None and true.stress is not None:
        deviations["stress"] = _largest(found.stress - true.stress)
    return deviations


def _largest(difference: np.ndarray) -> float:
    return float(np.abs(difference).max())
