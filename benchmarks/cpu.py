"""Training steps on a CPU against nequip and mace-torch: the same weights, batch, loss, optimiser and threads, neighbour lists out of both.

    make peers                       # their environments, once
    python benchmarks/cpu.py [--threads 2] [--cases nequip-l2 …] [--rounds 5]

Each peer runs in a process of its own environment (`benchmarks/peers`), writes its weights as a bundle, and does steps when it is told to, turn by turn
with equipot's. Before anything is timed the imported model must have the peer's number of edges, energies and forces. A figure is the median over all
rounds, in ms; the ratio is peer / equipot, with the smallest and largest ratio of a round. Needs an idle machine, and EQUIPOT_DATA (acetylacetone).
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from ase.io import read, write

from equipot.data.dataset import DataSet, collate_indexed
from equipot.data.labels import Keys
from equipot.data.readers import read_frames
from equipot.data.units import Units
from equipot.model import Potential, predict
from equipot.model.importers import import_bundle
from equipot.train.config import RunConfig
from equipot.train.module import TrainingModule
from equipot.train.steady import steady_memory

HERE = Path(__file__).parent
PEERS = Path(os.environ.get("EQUIPOT_PEERS", HERE.parent / ".peers"))
NEQUIP = {
    **{"r_max": 5.0, "num_layers": 4, "num_features": 32, "radial_mlp_depth": 2, "radial_mlp_width": 64, "num_bessels": 8},
    **{"polynomial_cutoff_p": 6, "avg_num_neighbors": 12.0},
}
MACE = {
    **{"r_max": 5.0, "num_bessel": 8, "num_polynomial_cutoff": 5, "max_ell": 3, "correlation": 3, "num_interactions": 2, "gate": "silu"},
    **{"interaction": "RealAgnosticResidualInteractionBlock", "interaction_first": "RealAgnosticResidualInteractionBlock"},
    **{"avg_num_neighbors": 12.0, "radial_MLP": [64, 64, 64], "MLP_irreps": "16x0e", "atomic_inter_scale": 1.0, "atomic_inter_shift": 0.0},
}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "nequip-l2": ("nequip", {**NEQUIP, "l_max": 2, "parity": False}),
    "nequip-l2-parity": ("nequip", {**NEQUIP, "l_max": 2, "parity": True}),
    "nequip-l3-parity": ("nequip", {**NEQUIP, "l_max": 3, "parity": True}),
    "mace-32": ("mace", {**MACE, "hidden_irreps": "32x0e+32x1o"}),
    "mace-128": ("mace", {**MACE, "hidden_irreps": "128x0e+128x1o"}),
}
TOLERANCE = 2e-4  # eV per structure and eV/Å, float32


class Peer:
    """A process of another program that does training steps."""

    def __init__(self, program: str, job: Path, threads: int, script: str = "steps"):
        python = PEERS / program / "bin" / "python"
        if not python.exists():
            raise SystemExit(f"{python} is not there: run `make peers` first, or set EQUIPOT_PEERS to the folder of the environments")
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"}
        environment.pop("PYTHONPATH", None)
        command = [str(python), "-W", "ignore", str(HERE / "peers" / f"{program}_{script}.py"), str(job)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        self.n_edges = self._answer()["n_edges"]

    def _answer(self) -> dict[str, Any]:
        for line in self.process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise SystemExit("the peer's process ended: see its message above")

    def steps(self, n: int) -> list[float]:
        """Times of n steps, ms."""
        self.process.stdin.write(f"{n}\n")
        self.process.stdin.flush()
        answer = self._answer()
        self.base_mib, self.peak_mib = answer["base_kib"] / 1024, answer["peak_kib"] / 1024
        return answer["ms"]

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


class Ours:
    """equipot's training step on the same batch."""

    def __init__(self, bundle: Path, frames: Path, n: int):
        exact = import_bundle(bundle)[0]
        potential = Potential(exact.spec, dtype=torch.float32)
        potential.load_state_dict(exact.state_dict())
        config = RunConfig.model_validate(
            {
                **{"name": "benchmark", "model": {"preset": "nequip"}, "data": {"train": str(frames)}, "out": "unused"},
                **{"loss": {"energy": 1.0, "forces": 10.0}, "train": {"batch_size": n, "learning_rate": 1e-6, "optimizer": "adam"}},
            }
        )
        dataset = DataSet(read_frames(str(frames), Keys(), Units()), list(exact.spec.elements), exact.spec.cutoff)
        self.batch = collate_indexed([dataset[i] for i in range(n)])
        self.module = TrainingModule(potential, config, 1)
        self.module.clock.start()

    def check(self, peer: Peer, bundle: Path) -> None:
        """Same edges, energies and forces."""
        found, theirs = predict(self.module.potential, self.batch[0]), np.load(f"{bundle}.prediction.npz")
        assert self.batch[0].n_edges == peer.n_edges, f"{self.batch[0].n_edges} edges, the peer has {peer.n_edges}"
        n = torch.bincount(self.batch[0].structure).numpy()
        errors = np.abs((found.energy.numpy() - theirs["energy"]) / n).max(), np.abs(found.forces.numpy() - theirs["forces"]).max()
        assert max(errors) < TOLERANCE, f"energies per atom and forces differ by {errors}"

    def steps(self, n: int) -> list[float]:
        times = []
        for _ in range(n):
            begin = time.perf_counter()
            self.module.training_step(self.batch, 0)
            times.append(1e3 * (time.perf_counter() - begin))
        return times


