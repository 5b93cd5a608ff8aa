"""Writing frames as extended xyz in eV and Å, whole or not at all."""

import gzip
import os
from collections.abc import Sequence
from pathlib import Path

import ase.io

from equipot.data.frame import Frame
from equipot.errors import UserError

SUFFIXES = (".extxyz", ".xyz", ".extxyz.gz", ".xyz.gz")


def write_frames(frames: Sequence[Frame], path: str | Path, overwrite: bool = False) -> None:
    """Writes `energy` (eV), `forces` (eV/Å), `stress` (eV/Å³, tensile positive) and the frames' info to an extxyz file, also .gz.

    The file is written beside its place and then renamed, so that an interrupted run leaves nothing half-written. Positions and forces
    have 8 decimals. Raises UserError for another suffix, a missing folder, or an existing file unless `overwrite`.
    """
    path = Path(path)
    check_target(path, overwrite)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        opener = gzip.open if path.suffix == ".gz" else open
        with opener(beside, "wt", encoding="utf-8") as file:
            ase.io.write(file, [frame.atoms() for frame in frames], format="extxyz")
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def check_target(path: Path, overwrite: bool) -> None:
    """Raises UserError where frames cannot be written to `path`."""
    if not path.name.endswith(SUFFIXES):
        raise UserError(f"{path}: the name must end in {', '.join(SUFFIXES)}")
    if not path.parent.is_dir():
        raise UserError(f"{path}: there is no folder {path.parent}; create it first")
    if path.exists() and not overwrite:
        raise UserError(f"{path}: exists already; choose another name or allow overwriting (--overwrite)")
