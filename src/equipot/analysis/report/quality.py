"""Sections on how good the model is: errors, checks, dynamics."""

import numpy as np
from ase.data import chemical_symbols

from equipot.analysis.report.blocks import Block, Cell, Note, Section, Table, number
from equipot.analysis.report.content import Content, PredictedSet, Simulation
from equipot.analysis.report.plots import dimers, histogram, lines, parity

N_WORST = 10
QUANTITIES = (
    ("energy_per_atom", "energy", "meV/atom"),
    ("forces", "forces", "meV/Å"),
    ("stress", "stress", "meV/Å³"),
)
VERDICTS = {(True, "law"): ("holds", "good"), (True, "behaviour"): ("fine", "good"), (False, "law"): ("broken", "bad")}


def errors(content: Content) -> Section | None:
    """Tables of errors, parity plots and distributions."""
    measures = all_errors(content)
    if not measures:
        return None
    blocks: list[Block] = [_error_table(measures)]
    elements = _element_table(measures)
    kinds = _kind_table(measures)
    blocks += [table for table in (elements, kinds) if table is not None]
    if content.sets:
        blocks += _parity_plots(content) + _histograms(content.sets)
        blocks.append(_worst(content.sets))
    return Section("errors", "Errors", blocks)


def all_errors(content: Content) -> dict[str, dict]:
    """Errors by set: those of the whole sets where a file has them, else those of the frames predicted here."""
    computed = {s.name: s.evaluation.to_dict() for s in content.sets}
    return computed | content.errors


def _error_table(measures: dict[str, dict]) -> Table:
    present = [q for q in QUANTITIES if any(f"{q[0]}_mae" in m for m in measures.values())]
    columns = ["set", "structures", *(f"{label} {kind} ({unit})" for _, label, unit in present for kind in ("MAE", "RMSE"))]
    rows = [
        [name, m["n_structures"], *(_milli(m.get(f"{q}_{kind}")) for q, _, _ in present for kind in ("mae", "rmse"))]
        for name, m in measures.items()
    ]
    return Table(columns, rows, "Errors of every set. Forces and stress per component.")


def _element_table(measures: dict[str, dict]) -> Table | None:
    elements = list(dict.fromkeys(e for m in measures.values() for e in m.get("per_element") or {}))
    rows = []
    for name, set_measures in measures.items():
        found = set_measures.get("per_element") or {}
        if found:
            rows.append([name, *(_milli(found.get(e, {}).get(f"forces_{kind}")) for e in elements for kind in ("mae", "rmse"))])
    columns = ["set", *(f"{e} {kind}" for e in elements for kind in ("MAE", "RMSE"))]
    return Table(columns, rows, "Forces by element, meV/Å.") if rows else None


def _kind_table(measures: dict[str, dict]) -> Table | None:
    rows = []
    for name, set_measures in measures.items():
        kinds = set_measures.get("per_config_type") or {}
        if len(kinds) > 1:
            for kind, m in kinds.items():
                errors = [_milli(m.get(f"{q}_rmse")) for q in ("energy_per_atom", "forces")]
                rows.append([name, kind, m["n_structures"], *errors])
    columns = ["set", "config_type", "structures", "energy per atom RMSE (meV)", "forces RMSE (meV/Å)"]
    return Table(columns, rows, "By config_type.") if rows else None


def _milli(value: float | None) -> Cell:
    return number(None if value is None else 1000.0 * value)


def _parity_plots(content: Content) -> list[Block]:
    energy, forces = [], []
    for s in content.sets:
        pairs = [(f, p) for f, p in zip(s.frames, s.predictions, strict=True) if f.energy is not None]
        if pairs:
            base = [_reference(content, f.numbers) for f, _ in pairs]
            sizes = np.array([f.n_atoms for f, _ in pairs])
            both = [
                np.array(v) for v in zip(*((f.energy - b, p["energy"] - b) for (f, p), b in zip(pairs, base, strict=True)), strict=True)
            ]
            energy.append((s.name, both[0] / sizes, both[1] / sizes))
        reference, predicted, _ = _forces(s)
        if len(reference):
            forces.append((s.name, reference.ravel(), predicted.ravel()))
    what = "E − Σ E0, eV per atom" if content.potential is not None else "eV per atom"
    thinned = [f"{len(s.frames)} of {s.n_all} structures of {s.name}" for s in content.sets if len(s.frames) < s.n_all]
    caption = f"An even choice: {'; '.join(thinned)}." if thinned else ""
    plots: list[Block] = []
    if energy:
        plots.append(parity("parity-energy", "Energies", energy, what, caption))
    if forces:
        plots.append(parity("parity-forces", "Force components", forces, "eV/Å", "The worst components and an even choice of the others."))
    return plots


