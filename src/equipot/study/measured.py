"""The rows of results.parquet, as tables and plots ask for them."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from equipot.study.state import DONE, FAILED

COST, PROBE = "cost", "probe:"
IN_DOMAIN, OUT_OF_DOMAIN = "in-domain", "out-of-domain"


@dataclass(frozen=True)
class Row:
    """One measure of one run on one set; a failed run or probe has a row without a measure, with its reason."""

    run: str
    variant: str
    size: int
    seed: int
    set: str = ""
    domain: str = ""
    measure: str = ""
    value: float = float("nan")
    unit: str = ""
    status: str = DONE
    reason: str = ""


class Measured:
    """All rows of a study. Variants and sets keep the order in which they appear, sizes and seeds are sorted."""

    def __init__(self, rows: Iterable[Row]):
        self.rows = list(rows)
        self._index: dict[tuple[str, str, str, int], dict[int, float]] = {}
        for row in self.rows:
            if row.status != FAILED and row.measure and row.value == row.value:
                self._index.setdefault((row.set, row.measure, row.variant, row.size), {})[row.seed] = row.value

    @classmethod
    def from_records(cls, records: Iterable[dict[str, Any]]) -> "Measured":
        """From rows as dicts, such as `DataFrame.to_dict("records")`; what is missing is empty."""
        kinds = {"size": int, "seed": int, "value": float}
        known = Row.__dataclass_fields__

        def plain(key: str, value: Any) -> Any:
            if key == "value":
                return float("nan") if value is None else float(value)
            return kinds.get(key, str)(value) if value is not None and value == value else ""

        return cls(Row(**{k: plain(k, v) for k, v in record.items() if k in known}) for record in records)

    @cached_property
    def variants(self) -> list[str]:
        return list(dict.fromkeys(r.variant for r in self.rows))

    @cached_property
    def sizes(self) -> list[int]:
        return sorted({r.size for r in self.rows})

    @cached_property
    def seeds(self) -> list[int]:
        return sorted({r.seed for r in self.rows})

    @cached_property
    def runs(self) -> list[str]:
        return list(dict.fromkeys(r.run for r in self.rows))

    @cached_property
    def sets(self) -> dict[str, str]:
        """Evaluation sets and their domains, in-domain first."""
        found = {r.set: r.domain for r in self.rows if r.set and r.set != COST and not r.set.startswith(PROBE) and r.status != FAILED}
        return dict(sorted(found.items(), key=lambda item: item[1] == OUT_OF_DOMAIN))

    @cached_property
    def probes(self) -> list[str]:
        """Names of the probes, without the prefix."""
        return list(dict.fromkeys(r.set.removeprefix(PROBE) for r in self.rows if r.set.startswith(PROBE)))

    @property
    def failures(self) -> list[Row]:
        return [r for r in self.rows if r.status == FAILED]

    @cached_property
    def units(self) -> dict[str, str]:
        """The unit of every measure."""
        return {r.measure: r.unit for r in self.rows if r.measure}

    def measures(self, where: str) -> list[str]:
        """The measures of a set, in order of appearance."""
        return list(dict.fromkeys(r.measure for r in self.rows if r.set == where and r.measure))

    def values(self, where: str, measure: str, variant: str, size: int) -> dict[int, float]:
        """seed -> value; empty where nothing was measured. Values that are not numbers are left out."""
        return self._index.get((where, measure, variant, size), {})

    def by_variant(self, where: str, measure: str, size: int) -> dict[str, list[float]]:
        """variant -> values over seeds, of the variants that have any."""
        found = {v: list(self.values(where, measure, v, size).values()) for v in self.variants}
        return {v: values for v, values in found.items() if values}

    def curve(self, where: str, measure: str, variant: str) -> dict[int, dict[int, float]]:
        """seed -> size -> value."""
        found: dict[int, dict[int, float]] = {}
        for size in self.sizes:
            for seed, value in self.values(where, measure, variant, size).items():
                found.setdefault(seed, {})[size] = value
        return found
