"""Reading labelled structures from any supported file or folder."""

import logging
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import ase
import ase.io
from ase.io.extxyz import read_xyz
from ase.io.formats import UnknownFileTypeError, filetype

from equipot.data import read_deepmd, read_npz, scan_xyz
from equipot.data.frame import Frame
from equipot.data.labels import Keys, Remarks, frame_from_atoms
from equipot.data.units import Factors, Units, factors
from equipot.errors import UserError

log = logging.getLogger("equipot.data")
PACKAGED = "equipot:"
XYZ_SUFFIXES = (".xyz", ".extxyz", ".xyz.gz", ".extxyz.gz", ".xyz.bz2", ".extxyz.bz2", ".xyz.xz", ".extxyz.xz")
VASP_ENDINGS = {"vasprun": b"</modeling>", "OUTCAR": b"General timing"}
_SELECTION = re.compile(r"^(?P<path>.+)@(?P<selection>-?\d+|(-?\d+)?:(-?\d+)?(:(-?[1-9]\d*)?)?)$")


@dataclass(frozen=True)
class Selection:
    """Which frames of a file: everything, one (`@5`, `@-1`) or a slice (`@0:100`, `@::10`)."""

    text: str = ""

    def indices(self, n: int, where: str) -> range:
        """The chosen frame numbers among n; raises UserError if there are none."""
        if not self.text:
            return range(n)
        if ":" in self.text:
            chosen = range(n)[slice(*(int(part) if part else None for part in self.text.split(":")))]
        else:
            index = int(self.text)
            chosen = range(index % n, index % n + 1) if -n <= index < n else range(0)
        if not len(chosen):
            raise UserError(f"{where}@{self.text}: no such frame; the file has {n}, numbered from 0")
        return chosen


def read_frames(
    paths: str | os.PathLike | Sequence[str | os.PathLike], keys: Keys | None = None, units: Units | None = None
) -> list[Frame]:
    """Frames of files and folders, in order, in eV and Å; `"file.xyz@0:100"` reads a slice, `"equipot:NAME"` a packaged data set.

    Reads anything ASE reads (extended xyz, also compressed; vasprun.xml, OUTCAR, traj …), rMD17 and sGDML .npz and DeePMD folders
    or a folder that holds several of them. What had to be assumed is logged as a warning of the logger `equipot.data`. Raises UserError
    naming the file and the frame, counted from 0, for what cannot be read: nothing is repaired and nothing is left out.
    """
    if isinstance(paths, str | os.PathLike):
        paths = [paths]
    if not len(paths):
        raise UserError("no data files are given: name at least one")
    return [frame for path in paths for frame in _read_one(os.fspath(path), keys or Keys(), units)]


def resolve(path: str) -> tuple[Path, Selection]:
    """The file a name stands for and the frames chosen from it; raises UserError where nothing is there."""
    if not path.strip():
        raise UserError("a data file has no name: name a file or a folder")
    selection = Selection()
    match = _SELECTION.match(path)
    if match and not Path(path).exists():
        path, selection = match["path"], Selection(match["selection"])
    if path.startswith(PACKAGED):
        from equipot import datasets  # only this scheme needs the package data

        try:
            return Path(datasets.path(path.removeprefix(PACKAGED))), selection
        except ValueError as error:
            raise UserError(f"{path}: {error}") from None
    found = Path(path).expanduser()
    if not found.exists():
        raise UserError(f"{path}: no such file or folder; paths are relative to {Path.cwd()}")
    return found, selection


def _read_one(name: str, keys: Keys, units: Units | None) -> list[Frame]:
    path, selection = resolve(name)
    file = str(path)
    if path.is_dir() and read_deepmd.is_deepmd(path):
        return read_deepmd.read(path, selection.indices, units)
    if path.is_dir():
        raise UserError(f"{file}: a folder that holds no DeePMD data (no type.raw below it); name a file in it")
    if path.stat().st_size == 0:
        raise UserError(f"{file}: the file is empty")
    if path.suffix == ".npz":
        return read_npz.read(path, selection.indices, keys, units)
    if file.lower().endswith(XYZ_SUFFIXES) or _format(path) in ("extxyz", "xyz"):
        with scan_xyz.open_text(path) as text:
            wanted = selection.indices(scan_xyz.count_frames(text, path), file)
            text.seek(0)
            return _frames(file, wanted, _xyz(text, file, wanted), keys, factors(units))
    if not factors(units).is_identity:
        raise UserError(f"{file}: ASE already gives eV and Å for this format; drop `units`, or convert the file on its own")
    return _read_by_ase(path, selection, keys)


def _frames(file: str, indices: Sequence[int], found: Sequence[ase.Atoms], keys: Keys, scale: Factors) -> list[Frame]:
    remarks = Remarks(file)
    frames = [frame_from_atoms(atoms, keys, scale, file, i, remarks) for i, atoms in zip(indices, found, strict=True)]
    remarks.log()
    return frames


def _xyz(text: IO[str], file: str, wanted: range) -> list[ase.Atoms]:
    """Frames by number, one at a time, so that one that cannot be read is named."""
    up = wanted if wanted.step > 0 else wanted[::-1]
    stream = read_xyz(text, index=slice(up.start, up.stop, up.step), properties_parser=scan_xyz.parse_comment)
    found: list[ase.Atoms] = []
    for index in up:
        try:
            found.append(next(stream))
        except StopIteration:
            raise UserError(f"{file}, frame {index}: the reader stopped before it; the file is damaged there") from None
        except Exception as error:
            raise UserError(f"{file}, frame {index}: {_one_line(error)}; mend or remove the frame") from error
    return found if wanted.step > 0 else found[::-1]


def _read_by_ase(path: Path, selection: Selection, keys: Keys) -> list[Frame]:
    found = read_by_ase(path, "not a format that ASE, .npz or DeePMD readers know; convert it to extended xyz")
    _warn_if_unfinished(path)
    file = str(path)
    wanted = selection.indices(len(found), file)
    return _frames(file, wanted, [found[i] for i in wanted], keys, Factors())


def read_by_ase(path: Path, otherwise: str) -> list[ase.Atoms]:
    """All frames in any format of ASE's. Raises UserError for what cannot be read, `otherwise` for a format that ASE does not know."""
    try:
        found = ase.io.read(path, index=":")
    except UnknownFileTypeError:
        raise UserError(f"{path}: {otherwise}") from None
    except Exception as error:
        raise UserError(f"{path}: ASE cannot read it: {_one_line(error)}") from error
    if not found:
        raise UserError(f"{path}: no frames in it")
    return found


def _warn_if_unfinished(path: Path) -> None:
    """ASE leaves out the last step of a VASP run that was stopped, without a word."""
    ending = next((end for name, end in VASP_ENDINGS.items() if path.name.startswith(name)), None)
    if ending is not None and path.suffix != ".gz":
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 20000))
            if ending not in file.read():
                log.warning("%s: the run was stopped or the file is cut short; a last incomplete step is left out", path)


def _format(path: Path) -> str:
    try:
        return str(filetype(str(path), guess=True))
    except (UnknownFileTypeError, OSError, UnicodeDecodeError):
        return ""


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split()) or 'no message'}"[:200]
