"""The layout of an (extended) xyz file, checked line by line before ASE reads it.

ASE stops silently at a blank line and ignores what follows, and a file cut inside its last number reads as a wrong number.
"""

import bz2
import gzip
import logging
import lzma
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from equipot.errors import UserError

log = logging.getLogger("equipot.data")
_OPENERS = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}


def count_frames(path: Path) -> int:
    """Number of frames; raises UserError naming the frame and line where the file is cut short or malformed."""
    opener = _OPENERS.get(path.suffix.lower(), open)
    try:
        with opener(path, "rt", encoding="utf-8") as file:
            n_frames = sum(1 for _ in _frames(file, str(path)))
    except (EOFError, OSError, zlib.error, lzma.LZMAError) as error:
        raise UserError(f"{path}: cannot be decompressed or read ({error}); the file is cut short or damaged") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a text file, though its name says xyz") from None
    if not n_frames:
        raise UserError(f"{path}: no frames in it")
    return n_frames


def _frames(file: IO[str], name: str) -> Iterator[int]:
    """Yields the number of atoms of each frame."""
    index, line_number = 0, 0
    while line := file.readline():
        line_number += 1
        where = f"{name}, frame {index} (line {line_number})"
        if not line.strip():
            if file.read().strip():
                raise UserError(f"{where}: a blank line, and more after it that would not be read; remove the line")
            return
        try:
            n_atoms = int(line)
        except ValueError:
            raise UserError(f"{where}: a number of atoms was expected, not {line.strip()[:40]!r}; the frame before may be too long") from None
        if n_atoms <= 0:
            raise UserError(f"{where}: {n_atoms} atoms; remove the frame")
        _atom_lines(file, n_atoms, f"{name}, frame {index}")
        line_number += 1 + n_atoms
        yield n_atoms
        index += 1
        line_number += _skip_vectors(file)


def _atom_lines(file: IO[str], n_atoms: int, where: str) -> None:
    comment = file.readline()
    last, width = "", 0
    for i in range(n_atoms):
        last = file.readline()
        if not last.strip():
            raise UserError(f"{where}: cut short, {i} of {n_atoms} atoms are there; remove the frame or fetch the file again")
        if i == 0:
            width = len(last.split())
    if len(last.split()) != width:
        raise UserError(f"{where}: the last atom has {len(last.split())} columns and the first {width}; the frame is cut short")
    if not last.endswith("\n") and (n_atoms > 1 or comment.endswith("\n")):
        log.warning("%s: the file ends without a line break, so its last number may be cut short", where)


def _skip_vectors(file: IO[str]) -> int:
    """Passes over cell vectors given as VEC1 … VEC3 after the atoms; returns how many lines they are."""
    n = 0
    while True:
        here = file.tell()
        if not file.readline().lstrip().startswith("VEC"):
            file.seek(here)
            return n
        n += 1
