"""Reading DeePMD folders (type.raw, type_map.raw, set.*/…npy, or raw text) through dpdata."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import ase
import numpy as np
from ase.data import atomic_numbers

from equipot.data.frame import Frame
from equipot.data.labels import Keys, Remarks, frame_from_atoms
from equipot.data.units import Units, factors
from equipot.errors import UserError


def is_deepmd(folder: Path) -> bool:
    """Whether `folder` is a DeePMD system or holds one at any depth."""
    return next(folder.rglob("type.raw"), None) is not None


def read(folder: Path, select: Callable[[int, str], Sequence[int]], units: Units | None) -> list[Frame]:
    """Frames of one system, or of all systems below `folder` in the order of their names; `select(n, name)` chooses among n frames.

    Units are eV and Å unless declared; the virial is −V σ. The names of labels are fixed in this format.
    Raises UserError naming the folder for what dpdata cannot read.
    """
    systems = [folder] if (folder / "type.raw").is_file() else sorted(p.parent for p in folder.rglob("type.raw"))
    atoms = [(system, i, a) for system in systems for i, a in enumerate(_system(system))]
    scale = factors(units)
    remarks: dict[str, Remarks] = {}
    frames = []
    for k in select(len(atoms), str(folder)):
        system, i, one = atoms[k]
        remark = remarks.setdefault(str(system), Remarks(str(system)))
        frames.append(frame_from_atoms(one, Keys(), scale, str(system), i, remark))
    for remark in remarks.values():
        remark.log()
    return frames


def _system(folder: Path) -> Iterator[ase.Atoms]:
    import dpdata  # slow to import and needed for this format only

    if not (folder / "type_map.raw").is_file():
        raise UserError(
            f"{folder}: no type_map.raw, so its elements are unknown; write one symbol per type into it, in the order of type.raw"
        )
    sets = sorted(folder.glob("set.*"))
    mixed = any((s / "real_atom_types.npy").is_file() for s in sets)
    kind = "deepmd/npy/mixed" if mixed else "deepmd/npy" if sets else "deepmd/raw"
    labelled = bool(sets) and all((s / "energy.npy").is_file() and (s / "force.npy").is_file() for s in sets)
    labelled = labelled or (not sets and (folder / "energy.raw").is_file() and (folder / "force.raw").is_file())
    if not labelled:
        raise UserError(f"{folder}: energy and force are not in every set of it; DeePMD folders need both")
    try:
        if mixed:
            systems = list(dpdata.MultiSystems().load_systems_from_file(str(folder), fmt=kind).systems.values())
        else:
            systems = [dpdata.LabeledSystem(str(folder), fmt=kind)]
    except Exception as error:
        raise UserError(f"{folder}: dpdata cannot read it: {type(error).__name__}: {' '.join(str(error).split())[:200]}") from error
    if not any(len(s) for s in systems):
        raise UserError(f"{folder}: no frames in it")
    periodic = not (folder / "nopbc").is_file()
    unknown = next((name for system in systems for name in system.data["atom_names"] if name not in atomic_numbers), None)
    if unknown is not None:
        raise UserError(f"{folder}: {unknown!r} in its type map is not an element; write one chemical symbol per type into type_map.raw")
    for system in systems:
        yield from _atoms(system.data, periodic)


def _atoms(data: dict, periodic: bool) -> Iterator[ase.Atoms]:
    symbols = [data["atom_names"][t] for t in data["atom_types"]]
    for i in range(len(data["coords"])):
        cell = np.asarray(data["cells"][i], dtype=np.float64) if periodic else None
        atoms = ase.Atoms(symbols=symbols, positions=np.asarray(data["coords"][i], dtype=np.float64), cell=cell, pbc=periodic)
        atoms.info["energy"] = float(data["energies"][i])
        atoms.arrays["forces"] = np.asarray(data["forces"][i], dtype=np.float64)
        if "virials" in data:
            atoms.info["virial"] = np.asarray(data["virials"][i], dtype=np.float64)
        yield atoms
