"""A model as a client of i-PI, or of any program that speaks its protocol (FHI-vibes, ASE's SocketIOCalculator, …), by ASE's socket client.

The client needs nothing but ASE; the extra `ipi` installs i-PI itself.
"""

import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms
from ase.calculators.socketio import SocketClient

from equipot.errors import UserError
from equipot.interfaces.ase_calculator import Calculator, has_full_cell

if TYPE_CHECKING:
    from equipot.model import Ensemble, Potential


def run_client(
    model: "str | Path | Potential | Ensemble",
    atoms: Atoms,
    unixsocket: str | None = None,
    host: str = "localhost",
    port: int = 31415,
    wait: float = 60.0,
    engine: str = "auto",
    dtype: str | None = None,
    device: str = "cpu",
    skin: float = 1.0,
) -> int:
    """Answers a server with energies, forces and, of structures with a volume, virials, until it closes; returns how many it was asked for.

    atoms: elements in the server's order, and which directions are periodic; positions and cell come from the server, through the protocol in
    atomic units. unixsocket: the name of a UNIX socket as in i-PI's `address`, else host and port; wait: s, for a server that is not there yet.
    Several clients, each in a process of its own, share the work of one server. Raises UserError if there is no server, and as `Calculator` does.
    """
    atoms = atoms.copy()
    atoms.calc = Calculator(model, dtype, device, engine, skin)
    client = _connect(unixsocket, host, port, wait)
    if atoms.cell.rank != 3:
        atoms.cell = np.eye(3)  # i-PI sends a cell always, which means nothing where pbc is not set
    return sum(1 for _ in client.irun(atoms, use_stress=has_full_cell(atoms)))


def xyz_of(atoms: Atoms, box: float = 1000.0) -> str:
    """The text of i-PI's `<file mode='xyz'>`, Å, turned so that i-PI takes the cell; molecules get a cubic box of `box` Å."""
    cell, turn = atoms.cell.standard_form() if has_full_cell(atoms) else (np.eye(3) * box, np.eye(3))
    sizes = " ".join(f"{x:.12f}" for x in Atoms(cell=cell).cell.cellpar())
    lines = [f"{s} {x:.12f} {y:.12f} {z:.12f}" for s, (x, y, z) in zip(atoms.symbols, atoms.positions @ np.asarray(turn).T, strict=True)]
    return "\n".join([str(len(atoms)), f"# CELL(abcABC): {sizes} cell{{angstrom}} positions{{angstrom}}", *lines]) + "\n"


def _connect(unixsocket: str | None, host: str, port: int, wait: float) -> SocketClient:
    """The connected client; the first calls may come before the server listens."""
    end = time.monotonic() + wait
    while True:
        try:
            return SocketClient(unixsocket=unixsocket) if unixsocket else SocketClient(host=host, port=port)
        except OSError as error:
            if time.monotonic() > end:
                where = f"the UNIX socket {unixsocket!r}" if unixsocket else f"{host}:{port}"
                raise UserError(
                    f"no i-PI server at {where} ({error.strerror or error}): start it first, or look at the address of its input"
                ) from None
        time.sleep(0.1)
