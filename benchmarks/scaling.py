"""A cost model of a step in LAMMPS, fitted to one rank and two over several sizes, checked on a size left out, and what it says of large machines.

    python benchmarks/scaling.py [--rounds 3] [--json scaling.json] [--page docs/scaling.md] [--quick]

docs/scaling.md has the model; --page writes the measured tables between its marks. Needs an idle machine with two cores, LAMMPS with MPI and
EQUIPOT_DATA (water). --quick only tries that everything works: its figures mean nothing.
"""

import argparse
import json
import os
import statistics
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from md_common import structure, water_model
from md_lammps import Runs
from scipy.optimize import nnls

from equipot.engine.file import read_native

BOX = 192  # atoms of water in the box that is repeated
FITTED = [(1, 1, 1), (2, 1, 1), (2, 2, 1), (2, 2, 2), (4, 2, 2), (4, 4, 2), (4, 4, 4)]
LEFT_OUT = (3, 3, 3)
SKIN = 1.0  # Å, of LAMMPS's list: ghosts reach the cutoff and this
MARKS = ("<!-- measured -->", "<!-- end of measured -->")
LATENCY, BANDWIDTH = 5e-6, 2.5e8  # assumed of a network: s for a message, bytes/s for each rank (100 ranks share 25 GB/s)
MESSAGES = 6  # of an exchange: one for each face of a rank's box
RANKS, ATOMS = 1000, 10**9


class Measured(NamedTuple):
    """A size on a number of ranks."""

    ranks: int
    atoms: float  # of a rank
    ghosts: float  # of a rank
    seconds: float  # of a step


class Costs(NamedTuple):
    """Seconds of a step: atom · n + ghost · g + step, n atoms and g ghosts of a rank."""

    atom: float
    ghost: float
    step: float

    def of(self, atoms: float, ghosts: float) -> float:
        return self.atom * atoms + self.ghost * ghosts + self.step


class Traffic(NamedTuple):
    """What a ghost atom costs the network in a step."""

    exchanges: int  # forward and reverse, of all layers and of positions and forces
    bytes: int


def fit(points: list[Measured]) -> Costs:
    """The costs, none negative, that make the sum of squared relative errors smallest."""
    table = np.array([[p.atoms, p.ghosts, 1.0] for p in points])
    seconds = np.array([p.seconds for p in points])
    scale = np.abs(table).max(axis=0)
    return Costs(*(nnls(table / scale / seconds[:, None], np.ones(len(points)))[0] / scale))


def traffic(model: Path) -> Traffic:
    """T - 1 rows there and their gradients back, of the engine's precision; positions there and forces back, float64."""
    file = read_native(model)
    size = 8 if file.header.get("dtype") == "float64" else 4
    layers = sum(name.endswith(".dims") for name in file.tensors)
    rows = [int(file.tensors[f"layer{t}.dims"][8]) for t in range(1, layers)]
    return Traffic(2 * len(rows) + 2, 2 * size * sum(rows) + 2 * 24)


def ghosts_of(atoms: float, density: float, reach: float) -> float:
    """Of a rank's cube: the shell around it."""
    side = (atoms / density) ** (1 / 3)
    return density * ((side + 2 * reach) ** 3 - side**3)


def exchange(ghosts: float, costs: Costs, load: Traffic) -> float:
    """Seconds of a step that are not computation: ghosts and the constant as measured within a machine, and the network."""
    return costs.step + costs.ghost * ghosts + load.bytes * ghosts / BANDWIDTH + load.exchanges * MESSAGES * LATENCY


def balance(costs: Costs, load: Traffic, density: float, reach: float) -> float:
    """Atoms of a rank at which exchanges take as long as the computation."""
    low, high = 1e-3, 1e12
    while high / low > 1.001:
        middle = (low * high) ** 0.5
        late = exchange(ghosts_of(middle, density, reach), costs, load) > costs.atom * middle
        low, high = (middle, high) if late else (low, middle)
    return low


