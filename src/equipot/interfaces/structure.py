"""Reading the one structure a simulation starts from, with its velocities and constraints."""

from pathlib import Path

import ase.io
from ase import Atoms
from ase.io.formats import UnknownFileTypeError

from equipot.data import scan_xyz
from equipot.data.readers import XYZ_SUFFIXES, read_frames, resolve
from equipot.errors import UserError


def read_structure(name: str | Path) -> Atoms:
    """One structure of a file: the last, or the one chosen as `file.xyz@12`; anything ASE reads, .npz, DeePMD folders, `equipot:NAME`.

    Velocities and constraints in the file are kept, results of other calculators are not. Raises UserError naming what is wrong.
    """
    path, selection = resolve(str(name))
    if path.is_dir() or path.suffix == ".npz":
        atoms = read_frames(str(name))[-1].atoms()
    else:
        frames = _read(path, all_frames=bool(selection.text))
        atoms = frames[selection.indices(len(frames), str(path))[-1]]
    if not len(atoms):
        raise UserError(f"{path}: the structure has no atoms")
    atoms.calc = None
    return atoms


def _read(path: Path, all_frames: bool) -> list[Atoms]:
    """All frames or the last."""
    if path.stat().st_size == 0:
        raise UserError(f"{path}: the file is empty")
    if path.name.lower().endswith(XYZ_SUFFIXES):
        with scan_xyz.open_text(path) as text:
            scan_xyz.count_frames(text, path)  # names what is cut short or malformed; ASE may stop there without a word
    try:
        frames = ase.io.read(path, index=":" if all_frames else "-1:")
    except UnknownFileTypeError:
        raise UserError(f"{path}: not a format that ASE knows; give extended xyz, cif, POSCAR or another that ASE reads") from None
    except Exception as error:
        message = " ".join(str(error).split()) or "no message"
        raise UserError(f"{path}: cannot be read as a structure: {type(error).__name__}: {message[:200]}") from error
    if not frames:
        raise UserError(f"{path}: no structure in it")
    return frames
