"""Reading rMD17 and sGDML .npz files: one molecule, many geometries, kcal/mol unless said otherwise."""

import logging
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import ase
import numpy as np

from equipot.data.frame import Frame, to_numbers
from equipot.data.labels import Keys, Remarks, frame_from_atoms
from equipot.data.units import Factors, Units, factors
from equipot.errors import UserError

log = logging.getLogger("equipot.data")

NUMBERS = ("nuclear_charges", "z", "atomic_numbers", "numbers")
POSITIONS = ("coords", "R", "positions", "coordinates")
ENERGY = ("energies", "E", "energy")
FORCES = ("forces", "F", "force")


def read(path: Path, select: Callable[[int, str], Sequence[int]], keys: Keys, units: Units | None) -> list[Frame]:
    """Frames of an .npz file; `select(n, file)` chooses among n of them; raises UserError for missing arrays and wrong shapes."""
    arrays = _load(path)
    numbers = _first(arrays, NUMBERS, path, "atomic numbers")
    positions = np.asarray(_first(arrays, POSITIONS, path, "positions"))
    energy = _label(arrays, keys.energy, ENERGY, path)
    forces = _label(arrays, keys.forces, FORCES, path)
    if positions.ndim != 3 or positions.shape[2] != 3 or not len(positions):
        raise UserError(f"{path}: positions have shape {positions.shape}, not (frames, atoms, 3)")
    n = len(positions)
    energy = None if energy is None else _per_frame(energy, n, "energies", path).reshape(n, -1)
    forces = None if forces is None else _per_frame(forces, n, "forces", path)
    if np.shape(numbers) not in (positions.shape[:2], positions.shape[1:2]):
        raise UserError(f"{path}: {np.shape(numbers)} atomic numbers for positions of shape {positions.shape}")
    numbers = np.broadcast_to(_whole(numbers, path), positions.shape[:2])
    scale = _units(arrays, units, path)
    cell, pbc = _cell(arrays)
    remarks = Remarks(str(path))
    frames = []
    for i in select(n, str(path)):
        atoms = ase.Atoms(numbers=numbers[i], positions=positions[i], cell=cell, pbc=pbc)
        if energy is not None:
            atoms.info["energy"] = energy[i]
        if forces is not None:
            atoms.arrays["forces"] = forces[i]
        frames.append(frame_from_atoms(atoms, Keys(), scale, str(path), i, remarks))
    remarks.log()
    return frames


def _load(path: Path) -> dict[str, np.ndarray]:
    if not zipfile.is_zipfile(path):
        raise UserError(f"{path}: not an .npz file, or cut short: write it with numpy.savez, or fetch it again")
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files if not _holds_objects(file, name)}
    except (zipfile.BadZipFile, zlib.error, ValueError, OSError, EOFError) as error:
        raise UserError(f"{path}: not a readable .npz file ({error}); it may be cut short") from None


def _holds_objects(file: np.lib.npyio.NpzFile, name: str) -> bool:
    """Whether an array is one of Python objects (ragged, say), which could run code when it is read and is left where it is."""
    try:
        return file[name].dtype == object
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise
        return True


def _whole(numbers: np.ndarray, path: Path) -> np.ndarray:
    """Atomic numbers from numbers or chemical symbols; raises UserError for anything else."""
    array = np.asarray(numbers)
    if array.dtype.kind in "US":
        try:
            return np.array(to_numbers(array.astype(str).ravel().tolist())).reshape(array.shape)
        except UserError as error:
            raise UserError(f"{path}: {error}") from None
    if array.dtype.kind not in "iuf" or (array != np.round(array)).any():
        raise UserError(f"{path}: the atomic numbers are no whole numbers ({array.dtype}); give atomic numbers or chemical symbols")
    return array.astype(np.int64)


def _first(arrays: dict[str, np.ndarray], names: Sequence[str], path: Path, what: str) -> np.ndarray:
    for name in names:
        if name in arrays:
            return arrays[name]
    raise UserError(
        f"{path}: no {what}: none of {', '.join(names)} is among its arrays ({', '.join(arrays)}; arrays of objects are not read)"
    )


def _label(arrays: dict[str, np.ndarray], key: str | None, usual: Sequence[str], path: Path) -> np.ndarray | None:
    if key:
        return _first(arrays, [key], path, f"{key!r}, named in keys")
    return next((arrays[name] for name in usual if name in arrays), None)


def _per_frame(array: np.ndarray, n: int, what: str, path: Path) -> np.ndarray:
    array = np.asarray(array)
    if array.ndim == 0 or len(array) != n:
        raise UserError(f"{path}: {what} have shape {array.shape} for {n} frames")
    return array


def _units(arrays: dict[str, np.ndarray], units: Units | None, path: Path) -> Factors:
    """Declared units, else those sGDML files state, else kcal/mol and Å, said in the log."""
    energy = str(arrays["e_unit"]) if "e_unit" in arrays else "kcal/mol"
    length = str(arrays["r_unit"]) if "r_unit" in arrays else "angstrom"
    if units is None or (units.energy is None and units.length is None):
        said = "as the file states" if "e_unit" in arrays else "assumed, as in rMD17; declare `units` if they are others"
        log.warning("%s: energies in %s and lengths in %s (%s)", path, energy, length, said)
    return factors(units, energy, length)


def _cell(arrays: dict[str, np.ndarray]) -> tuple[np.ndarray | None, bool]:
    """The lattice of a periodic sGDML file, whose columns are the lattice vectors."""
    if "lattice" in arrays and np.shape(arrays["lattice"]) == (3, 3):
        return np.asarray(arrays["lattice"], dtype=np.float64).T, True
    return None, False
