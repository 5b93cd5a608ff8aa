"""The section on simulations: temperature, energy and pressure over time, and the atoms on their way."""

import numpy as np
from ase import Atoms, units

from equipot.analysis.report.blocks import Block, Note, Section, Table, Viewer, number
from equipot.analysis.report.content import Content, Simulation
from equipot.analysis.report.plots import lines
from equipot.analysis.report.structures import film


def dynamics(content: Content) -> Section | None:
    """Every simulation in the folder: one row of a table, its curves, and its film."""
    if not content.simulations:
        return None
    logged = [run for run in content.simulations if run.log]
    blocks: list[Block] = [_table(logged)] if logged else []
    for index, run in enumerate(content.simulations):
        blocks += _logged_curves(index, run) if run.log else _frame_curves(index, run)
        blocks += _film(index, run)
    return Section("dynamics", "Molecular dynamics", blocks)


def _logged_curves(index: int, run: Simulation) -> list[Block]:
    log, time = run.log, run.log["time_ps"]
    named = f"md-{index}"
    curves: list[Block] = [
        lines(f"{named}-temperature", f"{run.name}: temperature", [("temperature", time, log["temperature_K"])], "time, ps", "K")
    ]
    energy = log["total_eV_per_atom"]
    if np.isfinite(log.get("drift_meV_per_atom", np.array([np.nan]))).any():
        series, axis = [("drift", time, log["drift_meV_per_atom"])], "drift, meV per atom"
    else:
        series, axis = [("total energy", time, 1000.0 * (energy - energy[0]))], "E − E(0), meV per atom"
    curves.append(lines(f"{named}-energy", f"{run.name}: energy", series, "time, ps", axis))
    if np.isfinite(log.get("pressure_GPa", np.array([np.nan]))).any():
        curves.append(lines(f"{named}-pressure", f"{run.name}: pressure", [("pressure", time, log["pressure_GPa"])], "time, ps", "GPa"))
    return curves


def _frame_curves(index: int, run: Simulation) -> list[Block]:
    """What the frames of a trajectory without a log say of themselves."""
    number_of = np.array([atoms.info.get("frame", i) for i, atoms in enumerate(run.frames)], dtype=float)
    energy = np.array([_energy_per_atom(atoms) for atoms in run.frames])
    temperature = np.array([atoms.get_kinetic_energy() / (1.5 * units.kB * len(atoms)) for atoms in run.frames])
    curves: list[Block] = []
    if np.isfinite(energy).any():
        first = energy[np.isfinite(energy)][0]
        series = [("potential energy", number_of, 1000.0 * (energy - first))]
        curves.append(lines(f"md-{index}-energy", f"{run.name}: potential energy", series, "frame", "E − E(first), meV per atom"))
    if temperature.any():
        series = [("temperature", number_of, temperature)]
        curves.append(lines(f"md-{index}-temperature", f"{run.name}: temperature", series, "frame", "K"))
    return curves


def _energy_per_atom(atoms: Atoms) -> float:
    results = atoms.calc.results if atoms.calc is not None else {}
    return float(results.get("energy", np.nan)) / len(atoms)


def _film(index: int, run: Simulation) -> list[Block]:
    """The frames up to the first whose positions are not numbers, which is named."""
    sound = next((i for i, atoms in enumerate(run.frames) if not np.isfinite(atoms.positions).all()), len(run.frames))
    blocks: list[Block] = []
    if sound < len(run.frames):
        frame = run.frames[sound].info.get("frame", sound)
        blocks.append(Note(f"{run.name}: positions are not numbers from frame {frame} on: the run has exploded.", "warn"))
    scenes = film(run.frames[:sound], [_label(atoms, i) for i, atoms in enumerate(run.frames[:sound])])
    if scenes:
        caption = "An even choice of the frames; periodic structures are wrapped into the cell."
        blocks.append(Viewer(f"film-{index}", f"{run.name}: the atoms", scenes, animated=True, caption=caption))
    return blocks


def _label(atoms: Atoms, index: int) -> str:
    time = atoms.info.get("time_ps")
    return f"frame {atoms.info.get('frame', index)}" + (f", {float(time):.4g} ps" if time is not None else "")


def _table(simulations: list[Simulation]) -> Table:
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
