"""Runs structures in LAMMPS, one process for many of them, and reads back what it computed."""

import subprocess
from pathlib import Path
from typing import NamedTuple

import numpy as np

from equipot.interfaces.lammps_found import Lammps
from equipot.interfaces.lammps_plugin import environment

BAR = 1.6021765e6
"""Of an eV/Å³, as LAMMPS's units metal have it."""
WAITING = {"MPIR_CVAR_CH4_PROGRESS_THROTTLE": "1", "MPIR_CVAR_CH4_PROGRESS_THROTTLE_NO_PROGRESS_COUNT": "8"}
"""Ranks that wait leave the processor to others: there may be more of them than cores."""


class System(NamedTuple):
    """Atoms of elements 0 and 1 in a box whose lattice vectors are lower triangular; not periodic axes keep their box."""

    positions: np.ndarray
    species: np.ndarray
    cell: np.ndarray
    boundary: str = "p p p"

    @property
    def pbc(self) -> np.ndarray:
        return np.array([b == "p" for b in self.boundary.split()])


class Found(NamedTuple):
    """What LAMMPS found, in eV and Å; virials xx yy zz xy xz yz."""

    energy: float
    virial: np.ndarray  # (6,) eV
    forces: np.ndarray
    energies: np.ndarray
    virials: np.ndarray  # (n, 6) eV
    positions: np.ndarray
    species: np.ndarray
    cell: np.ndarray


def upright(positions: np.ndarray, cell: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Turned so that the cell is lower triangular with a positive diagonal, as LAMMPS wants it."""
    q, r = np.linalg.qr(cell.T)
    sign = np.sign(np.diag(r))
    return positions @ (q * sign), (r.T * sign)


def data_file(system: System, types: np.ndarray | None = None, n_types: int = 2) -> str:
    """LAMMPS's text of a structure, atom_style atomic; types (n,) from 1, else by element."""
    (xx, _, _), (xy, yy, _), (xz, yz, zz) = system.cell
    types = system.species + 1 if types is None else types
    lines = ["", "", f"{len(types)} atoms", f"{n_types} atom types"]
    lines += [f"0 {size!r} {a}lo {a}hi" for a, size in zip("xyz", map(float, (xx, yy, zz)), strict=True)]
    if xy or xz or yz:
        lines.append(f"{float(xy)!r} {float(xz)!r} {float(yz)!r} xy xz yz")
    lines += ["", "Atoms # atomic", ""]
    lines += [f"{i + 1} {t} {x!r} {y!r} {z!r}" for i, (t, (x, y, z)) in enumerate(zip(types, system.positions.tolist(), strict=True))]
    return "\n".join(lines) + "\n"


def setup(name: str, boundary: str = "p p p", units: str = "metal", extra: str = "") -> str:
    """The head of an input for the structure in NAME.data."""
    return f"""
clear
units {units}
atom_style atomic
atom_modify map array
newton on
boundary {boundary}
{extra}
read_data {name}.data
mass * 10.0
"""


def results(name: str) -> str:
    """The lines that write what was computed of the state now to NAME.dump and the log."""
    return f"""
compute e all pe/atom
compute s all stress/atom NULL virial
compute p all pressure NULL virial
thermo_style custom step pe vol c_p[*]
dump d all custom 1 {name}.dump id type x y z fx fy fz c_e c_s[*]
dump_modify d sort id format float %.17g
run 0
print "{name}: $(pe:%.17g) $(vol:%.17g) $(c_p[1]:%.17g) $(c_p[2]:%.17g) $(c_p[3]:%.17g) $(c_p[4]:%.17g) $(c_p[5]:%.17g) $(c_p[6]:%.17g)" append {name}.txt
undump d
"""


def run(lammps: Lammps, script: str, folder: Path, n_ranks: int = 1, fails: bool = False, variable: str = "NONE") -> str:
    """LAMMPS's output; `variable` is set in its environment."""
    (folder / "in.lammps").write_text(script)
    command = [str(lammps.mpirun), "-np", str(n_ranks), str(lammps.executable), "-in", "in.lammps", "-log", "none"]
    return finish(command, folder, lammps, fails, variable)


def finish(command: list[str], folder: Path, lammps: Lammps, fails: bool = False, variable: str = "NONE") -> str:
    """The output of a command in the environment LAMMPS needs."""
    done = subprocess.run(
        command, cwd=folder, env=environment(lammps) | WAITING | {variable: "1"}, capture_output=True, text=True, timeout=300, check=False
    )
    assert (done.returncode != 0) == fails, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


def read(name: str, folder: Path, unit: float = 1.0, bar: float = BAR) -> Found:
    """What `results` wrote; unit: of LAMMPS's energies in an eV; bar: its pressures in an eV/Å³."""
    text = (folder / f"{name}.txt").read_text().splitlines()[-1]
    energy, volume, *pressure = map(float, text.split(":")[1].split())
    lines = (folder / f"{name}.dump").read_text().splitlines()
    last = max(i for i, line in enumerate(lines) if line.startswith("ITEM: TIMESTEP"))
    lines = lines[last:]
    n = int(lines[3])
    table = np.array([line.split() for line in lines[9 : 9 + n]], dtype=float).reshape(n, 15)
    return Found(
        energy=energy / unit,
        virial=np.array(pressure) * volume / bar,
        forces=table[:, 5:8] / unit,
        energies=table[:, 8] / unit,
        virials=-table[:, 9:15] / bar,
        positions=table[:, 2:5],
        species=table[:, 1].astype(int) - 1,
        cell=_cell(lines[4:8]),
    )


def _cell(lines: list[str]) -> np.ndarray:
    bounds = np.array([line.split() for line in lines[1:4]], dtype=float)
    xy, xz, yz = bounds[:, 2] if bounds.shape[1] == 3 else np.zeros(3)
    low = bounds[:, 0] - [min(0, xy, xz, xy + xz), min(0, yz), 0]
    high = bounds[:, 1] - [max(0, xy, xz, xy + xz), max(0, yz), 0]
    size = high - low
    return np.array([[size[0], 0, 0], [xy, size[1], 0], [xz, yz, size[2]]])
