"""The section on the data: what a model was trained on, and how its labels are spread."""

import numpy as np

from equipot.analysis.report.blocks import Block, Facts, Note, Section, Table, number, significant
from equipot.analysis.report.content import Content, PredictedSet
from equipot.analysis.report.plots import distribution


def data(content: Content) -> Section | None:
    """What it was trained on, and the labels of every set."""
    blocks = _training_data(content) + (_spreads(content.sets) if content.sets else [])
    blocks += [Note(warning, "warn") for warning in content.warnings]
    return Section("data", "The data", blocks) if blocks else None


def _training_data(content: Content) -> list[Block]:
    known = content.provenance
    statistics = known.get("statistics") or {}
    if not statistics:
        return []
    facts = {
        "trained on": f"{known.get('n_train', '?')} structures, {known.get('n_validation', 0)} held for validation",
        "atoms": f"{statistics['n_atoms']:,} (" + ", ".join(f"{n:,} {s}" for s, n in statistics["atoms_by_element"].items()) + ")",
        "labels": f"{statistics['n_energies']} energies, {statistics['n_forces']} forces, {statistics['n_stresses']} stresses",
        "RMS force": f"{_say(statistics['rms_forces'])} eV/Å",
        "energy less E0": f"{_say(statistics['mean_interaction'])} ± {_say(statistics['std_interaction'])} eV per atom",
        "neighbours": f"{_say(statistics['mean_neighbours'])} within the cutoff, on average",
        "E0 from": str((known.get("references") or {}).get("kind", "")),
    }
    blocks: list[Block] = [Facts({k: v for k, v in facts.items() if v})]
    if statistics.get("min_distance"):
        rows = [[pair, number(distance, 4)] for pair, distance in statistics["min_distance"].items()]
        blocks.append(Table(["pair", "closest (Å)"], rows, "Below these distances the model has seen nothing."))
    if known.get("data"):
        blocks.append(Table(["file", "sha256"], [[name, digest[:16]] for name, digest in known["data"].items()]))
    return blocks


def _spreads(sets: list[PredictedSet]) -> list[Block]:
    """How the reference labels of the sets are spread, on top of each other."""
    energies, forces = [], []
    for s in sets:
        known = np.array([f.energy / f.n_atoms for f in s.frames if f.energy is not None and f.n_atoms])
        vectors = [np.linalg.norm(f.forces, axis=1) for f in s.frames if f.forces is not None]
        energies += [(s.name, known)] if len(known) else []
        forces += [(s.name, np.concatenate(vectors))] if vectors else []
    plots: list[Block] = []
    if energies:
        lowest = min(float(values.min()) for _, values in energies)
        shifted = [(name, 1000.0 * (values - lowest)) for name, values in energies]
        plots.append(distribution("data-energies", "Reference energies by set", shifted, "E − lowest, meV per atom"))
    if forces:
        plots.append(distribution("data-forces", "Reference forces by set", forces, "length of an atom's force, eV/Å"))
    return plots


def _say(value: float | None) -> str:
    return "unknown" if value is None else significant(value)