class Row(NamedTuple):
    """Median ms per step."""

    case: str
    batch: int
    edges: int
    peer: float
    ours: float
    low: float
    high: float
    peer_mib: float

    def __str__(self) -> str:
        ratio = f"{self.peer / self.ours:.1f} ({self.low:.1f} to {self.high:.1f})"
        return f"| {self.case} | {self.batch} | {self.edges} | {self.peer:.1f} | {self.ours:.1f} | {ratio} | {self.peer_mib:.0f} |"


def frames_of(n: int, path: Path) -> None:
    """n frames of acetylacetone at 300 K as extended XYZ with energy and forces, over and over again beyond some two hundred."""
    source = Path(os.environ["EQUIPOT_DATA"]) / "acac" / "train_300K.xyz"
    frames = [atoms for atoms in read(source, ":200") if len(atoms) > 1]
    write(path, [frames[i % len(frames)] for i in range(n)], format="extxyz")


def job_of(name: str, n: int, folder: Path, threads: int) -> tuple[str, Path, Path, Path]:
    """The program, the frames, where it will write its bundle, and its job."""
    program, settings = CASES[name]
    frames, bundle, job = folder / f"frames{n}.xyz", folder / "bundle.npz", folder / "job.json"
    frames_of(n, frames)
    if program == "nequip":
        symbols = sorted({s for atoms in read(frames, ":") for s in atoms.symbols}, key="HCNO".index)
        settings = {
            **settings,
            "per_type_energy_scales": dict.fromkeys(symbols, 1.0),
            "per_type_energy_shifts": dict.fromkeys(symbols, -1.0),
        }
    content = {"settings": settings, "frames": str(frames), "bundle": str(bundle), "dtype": "float32", "threads": threads}
    job.write_text(json.dumps(content))
    return program, frames, bundle, job


def run(name: str, n: int, threads: int, rounds: int) -> Row:
    """One case, in turns."""
    with tempfile.TemporaryDirectory() as folder:
        program, frames, bundle, job = job_of(name, n, Path(folder), threads)
        peer = Peer(program, job, threads)
        ours = Ours(bundle, frames, n)
        ours.check(peer, bundle)
        with steady_memory():
            for each in (peer, ours):
                each.steps(5)
            n_theirs, n_ours = max(3, 60 // n), max(6, 200 // n)
            pairs = [(statistics.median(peer.steps(n_theirs)), statistics.median(ours.steps(n_ours))) for _ in range(rounds)]
        peer.close()
    theirs, mine = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratios = [a / b for a, b in pairs]
    return Row(name, n, peer.n_edges, theirs, mine, min(ratios), max(ratios), peer.peak_mib)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--batch", type=int, nargs="+", default=[5, 32])
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(f"float32, {args.threads} threads, torch {torch.__version__}, load before {os.getloadavg()[0]:.1f}\n", flush=True)
    print("| case | batch | edges | peer, ms | equipot, ms | ratio | peer's peak, MiB |\n|---|---|---|---|---|---|---|", flush=True)
    for name in args.cases:
        for n in args.batch:
            print(run(name, n, args.threads, args.rounds), flush=True)
    print(f"\nequipot's peak over all cases: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
