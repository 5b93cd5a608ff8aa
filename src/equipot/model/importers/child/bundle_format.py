"""What the scripts beside this one share: the structures they evaluate, the bundle they write, how they give up.

These files run in the other program's environment and import nothing of equipot; numpy only when it is known to be there.
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

REFUSED = 3
"""Exit status of a script that says in its last line of standard error, behind "refused: ", why it can't."""


class Refused(Exception):
    """What the user can mend, in one line."""


def require(name: str, series: str, install: str) -> str:
    """The installed version of a distribution, which must be of the series ("0.3"); raises Refused with the command that installs it."""
    mend = f"install it with {sys.executable} -m pip install {install}, or name another environment's Python with --python"
    try:
        found = version(name)
    except PackageNotFoundError:
        raise Refused(f"{name} is not installed for {sys.executable}: {mend}") from None
    if not f"{found}.".startswith(f"{series}."):
        raise Refused(f"{name} {found}, installed for {sys.executable}, is not a version this import reads ({series}): {mend}")
    return found


def run(read) -> None:
    """The script: FILE and BUNDLE.npz are its arguments; `read` (path) returns meta, weights, buffers and a function of Atoms that gives results."""
    if len(sys.argv) != 3:
        sys.exit(f"usage: python {Path(sys.argv[0]).name} FILE BUNDLE.npz")
    try:
        meta, weights, buffers, evaluate = read(Path(sys.argv[1]))
        results = [(atoms, evaluate(atoms)) for atoms in structures(meta["atomic_numbers"], meta["r_max"])]
        write_bundle(sys.argv[2], meta, weights, buffers, results)
    except Refused as refusal:
        print(f"refused: {refusal}", file=sys.stderr)
        sys.exit(REFUSED)


def structures(numbers: list[int], cutoff: float) -> list:
    """Rattled clusters and crystals of eight atoms, by turns, which together hold every element."""
    import numpy as np
    from ase import Atoms

    rng = np.random.default_rng(11)
    spacing = min(max(0.4 * cutoff, 1.1), 2.1)
    grid = spacing * np.array([[i, j, k] for i in range(2) for j in range(2) for k in range(2)], dtype=float)
    cell = 2.1 * spacing * (np.eye(3) + 0.1 * rng.normal(size=(3, 3)))
    found = []
    for index in range(max(2, (len(numbers) + 7) // 8)):
        chosen = [numbers[(8 * index + i) % len(numbers)] for i in range(8)]
        positions = grid + 0.12 * spacing * rng.normal(size=grid.shape)
        periodic = {"cell": cell, "pbc": True} if index % 2 else {}
        found.append(Atoms(numbers=rng.permutation(chosen), positions=positions, **periodic))
    return found


def write_bundle(path: str, meta: dict, weights: dict, buffers: dict, results: list) -> None:
    """One .npz: meta.json, weights/NAME, buffers/NAME, and frameI/… with each structure and what the program says of it."""
    import numpy as np

    content = {"meta.json": np.array(json.dumps(meta))}
    content.update({f"weights/{name}": value for name, value in weights.items()})
    content.update({f"buffers/{name}": value for name, value in buffers.items()})
    for index, (atoms, found) in enumerate(results):
        structure = {"numbers": atoms.numbers, "positions": atoms.positions, "cell": np.array(atoms.cell), "pbc": atoms.pbc}
        content.update({f"frame{index}/{name}": value for name, value in {**structure, **found}.items()})
    np.savez_compressed(path, **content)


def require_same(single, double) -> None:
    """Raises Refused if the forces of the model as it was saved and of its double-precision form differ by more than single precision explains."""
    difference = abs(single - double).max()
    if not difference <= 1e-3 * (1.0 + abs(double).max()):
        raise Refused(f"the model in double precision differs from itself by {difference:.1e} eV/Å: its constants are not understood")
