"""The section on errors: tables, parity plots, distributions, the worst frames."""

import numpy as np
from ase.data import chemical_symbols

from equipot.analysis.report.blocks import Block, Cell, Section, Table, number
from equipot.analysis.report.content import Content, PredictedSet
from equipot.analysis.report.plots import histogram, parity
from equipot.analysis.report.worst import worst

QUANTITIES = (
    ("energy_per_atom", "energy", "meV/atom"),
    ("forces", "forces", "meV/Å"),
    ("stress", "stress", "meV/Å³"),
)


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
        blocks += _set_plots(content) + _element_plots(content.sets) + worst(content.sets)
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


def _set_plots(content: Content) -> list[Block]:
    """Parity and spread of the errors, side by side: of energies and of force components, a colour for each set."""
    energies, forces = [], []
    for s in content.sets:
        if any(f.energy is not None for f in s.frames):
            energies.append((s.name, *_energies(content, s)))
        reference, predicted, _ = _forces(s)
        if len(reference):
            forces.append((s.name, reference.ravel(), predicted.ravel()))
    thinned = [f"{len(s.frames)} of {s.n_all} structures of {s.name}" for s in content.sets if len(s.frames) < s.n_all]
    plots: list[Block] = []
    if energies:
        what = "E − Σ E0, eV per atom" if content.potential is not None else "eV per atom"
        plots.append(parity("parity-energy", "Energies", energies, what, f"An even choice: {'; '.join(thinned)}." if thinned else ""))
        plots.append(histogram("errors-energy", "Energy errors by set", _differences(energies), "error, meV per atom"))
    if forces:
        plots.append(parity("parity-forces", "Force components", forces, "eV/Å", "The worst components and an even choice of the others."))
        plots.append(histogram("errors-forces", "Force errors by set", _differences(forces), "error, meV/Å"))
    return plots


def _element_plots(sets: list[PredictedSet]) -> list[Block]:
    """The same of the force components of every set, a colour for each element."""
    plots: list[Block] = []
    for index, s in enumerate(sets):
        reference, predicted, numbers = _forces(s)
        if len(reference):
            of = [(chemical_symbols[z], reference[numbers == z].ravel(), predicted[numbers == z].ravel()) for z in np.unique(numbers)]
            plots.append(parity(f"parity-forces-{index}", f"Force components by element: {s.name}", of, "eV/Å"))
            plots.append(histogram(f"errors-forces-{index}", f"Force errors by element: {s.name}", _differences(of), "error, meV/Å"))
    return plots


def _differences(series: list[tuple[str, np.ndarray, np.ndarray]]) -> list[tuple[str, np.ndarray]]:
    """Predicted less reference, in thousandths."""
    return [(name, 1000.0 * (predicted - reference)) for name, reference, predicted in series]


def _energies(content: Content, s: PredictedSet) -> tuple[np.ndarray, np.ndarray]:
    """Reference and predicted energies per atom of the labelled frames, less Σ E0 where the model is known."""
    pairs = [(f, p) for f, p in zip(s.frames, s.predictions, strict=True) if f.energy is not None]
    base = np.array([_reference(content, f.numbers) for f, _ in pairs])
    sizes = np.array([f.n_atoms for f, _ in pairs])
    return (np.array([f.energy for f, _ in pairs]) - base) / sizes, (np.array([p["energy"] for _, p in pairs]) - base) / sizes


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
