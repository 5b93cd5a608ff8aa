"""Sections on whether to trust the model: physics checks and dynamics."""

from typing import Any

import numpy as np

from equipot.analysis.report.blocks import Block, Cell, Note, Section, Table, number
from equipot.analysis.report.content import Content, Simulation
from equipot.analysis.report.plots import dimers, lines

VERDICTS = {(True, "law"): ("holds", "good"), (True, "behaviour"): ("fine", "good"), (False, "law"): ("broken", "bad")}
MEANING = (
    "Laws hold for any weights: a broken one is a defect. Behaviours tell of the training data: a warning is where not to trust the model."
)


def checks(content: Content) -> Section | None:
    """The list of checks and what they saw."""
    if not content.checks:
        return None
    blocks: list[Block] = [Note(MEANING), Table(["", "check", "value", "limit", "what was seen"], [_row(r) for r in content.checks])]
    details = {r["name"]: r.get("details") or {} for r in content.checks}
    curves = next((d["curves"] for d in details.values() if d.get("curves")), None)
    if curves:
        blocks.append(dimers("dimers", curves, "Dots: the closest such pair in the training data; left of it the model guesses."))
    total = np.array(details.get("energy drift", {}).get("total_energy", ()), dtype=float)
    if len(total) > 2:
        series = [("total energy", np.array(details["energy drift"]["time_fs"]), 1000.0 * (total - total[0]))]
        blocks.append(lines("check-drift", "Total energy in the check's NVE run", series, "time, fs", "E − E(0), meV"))
    return Section("checks", "Physics checks", blocks)


def _row(result: dict[str, Any]) -> list[Any]:
    word, style = VERDICTS.get((result["passed"], result["kind"]), ("warns", "warn"))
    value = number(result["value"], 2) if result["value"] is not None else Cell("none", float("inf"), "bad")
    limit = number(result["threshold"], 2)
    return [
        Cell(word, style=style),
        Cell(result["name"], detail=result["title"]),
        value,
        Cell(limit.text, limit.sort, detail=result["unit"]),
        result["message"],
    ]


def dynamics(content: Content) -> Section | None:
    """Temperature and energy of every simulation in the folder."""
    if not content.simulations:
        return None
    blocks: list[Block] = [_simulation_table(content.simulations)]
    for index, run in enumerate(content.simulations):
        log, time = run.log, run.log["time_ps"]
        blocks.append(
            lines(f"md-{index}-temperature", f"{run.name}: temperature", [("temperature", time, log["temperature_K"])], "time, ps", "K")
        )
        energy = log["total_eV_per_atom"]
        if np.isfinite(log.get("drift_meV_per_atom", np.array([np.nan]))).any():
            series, axis = [("drift", time, log["drift_meV_per_atom"])], "drift, meV per atom"
        else:
            series, axis = [("total energy", time, 1000.0 * (energy - energy[0]))], "E − E(0), meV per atom"
        blocks.append(lines(f"md-{index}-energy", f"{run.name}: energy", series, "time, ps", axis))
        if np.isfinite(log.get("pressure_GPa", np.array([np.nan]))).any():
            blocks.append(
                lines(f"md-{index}-pressure", f"{run.name}: pressure", [("pressure", time, log["pressure_GPa"])], "time, ps", "GPa")
            )
    return Section("dynamics", "Molecular dynamics", blocks)


def _simulation_table(simulations: list[Simulation]) -> Table:
    rows = []
    for run in simulations:
        time, temperature = run.log["time_ps"], run.log["temperature_K"]
        half = temperature[len(temperature) // 2 :]
        rows.append([run.name, number(float(time[-1])), number(float(half.mean()), 4), number(float(half.std())), number(run.drift, 2)])
    columns = ["run", "length (ps)", "mean T (K)", "spread of T (K)", "drift (meV/atom)"]
    caption = (
        "Temperature over the second half of each run. Drift: the conserved energy's mean over the second half less that over the first; "
    )
    return Table(columns, rows, caption + "a Langevin run conserves none.")
