"""Trajectories for a report: whether a file is one, and an even choice of its frames."""

from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms

from equipot.data import scan_xyz
from equipot.errors import UserError

SUFFIXES = (".extxyz", ".xyz", ".extxyz.gz", ".xyz.gz", ".traj")
N_FRAMES = 60  # of a film


def has_predictions(file: Path) -> bool:
    """Whether the first frame of an xyz file carries a model's results beside reference labels."""
    first = _read(file, "0")
    results = first[0].calc.results if first and first[0].calc is not None else {}
    return bool(first) and "energy" in results and ("REF_energy" in first[0].info or "REF_forces" in first[0].arrays)


def is_trajectory(file: Path) -> bool:
    """Whether the first two and the last frame are of one system: the same elements in the same order."""
    try:
        ends = _read(file, "0:2") + _read(file, "-1:")
    except UserError:
        return False
    return len(ends) == 3 and all(np.array_equal(atoms.numbers, ends[0].numbers) for atoms in ends[1:])


def read_film(file: Path) -> list[Atoms]:
    """An even choice of up to `N_FRAMES` frames with the last; `info["frame"]` is each one's number in the file. Empty for an empty file."""
    n = _count(file)
    step = max(1, -(-n // N_FRAMES))
    frames = _read(file, f"{(n - 1) % step}::{step}") if n else []
    for index, atoms in enumerate(frames):
        atoms.info["frame"] = (n - 1) % step + index * step
    return frames


def _count(file: Path) -> int:
    if file.suffix == ".traj":
        with ase.io.Trajectory(file) as reader:
            return len(reader)
    if file.stat().st_size == 0:
        return 0
    with scan_xyz.open_text(file) as text:
        return scan_xyz.count_frames(text, file)


def _read(file: Path, index: str) -> list[Atoms]:
    try:
        found = ase.io.read(file, index=index, format="traj" if file.suffix == ".traj" else "extxyz")
    except Exception as error:
        raise UserError(f"{file}: cannot be read as structures: {type(error).__name__}: {' '.join(str(error).split())[:160]}") from None
    return found if isinstance(found, list) else [found]
