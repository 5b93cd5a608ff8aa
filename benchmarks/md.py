"""Molecular dynamics on a CPU, every figure that the native engine is asked for, each a case of its own.

    make peers                       # environments of nequip and mace-torch, once (EQUIPOT_PEERS: their folder)
    python benchmarks/md.py [--cases acac size …] [--model WATER.equipot] [--rounds 5] [--json md.json] [--quick]

| case | what |
|---|---|
| acac, water-192, water-1536, mace-192 | a step beside the peer: the same weights, results compared first, neighbour lists in both (`md_peers.py`) |
| lammps | LAMMPS on one rank and two, and its results beside ASE's (`md_lammps.py`) |
| size | cost and memory per atom from 192 to 98,304 atoms (`md_engine.py`) |
| nve | drift of the total energy of 64 waters in 20 ps; --model: one trained on water, as by `equipot train examples/water_nequip.yaml` |
| import | `import equipot.ase` in a fresh process, and that it brings no torch |

A step is a small displacement of all atoms, then energy and forces. The peers search neighbours every step, as their calculators do; ours keeps a skin
of 1 Å and searches about every forty steps here. One thread unless --threads says otherwise. Needs an idle machine, and EQUIPOT_DATA
(acetylacetone, water). --quick only tries that everything works: its figures mean nothing.
"""

import argparse
import json
import os
import platform
import tempfile
from pathlib import Path

import md_engine
import md_lammps
import md_peers
import torch
from md_common import Options

CASES = {**md_peers.CASES, **md_lammps.CASES, **md_engine.CASES}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", type=Path, help="for the case nve: a model file (or .eqn) trained on water")
    parser.add_argument("--json", type=Path, help="where all that was measured is written")
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    os.environ["OMP_NUM_THREADS"] = str(args.threads)  # of the native engine
    machine = {"torch": torch.__version__, "processor": platform.processor() or platform.machine(), "cores": len(os.sched_getaffinity(0))}
    machine |= {"threads": args.threads, "load": os.getloadavg()[0], "quick": args.quick}
    print(f"{machine}\n\n| case | what | figure | asked | reached |\n|---|---|---|---|---|", flush=True)
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        options = Options(args.threads, args.rounds, args.quick, args.model, Path(folder))
        for name in args.cases:
            for figure in CASES[name](options):
                figures.append(figure)
                print(figure, flush=True)
                if args.json:  # after every figure: what was measured is not lost with a later case
                    args.json.write_text(
                        json.dumps({"machine": machine, "figures": [f._asdict() for f in figures]}, indent=1, default=lambda x: x.item())
                    )


if __name__ == "__main__":
    main()
