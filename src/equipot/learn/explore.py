"""Molecular dynamics with an ensemble that watches its own spread: samples on the way, and the end where it knows too little."""

import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ase import Atoms

from equipot.data.frame import Frame
from equipot.errors import UserError
from equipot.interfaces.ase_calculator import Calculator
from equipot.interfaces.integrators import build_integrator
from equipot.interfaces.md_settings import MDSettings
from equipot.interfaces.velocities import set_start_velocities, temperature_of
from equipot.learn.config import ExploreConfig
from equipot.whole_file import write_whole

log = logging.getLogger("equipot.learn")
FINISHED, UNSURE, BLOWN_UP = "finished", "unsure", "blown up"


class Walk(NamedTuple):
    """One trajectory: its samples, why it ended, the step at which it did, and the largest spread on the way, eV/Å."""

    samples: list[
        dict[str, Any]
    ]  # step, temperature (K), energy and energy_std (eV), forces_std (eV/Å, of the atom where it is largest), structure
    ended: str
    steps: int
    largest: float


def explore(model: Path, starts: Sequence[Frame], options: ExploreConfig, seed: Sequence[int], device: str, folder: Path) -> list[Walk]:
    """The walks of a round, of `options.walkers` walkers in turn; kept in `folder`, each is walked again only for another model or other settings.

    Walker i starts from a structure drawn without replacement from `starts` (again from all, when there are more walkers), at the temperature that
    is its turn, with velocities of its own: all drawn from `seed`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    order = np.concatenate([rng.permutation(len(starts)) for _ in range(-(-options.walkers // len(starts)))])
    seeds = rng.integers(2**31, size=options.walkers).tolist()
    calculator, walks, digest = None, [], hashlib.sha256(model.read_bytes()).hexdigest()
    for i in range(options.walkers):
        file = folder / f"{i:04d}.json"
        given = starts[order[i]], options, options.temperature_of(i), seeds[i]
        mark = _mark(digest, *given)
        found = _kept(file, mark)
        if found is None:
            calculator = calculator or Calculator(model, device=device)
            found = walk(calculator, *given)
            write_whole(file, json.dumps({"mark": mark, **found._asdict()}).encode())
        walks.append(found)
        log.info("walker %d of %d: %s after %d steps, largest spread %.3g eV/Å", i + 1, options.walkers, *walks[-1][1:])
    return walks


def walk(calculator: Calculator, start: Frame, options: ExploreConfig, temperature: float, seed: int) -> Walk:
    """One trajectory: until its last step, the first at which the spread is above the limit, or where the dynamics blows up.

    Where it ends early, the step before is a sample too: the structure at the edge of what the ensemble knows.
    """
    settings = MDSettings(
        ensemble=options.ensemble,
        steps=options.steps,
        timestep=options.timestep,
        temperature=temperature,
        friction=options.friction,
        tau=options.tau,
        velocities="draw",
        seed=seed,
    )
    atoms = Atoms(numbers=start.numbers, positions=start.positions, cell=start.cell, pbc=start.pbc, calculator=calculator)
    rng = np.random.default_rng(seed)
    n_dof = set_start_velocities(atoms, settings, rng).n_dof
    dynamics = build_integrator(atoms, settings, n_dof, rng)
    samples, largest, step, last = [], 0.0, 0, None
    ended = FINISHED
    try:
        for _ in dynamics.irun(options.steps):
            step = dynamics.nsteps
            spread, kelvin = float(calculator.results["forces_std"].max()), temperature_of(atoms, n_dof)
            largest = max(largest, spread)
            if spread > options.limit or kelvin > settings.temperature_limit:
                ended = UNSURE if spread > options.limit else BLOWN_UP
                break
            last = _sample(atoms, calculator, step, kelvin, spread)
            if step and step % options.interval == 0:
                samples.append(last)
    except UserError as error:  # energies that are not finite, atoms on one another
        log.debug("%s", error)
        ended = BLOWN_UP
    if ended != FINISHED and last is not None and last["step"] and last not in samples[-1:]:
        samples.append(last)
    return Walk(samples, ended, step, largest)


def _mark(model: str, start: Frame, options: ExploreConfig, temperature: float, seed: int) -> str:
    """A hash of all that a walk depends on; `model` is that of the model's file."""
    settings = options.model_dump(mode="json", exclude={"structures", "walkers", "temperature", "threshold", "stop"})
    structure = [getattr(start, name).tolist() for name in ("numbers", "positions", "cell", "pbc")]
    return hashlib.sha256(json.dumps([model, structure, settings, options.limit, temperature, seed], sort_keys=True).encode()).hexdigest()


def _kept(file: Path, mark: str) -> Walk | None:
    """The walk in a file; None where there is none, or another."""
    if not file.is_file():
        return None
    found = json.loads(file.read_text())
    return Walk(**found) if found.pop("mark", None) == mark else None


def _sample(atoms: Atoms, calculator: Calculator, step: int, kelvin: float, spread: float) -> dict[str, Any]:
    structure = {name: getattr(atoms, name).tolist() for name in ("numbers", "positions", "pbc")} | {"cell": atoms.cell.array.tolist()}
    energy, deviation = float(calculator.results["energy"]), float(calculator.results["energy_std"])
    return {"step": step, "temperature": kelvin, "energy": energy, "energy_std": deviation, "forces_std": spread, "structure": structure}


def candidates(walks: Sequence[Walk], threshold: float, number: int) -> list[Frame]:
    """The samples whose spread is above the threshold, eV/Å, as frames without labels that say where they come from; `number` is the round's."""
    found = []
    for i, one in enumerate(walks):
        for sample in one.samples:
            if sample["forces_std"] <= threshold:
                continue
            structure = sample["structure"]
            info = {"round": number, "walker": i, "predicted_energy": sample["energy"]}
            info |= {name: sample[name] for name in ("step", "temperature", "energy_std", "forces_std")}
            found.append(
                Frame(
                    numbers=np.array(structure["numbers"], dtype=np.int64),
                    positions=np.array(structure["positions"], dtype=np.float64),
                    cell=np.array(structure["cell"], dtype=np.float64).reshape(3, 3),
                    pbc=np.array(structure["pbc"], dtype=bool),
                    config_type=f"round-{number}",
                    info=info,
                    source=f"round {number}, walker {i}, step {sample['step']}",
                )
            )
    return found
