"""A trajectory as arrays, read from any file or folder of frames, with what could not be used said."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.data import chemical_symbols
from ase.io.extxyz import read_xyz
from ase.stress import voigt_6_to_full_3x3_stress

from equipot.data import scan_xyz
from equipot.data.readers import XYZ_SUFFIXES, read_by_ase, read_frames, resolve
from equipot.errors import UserError

FARTHEST = 1e6  # Å: atoms farther out have left any simulation
UNEVEN = 1e-3  # of an interval: times may be rounded so far


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Frames of one system in order: Å, Å/fs, eV, eV/Å³; what the file does not hold is None."""

    name: str
    numbers: np.ndarray  # (n,) int64
    masses: np.ndarray  # (n,) amu
    positions: np.ndarray  # (T, n, 3), wrapped or not
    cells: np.ndarray  # (T, 3, 3), rows are vectors
    pbc: np.ndarray  # (3,) bool
    velocities: np.ndarray | None = None  # (T, n, 3)
    energies: np.ndarray | None = None  # (T,)
    stresses: np.ndarray | None = None  # (T, 3, 3), tensile positive, without the ideal gas
    interval: float | None = None  # fs between frames
    no_interval: str = ""  # why there is none
    notes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def elements(self) -> list[str]:
        """Symbols by atomic number."""
        return [chemical_symbols[z] for z in np.unique(self.numbers)]

    @property
    def symbols(self) -> np.ndarray:
        return np.array([chemical_symbols[z] for z in self.numbers])

    @property
    def volumes(self) -> np.ndarray:
        """(T,) Å³; zero where the cell has fewer than three vectors."""
        return np.abs(np.linalg.det(self.cells))

    @property
    def is_bulk(self) -> bool:
        """Periodic in three directions with a volume."""
        return bool(self.pbc.all()) and bool((self.volumes > 1e-6).all())

    def atoms(self, frame: int) -> Atoms:
        """One frame as ASE atoms."""
        return Atoms(numbers=self.numbers, positions=self.positions[frame], cell=self.cells[frame], pbc=self.pbc, masses=self.masses)

    def from_frame(self, first: int) -> "Trajectory":
        """Without the frames before `first`."""
        cut = {name: None if (a := getattr(self, name)) is None else a[first:] for name in ("velocities", "energies", "stresses")}
        return replace(self, positions=self.positions[first:], cells=self.cells[first:], **cut)


def read_trajectory(name: str, interval: float | None = None, skip: float = 0, on_frame: Callable[[int], None] | None = None) -> Trajectory:
    """Frames of `name` (extended xyz, .traj, what else ASE reads, .npz, a DeePMD folder; `FILE@1000:` chooses frames).

    Args: interval between frames in fs, else that of `time_ps` in the frames; skip so many frames at the start, or that fraction if below 1.
    Frames from the first whose positions are not finite on, and a damaged end, are left out with a note. Raises UserError where nothing can be
    used: an empty file, another number or order of atoms from some frame on, a first frame that is not finite.
    """
    notes: list[str] = []
    rows = _Rows(name)
    for index, atoms in enumerate(_frames(name, notes)):
        if problem := _not_finite(atoms):
            if not index:
                raise UserError(f"{name}, frame 0: {problem}: there is nothing to analyse")
            notes.append(f"{problem} from frame {index} on: the simulation has blown up; only the {index} frames before are analysed")
            break
        rows.add(index, atoms)
        if on_frame:
            on_frame(index + 1)
    found = rows.trajectory(interval, notes)
    first = round(skip * len(found)) if skip < 1 else int(skip)
    if not 0 <= first < len(found):
        raise UserError(f"{name}: {first} frames were to be skipped and there are {len(found)}: skip fewer")
    return found.from_frame(first)


