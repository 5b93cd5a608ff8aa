"""From a cold process to the first finished update of a training, and what of it is importing torch and lightning.

    python benchmarks/startup.py [--config examples/3bpa_botnet.yaml] [--rounds 5] [KEY=VALUE ...]

Each round is a fresh process that imports torch and lightning, then does what `equipot train CONFIG` does until the optimiser's first step has ended: importing
equipot, reading and checking the data, neighbour lists, building the model. Medians. Needs an idle machine and what the configuration names (EQUIPOT_DATA).
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

CHILD = """
import json, os, sys, time
began = float(sys.argv[1])
import torch
torch_there = time.time()
import lightning
lightning_there = time.time()
from torch.optim.optimizer import register_optimizer_step_post_hook

def report(*_):
    print(json.dumps([torch_there - began, lightning_there - torch_there, time.time() - lightning_there]), file=sys.stderr, flush=True)
    os._exit(0)

register_optimizer_step_post_hook(report)
sys.argv[1:2] = []
from equipot.cli import main
sys.exit(main())
"""


def round_of(config: Path, words: list[str]) -> list[float]:
    """Seconds for torch, for lightning, and for the rest to the first update."""
    with tempfile.TemporaryDirectory() as folder:
        starter = "import os, sys, time; os.execv(sys.argv[1], [sys.argv[1], '-c', sys.argv[2], str(time.time()), *sys.argv[3:]])"
        command = [sys.executable, "-S", "-c", starter, sys.executable, CHILD, "train", str(config), f"out={folder}/run", *words]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stderr.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=Path(__file__).parents[1] / "examples" / "3bpa_botnet.yaml")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("words", nargs="*", metavar="KEY=VALUE")
    args = parser.parse_args()
    rounds = [round_of(args.config, args.words) for _ in range(args.rounds + 1)][1:]  # the first reads files from the disk
    print(
        f"{args.config.name}, {args.rounds} rounds: {', '.join(f'{sum(r):.2f}' for r in rounds)} s in all\n\n| part | s | asked |\n|---|---|---|"
    )
    for name, asked, times in zip(
        ("importing torch", "importing lightning", "the rest, to the first update"), ("", "", "5"), zip(*rounds, strict=True), strict=True
    ):
        print(f"| {name} | {statistics.median(times):.2f} | {asked} |")


if __name__ == "__main__":
    main()