def _histograms(sets: list[PredictedSet]) -> list[Block]:
    plots: list[Block] = []
    energy = []
    for s in sets:
        error = [
            1000.0 * (p["energy"] - f.energy) / f.n_atoms for f, p in zip(s.frames, s.predictions, strict=True) if f.energy is not None
        ]
        if error:
            energy.append((s.name, np.array(error)))
    if energy:
        plots.append(histogram("errors-energy", "Energy errors by set", energy, "error, meV per atom"))
    for index, s in enumerate(sets):
        reference, predicted, numbers = _forces(s)
        if len(reference):
            error = 1000.0 * (predicted - reference)
            series = [(chemical_symbols[z], error[numbers == z].ravel()) for z in np.unique(numbers)]
            plots.append(histogram(f"errors-forces-{index}", f"Force errors by element: {s.name}", series, "error, meV/Å"))
    return plots


def _worst(sets: list[PredictedSet]) -> Table:
    found = []
    for s in sets:
        for frame, prediction in zip(s.frames, s.predictions, strict=True):
            if frame.forces is not None:
                error = 1000.0 * np.linalg.norm(prediction["forces"] - frame.forces, axis=1)
                atom = int(np.argmax(error))
                where = f"atom {atom} ({chemical_symbols[frame.numbers[atom]]})"
                found.append(
                    (
                        float(error[atom]),
                        [
                            s.name,
                            frame.source.rpartition("/")[2],
                            where,
                            number(float(error[atom])),
                            number(float(np.sqrt((error**2).mean() / 3))),
                        ],
                    )
                )
    found.sort(key=lambda pair: -pair[0])
    columns = ["set", "frame", "worst atom", "off by (meV/Å)", "frame RMSE (meV/Å)"]
    return Table(columns, [row for _, row in found[:N_WORST]], "The frames with the worst forces, to be looked at.")


def _forces(s: PredictedSet) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Reference and predicted forces (n, 3) and atomic numbers (n,) of all labelled frames."""
    labelled = [(f, p) for f, p in zip(s.frames, s.predictions, strict=True) if f.forces is not None]
    if not labelled:
        return np.empty((0, 3)), np.empty((0, 3)), np.empty(0, dtype=int)
    return tuple(np.concatenate(parts) for parts in zip(*((f.forces, p["forces"], f.numbers) for f, p in labelled), strict=True))


def _reference(content: Content, numbers: np.ndarray) -> float:
    """Σ E0, or zero where the model is not there."""
    if content.potential is None:
        return 0.0
    e0 = dict(zip(content.potential.spec.elements, content.potential.e0.tolist(), strict=True))
    return float(sum(e0[z] for z in numbers))


def checks(content: Content) -> Section | None:
    """The list of checks and what they saw."""
    if not content.checks:
        return None
    rows = []
    for r in content.checks:
        word, style = VERDICTS.get((r["passed"], r["kind"]), ("warns", "warn"))
        value = number(r["value"], 2) if r["value"] is not None else Cell("none", float("inf"), "bad")
        rows.append(
            [Cell(word, style=style), r["name"], r["title"], value, number(r["threshold"], 2), Cell(r["unit"], style="dim"), r["message"]]
        )
    columns = ["", "check", "what must hold", "value", "limit", "unit", "what was seen"]
    blocks: list[Block] = [
        Note(
            "Laws hold for any weights: a broken one is a defect. Behaviours tell of the training data: a warning is where not to trust the model."
        )
    ]
    blocks.append(Table(columns, rows))
    curves = next((r["details"]["curves"] for r in content.checks if r.get("details", {}).get("curves")), None)
    if curves:
        blocks.append(dimers("dimers", curves, "Dots: the closest such pair in the training data; left of it the model guesses."))
    drift = next(
        (r["details"] for r in content.checks if r["name"] == "energy drift" and len(r.get("details", {}).get("total_energy", ())) > 2),
        None,
    )
    if drift:
        energy = np.array(drift["total_energy"], dtype=float)
        series = [("total energy", np.array(drift["time_fs"]), 1000.0 * (energy - energy[0]))]
        blocks.append(lines("check-drift", "Total energy in the check's NVE run", series, "time, fs", "E − E(0), meV"))
    return Section("checks", "Physics checks", blocks)


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
        log = run.log
        half = log["temperature_K"][len(log["temperature_K"]) // 2 :]
        drift = log.get("drift_meV_per_atom", np.array([np.nan]))
        rows.append(
            [
                run.name,
                number(float(log["time_ps"][-1]), 4),
                number(float(half.mean()), 4),
                number(float(half.std()), 3),
                number(float(drift[-1]), 2),
            ]
        )
    columns = ["run", "length (ps)", "mean T (K)", "spread of T (K)", "drift (meV/atom)"]
    return Table(
        columns, rows, "Temperature over the second half of each run; drift of the conserved energy, which a Langevin run has not."
    )
