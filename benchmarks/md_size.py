"""Cost and memory of one size, in a process of its own without torch: `python md_size.py MODEL.eqn STRUCTURE.npz STEPS`; prints JSON. See `md_engine.py`."""

import json
import sys
import time
from pathlib import Path

import numpy as np
from ase import Atoms

from equipot.ase import Calculator

STEPS_PER_LIST = 40  # of a search for neighbours, as in a simulation of water with steps of 0.5 fs and a skin of 1 Å
JUMP = 0.3  # Å, after which neighbours are searched anew


def status(key: str) -> int:
    """Bytes, of this process: VmRSS, what is resident; VmHWM, the most that ever was."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return 1024 * int(line.split()[1])


def main() -> None:
    model, structure, n_steps = sys.argv[1:]
    with np.load(structure) as content:
        atoms = Atoms(numbers=content["numbers"], positions=content["positions"], cell=content["cell"], pbc=True)
    calculator, n, rng = Calculator(model), len(atoms), np.random.default_rng(0)

    def step(size: float) -> float:
        begin = time.perf_counter()
        atoms.positions += size * rng.normal(size=(n, 3))
        calculator.calculate(atoms, ["energy", "forces"])
        return time.perf_counter() - begin

    calculator.calculate(Atoms("OH2", positions=np.eye(3), cell=np.eye(3) * 9, pbc=True), ["energy", "forces"])  # libraries are loaded
    before = status("VmRSS")
    step(0.0)
    times = [step(0.003) for _ in range(int(n_steps))]
    edges = calculator.engine.neighbours
    built = edges.n_builds
    searching = step(JUMP)
    assert edges.n_builds == built + 1 and "torch" not in sys.modules
    plain = float(np.median(times))
    cost = (plain * (STEPS_PER_LIST - 1) + searching) / STEPS_PER_LIST
    print(
        json.dumps(
            {
                **{"atoms": n, "us_per_atom": 1e6 * cost / n, "us_per_atom_without_search": 1e6 * plain / n},
                **{"search_us_per_atom": 1e6 * (searching - plain) / n, "kib_per_atom": (status("VmHWM") - before) / n / 1024},
                "engine_kib_per_atom": calculator.engine.model.n_bytes / n / 1024,
            }
        )
    )


if __name__ == "__main__":
    main()
