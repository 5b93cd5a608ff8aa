"""Steps beside nequip and mace-torch: the same weights, structures and threads, turn by turn, neighbour lists included."""

import gc
import json
import statistics
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from ase.io import read, write
from cpu import MACE, NEQUIP, Peer
from md_common import Figure, Options, step_on, structure

from equipot.ase import Calculator
from equipot.model import Potential
from equipot.model.importers import import_bundle

MODELS = {
    "nequip": ("nequip", {**NEQUIP, "l_max": 2, "parity": False}),
    "mace": ("mace", {**MACE, "hidden_irreps": "128x0e+128x1o"}),
}
TOLERANCE = 1e-4  # eV per atom and eV/Å, float32


class Ours:
    """equipot's calculator on the same structure; every round begins at the structure itself, so that all do the same work."""

    def __init__(self, bundle: Path, atoms: Atoms, engine: str):
        exact = import_bundle(bundle)[0]
        potential = Potential(exact.spec, dtype=torch.float32)
        potential.load_state_dict(exact.state_dict())
        self.start, self.atoms = atoms.copy(), atoms.copy()
        self.calculator = Calculator(potential.eval().requires_grad_(False), engine=engine)
        assert self.calculator.engine.name == engine
        self.n_steps, self._rng = 0, np.random.default_rng(0)

    def check(self, bundle: Path) -> tuple[float, float]:
        """Differences of the energy per atom and of forces from the peer's; raises AssertionError if they are too large."""
        theirs = np.load(f"{bundle}.prediction.npz")
        self.calculator.calculate(self.atoms, ["energy", "forces"])
        found = self.calculator.results
        errors = abs(found["energy"] - float(theirs["energy"].sum())) / len(self.atoms), np.abs(found["forces"] - theirs["forces"]).max()
        assert max(errors) < TOLERANCE, f"energy per atom and forces differ by {errors}"
        return tuple(map(float, errors))

    def steps(self, n: int) -> list[float]:
        """Times of n steps, ms."""
        times = []
        self.atoms.positions[:] = self.start.positions
        self.n_steps += n
        for _ in range(n):
            begin = time.perf_counter()
            step_on(self.atoms, self._rng)
            self.calculator.get_property("forces", self.atoms)  # as an integrator of ASE's asks
            times.append(1e3 * (time.perf_counter() - begin))
        return times


def beside(case: str, model: str, name: str, asked: float, options: Options) -> list[Figure]:
    """A row: the peer's time of a step over that of the native engine; means over a round, medians over rounds."""
    program, settings = MODELS[model]
    atoms, folder = structure(name), options.folder / case
    folder.mkdir(exist_ok=True)
    frames, bundle, job = folder / "frames.xyz", folder / "bundle.npz", folder / "job.json"
    write(frames, atoms, format="extxyz")
    if program == "nequip":
        symbols = sorted(set(atoms.symbols), key="HCNO".index)
        values = {"per_type_energy_scales": dict.fromkeys(symbols, 1.0), "per_type_energy_shifts": dict.fromkeys(symbols, -1.0)}
        settings = {**settings, **values}
    job.write_text(
        json.dumps({"settings": settings, "frames": str(frames), "bundle": str(bundle), "dtype": "float32", "threads": options.threads})
    )
    peer = Peer(program, job, options.threads, "md")
    native, with_torch = engines = [Ours(bundle, read(frames), engine) for engine in ("native", "torch")]
    errors = [ours.check(bundle) for ours in engines]
    large = len(atoms) > 1000
    gc.freeze()  # a simulation with the native engine has no torch in its process, whose objects Python searches for garbage now and then
    counts = (1, 2, 1) if options.quick else (2, 40, 2) if large else (5, 120, 10)
    for each, n in zip((peer, *engines), counts, strict=True):
        each.steps(n)  # warm
    rows = [
        [statistics.fmean(e.steps(n)) for e, n in zip((peer, native, with_torch), counts, strict=True)]
        for _ in range(1 if options.quick else options.rounds)
    ]
    peer.close()
    theirs, mine, torchs = (statistics.median(column) for column in zip(*rows, strict=True))
    ratios = [row[0] / row[1] for row in rows]
    builds = native.calculator.engine.neighbours.n_builds
    return [
        Figure(
            case,
            f"{name}, {len(atoms)} atoms, {peer.n_edges} edges: {program} {theirs:.1f} ms, equipot with torch {torchs:.2f} ms, native {mine:.3f} ms",
            theirs / mine,
            f"{theirs / mine:.1f}x ({min(ratios):.1f} to {max(ratios):.1f})",
            f"{asked:.0f}x",
            theirs / mine >= asked,
            {
                **{"peer_ms": theirs, "torch_ms": torchs, "native_ms": mine, "ratios": ratios, "edges": peer.n_edges, "atoms": len(atoms)},
                **{"difference_native_eV_per_atom_eV_per_A": errors[0], "steps_per_list": native.n_steps / max(1, builds)},
            },
        )
    ]


CASES = {
    "acac": partial(beside, "acac", "nequip", "acac", 50.0),
    "water-192": partial(beside, "water-192", "nequip", "water-192", 20.0),
    "water-1536": partial(beside, "water-1536", "nequip", "water-1536", 20.0),
    "mace-192": partial(beside, "mace-192", "mace", "water-192", 20.0),
}
