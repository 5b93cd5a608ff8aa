"""The layout of an (extended) xyz file, checked line by line before ASE reads it.

ASE stops silently at a blank line and ignores what follows, and a file cut inside its last number reads as a wrong number.
"""

import bz2
import gzip
import io
import logging
import lzma
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from ase.io.extxyz import key_val_str_to_dict

from equipot.errors import UserError

log = logging.getLogger("equipot.data")
_HIDDEN = "equipot_"
_MATRIX_KEY = re.compile(r"(?<![\w-])((?:stress|virial)\s*=)")
_OPENERS: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}


def open_text(path: Path) -> IO[str]:
    """The file as text; a compressed one is unpacked into memory, because going back in it would unpack it again each time."""
    opener = _OPENERS.get(path.suffix.lower())
    try:
        if opener is None:
            return open(path, encoding="utf-8")
        with opener(path, "rt", encoding="utf-8") as file:
            return io.StringIO(file.read())
    except (EOFError, OSError, zlib.error, lzma.LZMAError) as error:
        raise UserError(f"{path}: cannot be decompressed or read ({error}); the file is cut short or damaged") from None
    except UnicodeDecodeError:
        raise _not_text(path) from None


def count_frames(file: IO[str], path: Path) -> int:
    """Number of frames; raises UserError naming the frame and line where the file is cut short or malformed."""
    try:
        n_frames = sum(1 for _ in _frames(file, str(path)))
    except UnicodeDecodeError:
        raise _not_text(path) from None
    if not n_frames:
        raise UserError(f"{path}: no frames in it")
    return n_frames


def whole_frames(file: IO[str], path: Path) -> tuple[int, str]:
    """Number of frames before the first that is cut short or malformed, and what is wrong with that; raises as `count_frames` if there are none."""
    n_frames = 0
    try:
        for _ in _frames(file, str(path)):
            n_frames += 1
    except UnicodeDecodeError:
        raise _not_text(path) from None
    except UserError as error:
        if not n_frames:
            raise
        return n_frames, str(error)
    if not n_frames:
        raise UserError(f"{path}: no frames in it")
    return n_frames, ""


def parse_comment(line: str) -> dict[str, Any]:
    """Key-value pairs of a frame's comment line as ASE gives them; `stress` and `virial` may also be six numbers in ASE's Voigt order."""
    try:
        return key_val_str_to_dict(line)
    except ValueError:
        hidden = _MATRIX_KEY.sub(rf"{_HIDDEN}\1", line)
        if hidden == line:
            raise
    return {key.removeprefix(_HIDDEN): value for key, value in key_val_str_to_dict(hidden).items()}


def _not_text(path: Path) -> UserError:
    return UserError(f"{path}: not a text file, though its name says xyz")


def _frames(file: IO[str], name: str) -> Iterator[int]:
    """Yields the number of atoms of each frame."""
    index, line_number = 0, 0
    for line in file:
        line_number += 1
        where = f"{name}, frame {index} (line {line_number})"
        if not line.strip():
            if any(rest.strip() for rest in file):
                raise UserError(f"{where}: a blank line, and more after it that would not be read; remove the line")
            return
        if index and line.lstrip().startswith("VEC"):  # cell vectors may follow the atoms in this form
            continue
        try:
            n_atoms = int(line)
        except ValueError:
            raise UserError(
                f"{where}: a number of atoms was expected, not {line.strip()[:40]!r}; is it xyz, and the frame before whole?"
            ) from None
        if n_atoms <= 0:
            raise UserError(f"{where}: {n_atoms} atoms; remove the frame")
        _atom_lines(file, n_atoms, f"{name}, frame {index}")
        line_number += 1 + n_atoms
        yield n_atoms
        index += 1


def _atom_lines(file: Iterator[str], n_atoms: int, where: str) -> None:
    next(file, "")  # the comment
    last, columns, widths = "", 0, set()
    for i in range(n_atoms):
        widths.add(len(last.rstrip()))
        last = next(file, "")
        if not last.strip():
            raise UserError(f"{where}: cut short, {i} of {n_atoms} atoms are there; remove the frame or fetch the file again")
        if i == 0:
            columns = len(last.split())
    if len(last.split()) != columns:
        raise UserError(f"{where}: the last atom has {len(last.split())} columns and the first {columns}; the frame is cut short")
    if not last.endswith("\n"):
        _end_without_break(last, widths - {0}, n_atoms, where)


def _end_without_break(last: str, widths: set[int], n_atoms: int, where: str) -> None:
    """A file that ends within a line: cut short where the other lines are all of one width and this one is not."""
    if n_atoms > 2 and len(widths) == 1 and len(last) < min(widths):
        raise UserError(f"{where}: the last line is shorter than the others; its last number is cut short, fetch the file again")
    log.warning("%s: the file ends without a line break, so its last number may be cut short", where)
