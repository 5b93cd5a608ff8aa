"""What a check is, what it answers, and the list of all of them."""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from equipot.analysis.checks.context import Context
from equipot.errors import UserError

Kind = Literal["law", "behaviour"]


class NotApplicable(Exception):
    """A check has nothing to measure on here; says why."""


@dataclass(frozen=True)
class Finding:
    """What one check measured: it is passed where `value` ≤ `threshold`, so a value that is not a number never passes."""

    value: float
    threshold: float
    unit: str
    message: str
    details: dict[str, Any] = field(default_factory=dict)  # plain data for files and plots, e.g. curves


@dataclass(frozen=True)
class Result:
    """One line of the list. A law that fails means the model or the program is wrong; a behaviour that fails warns of the training."""

    name: str
    kind: Kind
    value: float
    threshold: float
    unit: str
    passed: bool
    message: str
    title: str = ""
    seconds: float = 0.0
    details: dict[str, Any] = field(default_factory=dict)
    skipped: bool = False  # nothing to measure on: neither good nor bad, counted as passed

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; a value that is not finite is None."""
        data = asdict(self)
        data["value"] = self.value if math.isfinite(self.value) else None
        data["threshold"] = self.threshold if math.isfinite(self.threshold) else None
        return data


@dataclass(frozen=True)
class Check:
    """A named measurement on a model; calling it gives a Result and never raises for what the model does wrong."""

    name: str
    kind: Kind
    title: str
    measure: Callable[[Context], Finding]

    def __call__(self, context: Context) -> Result:
        start, skipped = time.perf_counter(), False
        try:
            found = self.measure(context)
        except NotApplicable as reason:
            found, skipped = Finding(math.nan, math.nan, "", f"not measured: {reason}"), True
        except (RuntimeError, ValueError, ArithmeticError, UserError) as error:
            found = Finding(math.nan, 0.0, "", f"could not be measured: {' '.join(str(error).split())[:200]}")
        return Result(
            name=self.name,
            kind=self.kind,
            value=float(found.value),
            threshold=float(found.threshold),
            unit=found.unit,
            passed=skipped or bool(found.value <= found.threshold),
            skipped=skipped,
            message=found.message,
            title=self.title,
            seconds=time.perf_counter() - start,
            details=found.details,
        )


CHECKS: dict[str, Check] = {}
"""All checks by name, in the order they are run: laws first."""


def check(name: str, kind: Kind, title: str) -> Callable[[Callable[[Context], Finding]], Check]:
    """Decorator: registers a function (context) -> Finding as a check."""

    def register(measure: Callable[[Context], Finding]) -> Check:
        if name in CHECKS:
            raise ValueError(f"two checks are named {name}")
        CHECKS[name] = Check(name, kind, title, measure)
        return CHECKS[name]

    return register
