"""results.parquet: what a study measured, a row per run, set and measure. pandas and pyarrow are used through this file."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from equipot.errors import UserError
from equipot.study.measured import COST, PROBE
from equipot.study.plan import Plan, Run, read_plan, run_folder
from equipot.study.state import FAILED, missing_sets, read_status
from equipot.whole_file import write_whole

if TYPE_CHECKING:
    import pandas

RESULTS = "results.parquet"
COLUMNS = {
    "run": "str",
    "variant": "str",
    "size": "int64",
    "seed": "int64",
    "set": "str",
    "domain": "str",
    "measure": "str",
    "value": "float64",
    "unit": "str",
    "status": "str",
    "reason": "str",
}
UNITS = {"energy": "eV", "energy_per_atom": "eV", "forces": "eV/Å", "stress": "eV/Å³"}
COST_UNITS = {"train_seconds": "s", "inference_us_per_atom": "us/atom"}


def require_pandas() -> None:
    """Raises UserError where results cannot be written."""
    try:
        import pandas  # noqa: F401
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"a study keeps its results with pandas and pyarrow, and {error.name} is missing: pip install 'equipot[study]'"
        ) from None


def gather(out: Path) -> "pandas.DataFrame":
    """Write and return what the runs in the folder of a study have measured so far; runs that are not finished are not in it."""
    import pandas

    plan = read_plan(out)
    if plan is None:
        raise UserError(f"{out}: holds no plan of a study: start it with `equipot study`")
    rows = [row for run in plan.runs for row in _rows(plan, run, read_status(run_folder(out, run)))]
    table = pandas.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    write_whole(out / RESULTS, buffer.getvalue())
    return table


def read_results(out: Path) -> "pandas.DataFrame":
    """results.parquet in the folder of a study. Raises UserError where there is none."""
    import pandas

    if not (out / RESULTS).is_file():
        raise UserError(f"{out}: there is no {RESULTS}: `equipot study` writes it")
    return pandas.read_parquet(out / RESULTS)


def _rows(plan: Plan, run: Run, status: dict[str, Any]) -> Iterator[dict[str, Any]]:
    head = {"run": run.name, "variant": run.variant, "size": run.size, "seed": run.seed}
    if status.get("status") == FAILED:
        yield head | _failed("", status["reason"])
        return
    if not status.get("trained"):
        return
    missing = missing_sets(plan, status)
    for name, definition in plan.evaluate.items():
        if name in missing:  # or measured on what the name stood for before
            continue
        found = status.get("sets", {}).get(name, {})
        for measure, value in found.get("measures", {}).items():
            quantity = measure.rpartition("_")[0]
            if quantity in UNITS and _wanted(quantity, definition["labels"]):
                yield head | _measured(name, definition["kind"], measure, value, UNITS[quantity])
    for measure, value in status.get("cost", {}).items():
        yield head | _measured(COST, "", measure, value, COST_UNITS.get(measure, ""))
    for name in plan.probes:
        found = status.get("probes", {}).get(name, {})
        if found.get("definition") != plan.probes[name]:
            continue
        if "failed" in found:
            yield head | _failed(PROBE + name, found["failed"])
        for measure, (value, unit) in found.get("measures", {}).items():
            yield head | _measured(PROBE + name, "", measure, value, unit)


def _wanted(quantity: str, labels: list[str] | None) -> bool:
    return labels is None or quantity.removesuffix("_per_atom") in labels


def _measured(where: str, domain: str, measure: str, value: float, unit: str) -> dict[str, Any]:
    return {"set": where, "domain": domain, "measure": measure, "value": float(value), "unit": unit, "status": "done", "reason": ""}


def _failed(where: str, reason: str) -> dict[str, Any]:
    return {"set": where, "domain": "", "measure": "", "value": float("nan"), "unit": "", "status": FAILED, "reason": reason}
