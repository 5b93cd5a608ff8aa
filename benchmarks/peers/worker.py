"""What a peer's process needs besides the peer: its job, and the loop that does steps when it is told to. Runs with torch, numpy and ase only."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from ase import Atoms
from ase.io import read

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "model" / "peers"))


class Job(NamedTuple):
    """One model and one batch."""

    settings: dict
    frames: list[Atoms]
    bundle: str
    dtype: str
    threads: int

    @classmethod
    def read(cls, path: str) -> "Job":
        content = json.loads(Path(path).read_text())
        torch.set_num_threads(content["threads"])
        return cls(content["settings"], read(content["frames"], ":"), content["bundle"], content["dtype"], content["threads"])

    @property
    def symbols(self) -> list[str]:
        """Elements by atomic number."""
        found = {int(z): s for atoms in self.frames for z, s in zip(atoms.numbers, atoms.symbols, strict=True)}
        return [found[z] for z in sorted(found)]

    def labels(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Energies and forces of the batch in the peer's dtype."""
        dtype = getattr(torch, self.dtype)
        energy = torch.tensor([a.get_potential_energy() for a in self.frames], dtype=dtype)
        return energy, torch.tensor(np.concatenate([a.get_forces() for a in self.frames]), dtype=dtype)

    def loss(self, energy: torch.Tensor, forces: torch.Tensor, true_energy: torch.Tensor, true_forces: torch.Tensor) -> torch.Tensor:
        """Mean square of energies per atom and of forces."""
        n = torch.tensor([len(a) for a in self.frames])
        return (((energy - true_energy) / n) ** 2).mean() + 10.0 * ((forces - true_forces) ** 2).mean()

    def write_bundle(self, meta: dict, weights: dict, buffers: dict, results: list) -> None:
        """For `equipot import`."""
        from peer_structures import write_bundle

        write_bundle(self.bundle, meta, weights, buffers, results)


def resident(peak: bool = False, reset: bool = False) -> int:
    """Memory of this process in KiB, now or at most since the last reset (Linux)."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    name = "VmHWM:" if peak else "VmRSS:"
    return next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))


def walk(atoms: Atoms, rng: np.random.Generator) -> None:
    """One step of a random walk, as in md_common.py."""
    atoms.positions += 0.02 * rng.normal(size=atoms.positions.shape)


def serve(job: Job, step: Callable[[], None], predict: Callable[[], tuple[torch.Tensor, torch.Tensor]], n_edges: int) -> None:
    """Says what it predicts, then does as many steps as each line of standard input says and answers with their times in ms."""
    energy, forces = predict()
    np.savez(job.bundle + ".prediction.npz", energy=energy.detach().numpy(), forces=forces.detach().numpy())
    print(json.dumps({"n_edges": int(n_edges)}), flush=True)
    for line in sys.stdin:
        times, base = [], resident(reset=True)
        for _ in range(int(line)):
            begin = time.perf_counter()
            step()
            times.append(1e3 * (time.perf_counter() - begin))
        print(json.dumps({"ms": times, "base_kib": base, "peak_kib": resident(peak=True)}), flush=True)