class _Rows:
    """Frames collected as arrays; the first says what the later ones must be."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.first: Atoms | None = None
        self.columns: dict[str, list] = {key: [] for key in ("positions", "cells", "velocities", "energies", "stresses", "times")}

    def add(self, index: int, atoms: Atoms) -> None:
        self.first = self.first or atoms
        if len(atoms) != len(self.first) or (atoms.numbers != self.first.numbers).any():
            what = (
                f"{len(atoms)} atoms, frame 0 has {len(self.first)}"
                if len(atoms) != len(self.first)
                else "other elements than frame 0, or in another order"
            )
            raise UserError(f"{self.name}, frame {index}: {what}: frames of one system are needed; choose them with FILE@FROM:TO")
        results = atoms.calc.results if atoms.calc is not None else {}
        stress = results.get("stress")
        row = {
            "positions": atoms.positions,
            "cells": atoms.cell.array,
            "velocities": atoms.get_velocities() * units.fs if atoms.has("momenta") else None,
            "energies": results.get("energy"),
            "stresses": None if stress is None else stress if np.shape(stress) == (3, 3) else voigt_6_to_full_3x3_stress(stress),
            "times": atoms.info.get("time_ps"),
        }
        for key, value in row.items():
            self.columns[key].append(None if value is None else np.array(value, dtype=np.float64))

    def trajectory(self, interval: float | None, notes: list[str]) -> Trajectory:
        if self.first is None:
            raise UserError(f"{self.name}: no frames in it")
        table = {key: np.array(column) if all(c is not None for c in column) else None for key, column in self.columns.items()}
        if table["velocities"] is not None and not np.abs(table["velocities"]).max() > 0:
            table["velocities"] = None
        given, reason = (interval, "") if interval else _interval(table["times"], len(self.columns["positions"]))
        return Trajectory(
            name=self.name, numbers=self.first.numbers.astype(np.int64), masses=self.first.get_masses(), positions=table["positions"],
            cells=table["cells"], pbc=self.first.pbc.copy(), velocities=table["velocities"], energies=table["energies"],
            stresses=table["stresses"], interval=given, no_interval=reason, notes=notes,
        )  # fmt: skip


def _interval(times: np.ndarray | None, n: int) -> tuple[float | None, str]:
    """The even distance of times in ps, in fs, or why there is none."""
    if n < 2:
        return None, "there is one frame only"
    if times is None:
        return None, "the frames do not say their time (time_ps): give the time between frames, --dt FS"
    steps = np.diff(times)
    step = float(np.median(steps))
    uneven = np.abs(steps - step) > UNEVEN * abs(step)
    if step <= 0 or uneven.any():
        where = int(np.argmax(uneven)) if uneven.any() else 0
        return (
            None,
            f"the frames are not evenly spaced in time (frame {where}: {times[where]:g} ps, the next: {times[where + 1]:g} ps): choose even ones, FILE@FROM:TO",
        )
    return 1000.0 * step, ""


def _frames(name: str, notes: list[str]) -> Iterator[Atoms]:
    path, selection = resolve(name)
    if path.is_dir() or path.suffix == ".npz":
        for frame in read_frames(name):
            yield frame.atoms()
        return
    if path.stat().st_size == 0:
        raise UserError(f"{path}: the file is empty")
    if path.name.lower().endswith(XYZ_SUFFIXES):
        with scan_xyz.open_text(path) as text:
            n_frames, problem = scan_xyz.whole_frames(text, path)
            if problem:
                notes.append(f"{problem}; the {n_frames} frames before are analysed")
            wanted = _forward(selection.indices(n_frames, str(path)), name)
            text.seek(0)
            yield from _named(
                read_xyz(text, index=slice(wanted.start, wanted.stop, wanted.step), properties_parser=scan_xyz.parse_comment), path
            )
        return
    frames = read_by_ase(path, "not a format that ASE knows; give extended xyz, .traj or another that ASE reads")
    yield from (frames[i] for i in _forward(selection.indices(len(frames), str(path)), name))


def _forward(wanted: range, name: str) -> range:
    if wanted.step < 0:
        raise UserError(f"{name}: a trajectory is read forward in time: choose frames with a positive step")
    return wanted


def _named(frames: Iterator[Atoms], path: Path) -> Iterator[Atoms]:
    """Frames, with the number of the one that cannot be read."""
    for index in range(1 << 62):
        try:
            yield next(frames)
        except StopIteration:
            return
        except UserError:
            raise
        except Exception as error:
            raise UserError(
                f"{path}: the chosen frame {index} cannot be read: {type(error).__name__}: {' '.join(str(error).split())[:160]}"
            ) from error


def _not_finite(atoms: Atoms) -> str:
    """What is not finite in a frame."""
    if not np.isfinite(atoms.cell.array).all():
        return "the cell is not finite"
    sound = np.isfinite(atoms.positions).all() and np.abs(atoms.positions).max(initial=0.0) < FARTHEST
    return "" if sound else "positions are not finite, or farther out than any simulation reaches"
