"""LAMMPS with the plugin on one rank and two: speed, and its energies, forces and pressure beside those of ASE."""

import os
import re
import statistics
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io import read, write
from md_common import Figure, Options, structure, water_model

from equipot.ase import Calculator
from equipot.interfaces.lammps_found import Lammps, find_lammps
from equipot.interfaces.lammps_plugin import build, environment, plugin_path

BAR = 1.6021765e6  # of an eV/Å³, as LAMMPS's units metal have it
INPUT = """\
units metal
atom_style atomic
atom_modify map array
newton on
read_data water.data
plugin load {plugin}
pair_style equipot {dtype}
pair_coeff * * {model} H O
timestep 0.0005
neighbor 1.0 bin
{rest}
"""
COMPARE = """\
compute p all pressure NULL virial
thermo_style custom step pe c_p
dump d all custom 1 forces.dump id fx fy fz
dump_modify d sort id format float %.17g
run 0
print "found $(pe:%.17g) $(c_p:%.17g)"
"""
RUN = """\
velocity all create 300 4928459 loop geom
fix 1 all nve
run 1
run {steps}
"""


class Runs:
    """LAMMPS in a folder of its own, with one structure and model."""

    def __init__(self, model: Path, atoms: Atoms, folder: Path):
        self.lammps, self.model, self.folder = find_lammps(), model, folder
        self.plugin = plugin_path(self.lammps)
        if not self.plugin.is_file():
            build(self.lammps)
        folder.mkdir(exist_ok=True)
        write(folder / "water.data", atoms, format="lammps-data", specorder=["H", "O"], masses=True, units="metal", atom_style="atomic")

    def run(self, rest: str, ranks: int, dtype: str = "") -> str:
        """The output of an input that ends with `rest`."""
        (self.folder / "in.lammps").write_text(INPUT.format(plugin=self.plugin, dtype=dtype, model=self.model, rest=rest))
        command = [str(self.lammps.mpirun), "-np", str(ranks), str(self.lammps.executable), "-in", "in.lammps", "-log", "none"]
        done = subprocess.run(command, cwd=self.folder, env=_variables(self.lammps, ranks), check=False, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"LAMMPS ended with {done.stdout[-1000:]}{done.stderr[-1000:]}")
        return done.stdout

    def timed(self, ranks: int, steps: int) -> dict[str, Any]:
        """Seconds a step, how LAMMPS says they were spent, and how many atoms and ghosts a rank has."""
        output = self.run(RUN.format(steps=steps), ranks)
        loops = re.findall(r"^Loop time of (\S+) on", output, re.MULTILINE)
        parts = {
            name.lower(): float(average)
            for name, average in re.findall(r"^(Pair|Neigh|Comm)\s*\|\s*\S+\s*\|\s*(\S+)", output.split("Loop time of")[-1], re.MULTILINE)
        }
        ghosts = re.findall(r"^Nghost:\s+(\S+) ave", output, re.MULTILINE)
        locals_ = re.findall(r"^Nlocal:\s+(\S+) ave", output, re.MULTILINE)
        return {"step_s": float(loops[-1]) / steps, "ghosts": float(ghosts[-1]), "atoms": float(locals_[-1])} | {
            f"{name}_s": value / steps for name, value in parts.items()
        }

    def compare(self, ranks: int, dtype: str) -> dict[str, float]:
        """Energy, forces and pressure against ASE's of the same file: relative to energy, largest force and pressure."""
        atoms = read(self.folder / "water.data", format="lammps-data", units="metal", atom_style="atomic")
        output = self.run(COMPARE, ranks, dtype)
        energy, pressure = map(float, re.search(r"^found (\S+) (\S+)", output, re.MULTILINE).groups())
        forces = np.loadtxt(self.folder / "forces.dump", skiprows=9)[:, 1:]
        calculator = Calculator(self.model, dtype=dtype, engine="native")
        calculator.calculate(atoms, ["energy", "forces", "stress"])
        expected = calculator.results
        theirs = -expected["stress"][:3].mean() * BAR
        return {
            "energy": abs(energy / expected["energy"] - 1),
            "forces": float(np.abs(forces - expected["forces"]).max() / np.abs(expected["forces"]).max()),
            "pressure": abs(pressure / theirs - 1),
        }


def ranks(options: Options) -> list[Figure]:
    """Speed-up from one rank to two, medians of rounds in turn; and that both agree with ASE."""
    runs = Runs(water_model(options.folder), structure("water-192" if options.quick else "water-12288"), options.folder / "lammps")
    steps, rounds = (2, 1) if options.quick else (10, min(3, options.rounds))
    times = [[runs.timed(n, steps) for n in (1, 2)] for _ in range(rounds)]
    one, two = (statistics.median(row[i]["step_s"] for row in times) for i in (0, 1))
    n = round(times[0][0]["atoms"])
    figures = [
        Figure(
            "lammps",
            f"{n} atoms of water, float32, one rank {1e3 * one:.0f} ms a step, two ranks {1e3 * two:.0f} ms",
            *(one / two, f"{one / two:.2f}x", "1.8x", one / two >= 1.8),
            {"rounds": times},
        )
    ]
    for dtype in ("float32", "float64"):
        for n_ranks in (1, 2):
            errors = runs.compare(n_ranks, dtype)
            text = ", ".join(f"{name} {value:.1e}" for name, value in errors.items())
            worst = max(errors.values())
            figures.append(
                Figure("lammps", f"{n_ranks} ranks, {dtype}, against ASE: {text}", worst, f"{worst:.1e}", "1e-5", worst < 1e-5, errors)
            )
    return figures


def _variables(lammps: Lammps, n_ranks: int) -> dict[str, str]:
    """What LAMMPS is run with; more ranks than cores wait for each other without spinning."""
    cores = len(os.sched_getaffinity(0))
    waiting = {"MPIR_CVAR_CH4_PROGRESS_THROTTLE": "1", "MPIR_CVAR_CH4_PROGRESS_THROTTLE_NO_PROGRESS_COUNT": "8"} if n_ranks > cores else {}
    return environment(lammps) | waiting


CASES = {"lammps": ranks}