def measure(folder: Path, times: tuple[int, int, int], rounds: int, quick: bool) -> list[Measured]:
    """One rank and two, in turn; medians over rounds."""
    atoms = structure("water-192").repeat(times)
    runs = Runs(water_model(folder), atoms, folder / "x".join(map(str, times)))
    steps = 2 if quick else max(5, round(6000 / len(atoms)))
    found = [[runs.timed(ranks, steps) for ranks in (1, 2)] for _ in range(1 if quick else rounds)]
    return [
        Measured(i + 1, found[0][i]["atoms"], found[0][i]["ghosts"], statistics.median(row[i]["step_s"] for row in found)) for i in (0, 1)
    ]


def tables(points: list[Measured], checked: list[Measured], costs: Costs, load: Traffic, density: float, reach: float) -> str:
    """The page's part that is measured, and what follows from it."""
    lines = ["| ranks | atoms of a rank | ghosts of a rank | ms a step | the model says | error | |", "|---|---|---|---|---|---|---|"]
    for point in [*points, *checked]:
        said = costs.of(point.atoms, point.ghosts)
        lines.append(
            f"| {point.ranks} | {point.atoms:.0f} | {point.ghosts:.0f} | {1e3 * point.seconds:.2f} | {1e3 * said:.2f} | "
            f"{100 * (said / point.seconds - 1):+.1f} % | {'left out of the fit' if point in checked else ''} |"
        )
    n = ATOMS / RANKS
    g, few = ghosts_of(n, density, reach), balance(costs, load, density, reach)
    compute, swap = costs.atom * n, exchange(g, costs, load)
    lines += [
        "",
        f"a = {1e6 * costs.atom:.2f} µs per atom, b = {1e6 * costs.ghost:.2f} µs per ghost, c = {1e3 * costs.step:.3f} ms per step; "
        f"{load.bytes} bytes per ghost and step in {load.exchanges} exchanges; {density:.4f} atoms per Å³, ghosts to {reach:g} Å.",
        "",
        f"{RANKS:,} ranks, {ATOMS:.0e} atoms of water: {n:,.0f} atoms and {g:,.0f} ghosts a rank, {compute:.1f} s of computation and {swap:.2f} s of "
        f"exchanges a step, an efficiency of {100 * compute / (compute + swap):.1f} %. "
        f"Exchanges take as long as the computation at **{few:,.0f} atoms per rank**: "
        f"there a step would take {2e3 * costs.atom * few:.1f} ms, and {ATOMS:.0e} atoms {ATOMS / few:,.0f} ranks.",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="where all that was measured is written")
    parser.add_argument("--page", type=Path, help="the page whose measured part is replaced")
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    if args.quick and args.page:
        raise SystemExit("--quick measures nothing that belongs on a page")
    atoms = structure("water-192")
    density = len(atoms) / atoms.get_volume()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sizes = FITTED[:3] if args.quick else FITTED
        points = [point for times in sizes for point in measure(folder, times, args.rounds, args.quick)]
        checked = measure(folder, (3, 1, 1) if args.quick else LEFT_OUT, args.rounds, args.quick)
        model = water_model(folder)
        costs, load = fit(points), traffic(model)
        reach = float(read_native(model).tensors["pair_cutoffs"].max()) + SKIN
    text = tables(points, checked, costs, load, density, reach)
    print(text)
    if args.json:
        content = {"fitted": [p._asdict() for p in points], "left_out": [p._asdict() for p in checked], "costs": costs._asdict()}
        content |= {"traffic": load._asdict(), "load": os.getloadavg()[0], "quick": args.quick}
        args.json.write_text(json.dumps(content, indent=1))
    if args.page:
        before, _, rest = args.page.read_text().partition(MARKS[0])
        _, mark, after = rest.partition(MARKS[1])
        if not mark:
            raise SystemExit(f"{args.page}: has no {MARKS[0]} and {MARKS[1]}")
        args.page.write_text(f"{before}{MARKS[0]}\n{text}\n{MARKS[1]}{after}")


if __name__ == "__main__":
    main()
