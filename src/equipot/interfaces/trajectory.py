"""Trajectory files that grow frame by frame and can be cut back to a remembered point."""

import os
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io.extxyz import write_extxyz
from ase.io.trajectory import TrajectoryReader, TrajectoryWriter

from equipot.errors import UserError

XYZ = (".xyz", ".extxyz")
SUFFIXES = (*XYZ, ".traj")
_ULM_MAGIC, _ULM_COUNT = b"- of Ulm", 32  # ASE's .traj: the file's first bytes, and where its number of frames (int64) stands


class Trajectory(Protocol):
    """An open trajectory file."""

    def append(self, frame: Atoms) -> None:
        """Write one frame through to the operating system."""
        ...

    def mark(self) -> int:
        """Secure what is written on disk and return the point a resumed run cuts the file back to."""
        ...

    def close(self) -> None: ...


def open_trajectory(path: str | Path, mark: int | None = None) -> Trajectory:
    """A new trajectory, or (with `mark`) one cut back to that point, by the file's suffix: extended xyz or ASE's .traj.

    Raises UserError for another suffix, and where the file is shorter than its mark.
    """
    path = check_suffix(path)
    if mark is not None and not path.is_file():
        raise UserError(f"{path}: the trajectory of the run is not there, so it cannot be continued")
    return XyzTrajectory(path, mark) if path.suffix.lower() in XYZ else AseTrajectory(path, mark)


def check_suffix(path: str | Path) -> Path:
    """The path, if its suffix names a trajectory format; raises UserError if not."""
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"{path}: a trajectory's name ends in {', '.join(SUFFIXES)}")
    return path


def frame_of(atoms: Atoms, info: dict[str, Any]) -> Atoms:
    """A frame to write: atoms, momenta, and the energy, forces and stress their calculator holds (nothing is computed), and `info`."""
    frame = Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc, info=info)
    for name in ("momenta", "masses"):
        if atoms.has(name):
            frame.set_array(name, atoms.get_array(name))
    results = {k: v for k, v in atoms.calc.results.items() if k in ("energy", "forces", "stress")}
    frame.calc = SinglePointCalculator(frame, **{k: np.copy(v) if isinstance(v, np.ndarray) else v for k, v in results.items()})
    return frame


class XyzTrajectory:
    """Extended xyz; the mark is the file's size."""

    def __init__(self, path: Path, mark: int | None) -> None:
        self._file = path.open("w" if mark is None else "r+", encoding="utf-8")
        if mark is not None:
            cut_back(path, mark)
            self._file.seek(mark)

    def append(self, frame: Atoms) -> None:
        write_extxyz(self._file, [frame])
        self._file.flush()

    def mark(self) -> int:
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._file.tell()

    def close(self) -> None:
        self._file.close()


class AseTrajectory:
    """ASE's .traj, whose numbers are exact; the mark is the number of frames."""

    def __init__(self, path: Path, mark: int | None) -> None:
        self._path = path
        if mark is not None:
            _set_frame_count(path, mark)
        self._writer = TrajectoryWriter(path, "w" if mark is None else "a")

    def append(self, frame: Atoms) -> None:
        self._writer.write(frame)

    def mark(self) -> int:
        os.fsync(self._writer.backend.fd.fileno())
        return len(self._writer.backend)

    def close(self) -> None:
        self._writer.close()


def cut_back(path: Path, size: int) -> None:
    """Truncate a file to `size` bytes; raises UserError if it is shorter."""
    if path.stat().st_size < size:
        raise UserError(f"{path}: shorter than when the restart file was written, so the run cannot be continued into it")
    os.truncate(path, size)


def _set_frame_count(path: Path, n_frames: int) -> None:
    """Frames behind the n-th are forgotten; the next one is written behind what there is."""
    with path.open("r+b") as file:
        head = file.read(_ULM_COUNT + 8)
        if not head.startswith(_ULM_MAGIC) or len(head) < _ULM_COUNT + 8:
            raise UserError(f"{path}: not an ASE trajectory, or damaged")
        if int.from_bytes(head[_ULM_COUNT:], "little") < n_frames:
            raise UserError(f"{path}: holds fewer frames than when the restart file was written, so the run cannot be continued into it")
        file.seek(_ULM_COUNT)
        file.write(n_frames.to_bytes(8, "little"))
    with TrajectoryReader(path) as reader:
        if len(reader) != n_frames:
            raise UserError(f"{path}: damaged, it cannot be continued")
