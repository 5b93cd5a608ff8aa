"""LAMMPS as an engine: one process computes many structures with an exported model, on any number of ranks. For comparisons, not for speed."""

import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ase.data import chemical_symbols

from equipot.data.frame import Frame
from equipot.errors import UserError
from equipot.interfaces.engines import Evaluation
from equipot.interfaces.lammps_found import Lammps
from equipot.interfaces.lammps_plugin import environment, input_lines

BAR = 1.6021765e6
"""Of an eV/Å³, as LAMMPS's units metal have it."""
MARGIN = 1.0  # Å around atoms in directions that are not periodic
TIME = 600  # s
_WAITING = {
    "MPIR_CVAR_CH4_PROGRESS_THROTTLE": "1",
    "MPIR_CVAR_CH4_PROGRESS_THROTTLE_NO_PROGRESS_COUNT": "8",
}  # ranks that wait leave the processor to others
_SCRIPT = """\
clear
units metal
atom_style atomic
atom_modify map array
newton on
boundary {boundary}
processors * * {n_ranks}
read_data {name}.data
mass * 1.0
{pair}
compute p all pressure NULL virial
thermo_style custom step pe c_p[*]
dump d all custom 1 {name}.dump id fx fy fz
dump_modify d sort id format float %.17g
run 0
print "$(pe:%.17g) $(c_p[1]:%.17g) $(c_p[2]:%.17g) $(c_p[3]:%.17g) $(c_p[4]:%.17g) $(c_p[5]:%.17g) $(c_p[6]:%.17g)" file {name}.txt
undump d
"""


class _Box(NamedTuple):
    """A structure as LAMMPS takes it: turned, so that its vectors are lower triangular."""

    positions: np.ndarray
    cell: np.ndarray
    turn: np.ndarray  # (3, 3): positions are those of the structure times it


def evaluate(
    lammps: Lammps, plugin: Path, exported: Path, frames: Sequence[Frame], n_ranks: int = 1, dtype: str = "float64"
) -> list[Evaluation | None]:
    """Energy, forces and (where all directions are periodic) stress of every structure; None for one LAMMPS has no box for.

    Ranks divide the box along z. Energies per atom are not asked: NaN. Raises UserError with LAMMPS's message if it ends with one.
    """
    if lammps.executable is None or lammps.mpirun is None:
        raise UserError(f"{lammps.headers}: no lmp or mpirun beside these headers")
    kinds = sorted({int(z) for frame in frames for z in frame.numbers})
    pair = "\n".join(input_lines(plugin, str(exported.absolute()), " ".join(chemical_symbols[z] for z in kinds)))
    pair = pair.replace("pair_style equipot", f"pair_style equipot {dtype}")
    boxes = [_box(frame) for frame in frames]
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        script = []
        for i, (frame, box) in enumerate(zip(frames, boxes, strict=True)):
            if box is not None:
                (folder / f"{i}.data").write_text(_data(box, np.searchsorted(kinds, frame.numbers) + 1, len(kinds)))
                boundary = " ".join("p" if periodic else "f" for periodic in frame.pbc)
                script.append(_SCRIPT.format(boundary=boundary, n_ranks=n_ranks, name=i, pair=pair))
        (folder / "in.lammps").write_text("\n".join(script))
        _run(lammps, folder, n_ranks)
        return [
            None if box is None else _read(folder, i, box, bool(f.pbc.all())) for i, (f, box) in enumerate(zip(frames, boxes, strict=True))
        ]


def _box(frame: Frame) -> _Box | None:
    """Directions that are not periodic get a box about the atoms, in the middle of it; they must be at right angles to those that are."""
    if frame.pbc.all():
        q, r = np.linalg.qr(frame.cell.T)
        sign = np.sign(np.diag(r))
        return _Box(frame.positions @ (q * sign), r.T * sign, q * sign)
    used = frame.cell[frame.pbc]
    if used[:, ~frame.pbc].any() or np.triu(frame.cell[np.ix_(frame.pbc, frame.pbc)], 1).any():
        return None
    low = frame.positions.min(axis=0) - MARGIN
    positions, cell = frame.positions.copy(), np.diag(np.ptp(frame.positions, axis=0) + 2 * MARGIN)
    positions[:, ~frame.pbc] -= low[~frame.pbc]
    cell[frame.pbc] = used
    return _Box(positions, cell, np.eye(3))


def _data(box: _Box, types: np.ndarray, n_types: int) -> str:
    (xx, _, _), (xy, yy, _), (xz, yz, zz) = box.cell.tolist()
    sizes = "\n".join(f"0 {size!r} {a}lo {a}hi" for a, size in zip("xyz", (xx, yy, zz), strict=True))
    tilts = f"{xy!r} {xz!r} {yz!r} xy xz yz\n" if xy or xz or yz else ""
    rows = "\n".join(f"{i + 1} {t} {x!r} {y!r} {z!r}" for i, (t, (x, y, z)) in enumerate(zip(types, box.positions.tolist(), strict=True)))
    return f"\n\n{len(types)} atoms\n{n_types} atom types\n{sizes}\n{tilts}\nAtoms # atomic\n\n{rows}\n"


def _run(lammps: Lammps, folder: Path, n_ranks: int) -> None:
    command = [str(lammps.mpirun), "-np", str(n_ranks), str(lammps.executable), "-in", "in.lammps", "-log", "none"]
    waiting = {name: value for name, value in _WAITING.items() if name not in os.environ}
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment(lammps) | waiting, capture_output=True, text=True, timeout=TIME, check=False
        )
    except subprocess.TimeoutExpired:
        raise UserError(f"LAMMPS on {n_ranks} ranks did not end within {TIME} s") from None
    if done.returncode:
        lines = (done.stdout + done.stderr).splitlines()
        says = next((line for line in lines if "ERROR" in line), lines[-1] if lines else "nothing")
        raise UserError(f"LAMMPS on {n_ranks} ranks ended with status {done.returncode}: {says.strip()}")


def _read(folder: Path, name: int, box: _Box, periodic: bool) -> Evaluation:
    energy, *pressure = map(float, (folder / f"{name}.txt").read_text().split())
    lines = (folder / f"{name}.dump").read_text().splitlines()
    forces = np.array([line.split()[1:] for line in lines[9:]], dtype=float) @ box.turn.T
    xx, yy, zz, xy, xz, yz = np.array(pressure) / -BAR
    stress = box.turn @ np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]]) @ box.turn.T
    return Evaluation(energy, np.full(len(forces), np.nan), forces, stress if periodic else None)
