"""Memory of a training step on a CPU: per edge, against nequip and mace-torch, and the largest batch for 8 GiB.

    python benchmarks/memory.py [--cases nequip-l2 …] [--batch 5 32] [--no-largest]

Every figure is of a process of its own, Linux: the most that was resident during three steps, less what was before the first of them (the program, the model,
the batch). The largest batch follows from the memory per edge of the two largest batches, and is then tried: the peak of one step with it is printed.
Same weights, batches and loss as `cpu.py`; the clock plays no part, so the machine need not be idle. Needs EQUIPOT_DATA (acetylacetone) and `make peers`.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import torch
from cpu import CASES, Ours, Peer, job_of
from peers.worker import resident

GIB = 1 << 20  # KiB


class Memory(NamedTuple):
    """KiB resident before the steps and at their peak; edges of the batch."""

    base: float
    peak: float
    edges: int

    @property
    def of_steps(self) -> float:
        return self.peak - self.base


def theirs(name: str, n: int, folder: Path) -> Memory:
    """The peer's, after which its bundle is in the folder."""
    program, _, _, job = job_of(name, n, folder, 1)
    peer = Peer(program, job, 1)
    peer.steps(3)
    peer.close()
    return Memory(1024 * peer.base_mib, 1024 * peer.peak_mib, peer.n_edges)


def ours(name: str, n: int, folder: Path, steps: int = 3) -> Memory:
    """Of a fresh process."""
    _, frames, bundle, _ = job_of(name, n, folder, 1)
    command = [sys.executable, __file__, "--worker", str(bundle), str(frames), str(n), str(steps)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parent)
    return Memory(*json.loads(done.stdout.splitlines()[-1]))


def worker(bundle: str, frames: str, n: str, steps: str) -> None:
    torch.set_num_threads(1)
    each = Ours(Path(bundle), Path(frames), int(n))
    base = resident(reset=True)
    each.steps(int(steps))
    print(json.dumps([base, resident(peak=True), each.batch[0].n_edges]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--batch", type=int, nargs="+", default=[5, 32])
    parser.add_argument("--no-largest", action="store_true", help="leave the largest batch for 8 GiB out")
    parser.add_argument("--worker", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        return worker(*args.worker)
    print(
        "| case | batch | edges | peer, MiB | equipot, MiB | ratio | equipot per edge, KiB | whole processes, MiB |\n" + "|---" * 8 + "|",
        flush=True,
    )
    for name in args.cases:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            for n in args.batch:
                a, b = theirs(name, n, folder), ours(name, n, folder)
                figures = f"{a.of_steps / 1024:.0f} | {b.of_steps / 1024:.0f} | {a.of_steps / b.of_steps:.1f} | {b.of_steps / b.edges:.1f}"
                print(f"| {name} | {n} | {b.edges} | {figures} | {a.peak / 1024:.0f}, {b.peak / 1024:.0f} |", flush=True)
            if not args.no_largest:
                largest(name, folder)


def largest(name: str, folder: Path) -> None:
    """The batch of which a step should need 8 GiB, from the growth between two batches; then a step with it."""
    small, large = ours(name, 32, folder, 2), ours(name, 128, folder, 2)
    per_structure = (large.peak - small.peak) / (128 - 32)
    n = int(32 + (8 * GIB - small.peak) / per_structure)
    tried = ours(name, n, folder, 1)
    print(f"{name}: {n} structures ({tried.edges} edges) should need 8 GiB; one step with them: {tried.peak / GIB:.2f} GiB", flush=True)


if __name__ == "__main__":
    main()
