"""Steps of a simulation on a CPU: the native engine and torch against nequip and mace-torch, the same weights, structures and threads.

    make peers                       # their environments, once
    python benchmarks/md.py [--threads 1] [--cases nequip-l2 mace-128] [--structures acac water-192] [--rounds 5]

A step is a small displacement of all atoms, then energy and forces with a neighbour list: the peers search theirs every step, as their calculators do;
ours keeps a skin of 1 Å. Each peer runs in a process of its own environment (`benchmarks/peers`), writes its weights as a bundle, and does steps when
it is told to, turn by turn with equipot's engines. Before anything is timed the imported model must have the peer's energy and forces. A figure is the
median over all rounds, in ms; the ratio is peer / native. Needs an idle machine, and EQUIPOT_DATA (acetylacetone, water).
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from ase.io import read, write
from cpu import MACE, NEQUIP, Peer

from equipot.ase import Calculator
from equipot.data.readers import read_frames
from equipot.model import Potential
from equipot.model.importers import import_bundle

CASES = {
    "nequip-l2": ("nequip", {**NEQUIP, "l_max": 2, "parity": False}),
    "nequip-l2-parity": ("nequip", {**NEQUIP, "l_max": 2, "parity": True}),
    "mace-128": ("mace", {**MACE, "hidden_irreps": "128x0e+128x1o"}),
}
TOLERANCE = 1e-4  # eV per atom and eV/Å, float32


class Ours:
    """equipot's calculator on the same structure."""

    def __init__(self, bundle: Path, atoms: Atoms, engine: str):
        exact = import_bundle(bundle)[0]
        potential = Potential(exact.spec, dtype=torch.float32)
        potential.load_state_dict(exact.state_dict())
        self.atoms = atoms.copy()
        self.calculator = Calculator(potential.eval().requires_grad_(False), engine=engine)
        assert self.calculator.engine.name == engine
        self._rng = np.random.default_rng(0)

    def check(self, bundle: Path) -> None:
        """Same energy and forces as the peer."""
        theirs = np.load(f"{bundle}.prediction.npz")
        self.calculator.calculate(self.atoms, ["energy", "forces"])
        found = self.calculator.results
        errors = abs(found["energy"] - float(theirs["energy"].sum())) / len(self.atoms), np.abs(found["forces"] - theirs["forces"]).max()
        assert max(errors) < TOLERANCE, f"energy per atom and forces differ by {errors}"

    def steps(self, n: int) -> list[float]:
        """Times of n steps, ms."""
        times = []
        for _ in range(n):
            begin = time.perf_counter()
            self.atoms.positions += 0.003 * self._rng.normal(size=self.atoms.positions.shape)
            self.calculator.calculate(self.atoms, ["energy", "forces"])
            times.append(1e3 * (time.perf_counter() - begin))
        return times


def structure(name: str) -> Atoms:
    """acac: one molecule; water-N: liquid water, 192 atoms or that box repeated."""
    data = Path(os.environ["EQUIPOT_DATA"])
    if name == "acac":
        return next(atoms for atoms in read(data / "acac" / "train_300K.xyz", ":5") if len(atoms) > 1)
    water = next(frame.atoms() for frame in read_frames(str(data / "water_deepmd")))
    times = {"water-192": (1, 1, 1), "water-1536": (2, 2, 2)}[name]
    return water.repeat(times)


def run(case: str, name: str, threads: int, rounds: int) -> str:
    """A row of the table."""
    program, settings = CASES[case]
    atoms = structure(name)
    atoms.calc = None
    with tempfile.TemporaryDirectory() as folder:
        frames, bundle, job = Path(folder) / "frames.xyz", Path(folder) / "bundle.npz", Path(folder) / "job.json"
        write(frames, atoms, format="extxyz")
        if program == "nequip":
            symbols = sorted(set(atoms.symbols), key="HCNO".index)
            values = {"per_type_energy_scales": dict.fromkeys(symbols, 1.0), "per_type_energy_shifts": dict.fromkeys(symbols, -1.0)}
            settings = {**settings, **values}
        job.write_text(
            json.dumps({"settings": settings, "frames": str(frames), "bundle": str(bundle), "dtype": "float32", "threads": threads})
        )
        peer = Peer(program, job, threads, "md")
        engines = [Ours(bundle, read(frames), engine) for engine in ("native", "torch")]
        for ours in engines:
            ours.check(bundle)
        for each in (peer, *engines):
            each.steps(3)
        counts = (3, 30, 10) if len(atoms) < 1000 else (1, 5, 2)
        rows = [[statistics.median(e.steps(n)) for e, n in zip((peer, *engines), counts, strict=True)] for _ in range(rounds)]
        peer.close()
    theirs, native, with_torch = (statistics.median(column) for column in zip(*rows, strict=True))
    ratios = [row[0] / row[1] for row in rows]
    return (
        f"| {case} | {name} | {len(atoms)} | {theirs:.1f} | {with_torch:.2f} | {native:.3f} | "
        f"{theirs / native:.1f} ({min(ratios):.1f} to {max(ratios):.1f}) |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=["nequip-l2", "mace-128"])
    parser.add_argument("--structures", nargs="+", choices=["acac", "water-192", "water-1536"], default=["acac", "water-192"])
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    os.environ["OMP_NUM_THREADS"] = str(args.threads)  # of the native engine
    print(f"float32, {args.threads} threads, torch {torch.__version__}, load before {os.getloadavg()[0]:.1f}\n", flush=True)
    print(
        "| model | structure | atoms | peer, ms | equipot with torch, ms | native, ms | peer / native |\n|---|---|---|---|---|---|---|",
        flush=True,
    )
    for case in args.cases:
        for name in args.structures:
            print(run(case, name, args.threads, args.rounds), flush=True)


if __name__ == "__main__":
    main()
