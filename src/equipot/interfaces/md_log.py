"""The log of a run: one row per frame, as numbers and as CSV."""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from equipot.errors import UserError
from equipot.interfaces.trajectory import cut_back


class Sample(NamedTuple):
    """The state of a run at one step; None where the quantity does not exist."""

    step: int
    time_ps: float
    temperature_K: float
    potential_eV: float
    kinetic_eV: float
    total_eV_per_atom: float
    pressure_GPa: float | None  # with the ideal-gas part; None without a full cell
    volume_A3: float | None
    drift_meV_per_atom: float | None  # of the conserved quantity since step 0; None for Langevin
    steps_per_s: float | None  # since the row before
    ns_per_day: float | None
    energy_std_meV_per_atom: float | None = None  # how far the members of an ensemble are apart; None for one model
    forces_std_eV_A: float | None = None  # the same of the forces, of the atom where it is largest


class MDLog:
    """A CSV file with a header and one `Sample` per row; `mark` cuts an old one back to that size."""

    def __init__(self, path: Path, mark: int | None) -> None:
        if mark is not None and not path.is_file():
            raise UserError(f"{path}: the log of the run is not there, so it cannot be continued")
        self._file = path.open("w" if mark is None else "r+", encoding="utf-8")
        if mark is None:
            self._file.write(",".join(Sample._fields) + "\n")
            self._file.flush()
        else:
            cut_back(path, mark)
            self._file.seek(mark)

    def append(self, sample: Sample) -> None:
        self._file.write(",".join(_text(value) for value in sample) + "\n")
        self._file.flush()

    def mark(self) -> int:
        """Secure what is written on disk and return the file's size."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._file.tell()

    def close(self) -> None:
        self._file.close()


def read_log(path: str | Path) -> dict[str, np.ndarray]:
    """The columns of a log by name, NaN where a value does not exist."""
    table = np.genfromtxt(path, delimiter=",", names=True, ndmin=1)
    return {name: np.atleast_1d(table[name]) for name in table.dtype.names}


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:.12g}"
