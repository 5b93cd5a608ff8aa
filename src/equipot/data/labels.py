"""Where the labels of a structure stand, and which of several is taken."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any

import ase
import numpy as np
from ase.data import chemical_symbols

from equipot.data.frame import DEFAULT_CONFIG_TYPE, Frame
from equipot.data.units import Factors, checked_keys
from equipot.errors import UserError

log = logging.getLogger("equipot.data")

# ASE's order xx yy zz yz xz xy as places in a 3x3 matrix.
VOIGT = np.array([[0, 5, 4], [5, 1, 3], [4, 3, 2]])
USUAL = {prefix + name for prefix in ("", "REF_") for name in ("energy", "forces", "stress", "virial")} | {"free_energy"}
SMALL_VOLUME = 1e-6  # Å³
FREE_ENERGY_TOLERANCE = 1e-6  # eV


@dataclass(frozen=True)
class Keys:
    """Names under which a file keeps its labels; None looks in the usual places.

    Precedence of the usual places: `REF_energy`, then `free_energy` (the one the forces of a calculation with smearing belong to), then
    `energy`; `REF_forces`, then `forces`; `REF_stress`, `REF_virial`, `stress`, `virial`. A name given here goes before all of them.
    """

    energy: str | None = None
    forces: str | None = None
    stress: str | None = None
    virial: str | None = None
    config_type: str | None = None
    weight: str | None = None

    @classmethod
    def from_mapping(cls, mapping: dict[str, Any]) -> "Keys":
        """Keys from a configuration; raises UserError that names the nearest valid key."""
        return cls(**checked_keys(mapping, [f.name for f in fields(cls)], "keys"))


@dataclass
class Remarks:
    """Things worth a word about one file: each said once, with how many frames it is true of and the first of them."""

    file: str
    said: dict[str, list[int]] = field(default_factory=dict)

    def add(self, message: str, frame: int) -> None:
        self.said.setdefault(message, []).append(frame)

    def log(self) -> None:
        for message, found in self.said.items():
            log.warning("%s, frame %d%s: %s", self.file, found[0], f" and {len(found) - 1} more" if len(found) > 1 else "", message)


def frame_from_atoms(atoms: ase.Atoms, keys: Keys, scale: Factors, file: str, index: int, remarks: Remarks) -> Frame:
    """A checked frame from ASE atoms with its labels taken by `keys` and multiplied by `scale`; raises UserError naming file and frame."""
    where = f"{file}, frame {index}"
    used: set[str] = {"config_type", "config_weight"}
    cell = np.array(atoms.cell[:], dtype=np.float64) * scale.length
    found = _find_all(atoms, keys, used, index, remarks)
    frame = Frame(
        numbers=np.array(atoms.numbers, dtype=np.int64),
        positions=np.array(atoms.positions, dtype=np.float64) * scale.length,
        cell=cell,
        pbc=np.array(atoms.pbc, dtype=bool),
        energy=None if found["energy"] is None else _number(found["energy"], "energy", where) * scale.energy,
        forces=None if found["forces"] is None else _array(found["forces"], (len(atoms), 3), "forces", where) * scale.forces,
        stress=_stress(found["stress"], found["virial"], cell, scale, where, index, remarks),
        config_type=str(_config_type(atoms, keys, used)),
        weight=_number(_weight(atoms, keys, used), "weight", where),
        info={k: v for k, v in atoms.info.items() if k not in used},
        source=f"{file}#{index}",
    )
    check_frame(frame, where)
    return frame


def check_frame(frame: Frame, where: str) -> None:
    """Raises UserError for what no model could use: no atoms, unknown elements, numbers that are not finite, a negative weight."""
    if frame.n_atoms == 0:
        raise UserError(f"{where}: no atoms; remove the frame")
    unknown = (frame.numbers <= 0) | (frame.numbers >= len(chemical_symbols))
    if unknown.any():
        raise UserError(f"{where}: atom {int(np.argmax(unknown))} has no known element; give chemical symbols or atomic numbers")
    if not frame.weight >= 0.0 or frame.weight == float("inf"):
        raise UserError(f"{where}: weight {frame.weight} must be zero or positive")
    for name in ("positions", "cell", "energy", "forces", "stress"):
        value = getattr(frame, name)
        if value is not None and not np.isfinite(value).all():
            bad = np.argwhere(~np.isfinite(value))[0] if np.ndim(value) else []
            atom = f" of atom {bad[0]}" if name in ("positions", "forces") else ""
            raise UserError(f"{where}: {name}{atom} is NaN or infinite; remove the frame or the label")


def as_stress(value: Any, where: str, name: str = "stress") -> np.ndarray:
    """(3, 3) from 3x3, 9 numbers or ASE's Voigt 6 (xx yy zz yz xz xy); raises UserError for any other shape."""
    array = _array(value, None, name, where)
    if array.shape == (6,):
        return array[VOIGT]
    if array.size == 9:
        return array.reshape(3, 3)
    raise UserError(f"{where}: {name} has shape {array.shape}; it takes 3x3, 9 numbers, or 6 in the order xx yy zz yz xz xy")


def _find_all(atoms: ase.Atoms, keys: Keys, used: set[str], index: int, remarks: Remarks) -> dict[str, Any]:
    results = atoms.calc.results if atoms.calc is not None else {}
    places = [atoms.info, atoms.arrays, results]

    def first(names: Iterable[str]) -> Any:
        for name in names:
            for place in places:
                if place.get(name) is not None:
                    used.add(name)
                    return place[name]
        return None

    found = {
        "energy": first([keys.energy] if keys.energy else ["REF_energy", "free_energy", "energy"]),
        "forces": first([keys.forces] if keys.forces else ["REF_forces", "forces"]),
        "stress": None,
        "virial": None,
    }
    if keys.stress or keys.virial:
        order = [("stress", keys.stress), ("virial", keys.virial)]
    else:
        order = [("stress", "REF_stress"), ("virial", "REF_virial"), ("stress", "stress"), ("virial", "virial")]
    for kind, name in order:
        if name and found["stress"] is None and found["virial"] is None:
            found[kind] = first([name])
    _remark_on_choices(first, keys, found, used, index, remarks)
    # A label that was not taken must not come back as the label when the frame is written and read again.
    used.update(USUAL)
    return found


def _remark_on_choices(first: Any, keys: Keys, found: dict[str, Any], used: set[str], index: int, remarks: Remarks) -> None:
    """Says where two candidates for the energy differ, and where a name the user gave is not in the frame."""
    if not keys.energy and np.size(found["energy"]) == 1 and ("free_energy" in used or "REF_energy" in used):
        taken = "REF_energy" if "REF_energy" in used else "free_energy"
        other = first(["energy"])
        if other is not None and np.size(other) == 1 and abs(float(other) - float(found["energy"])) > FREE_ENERGY_TOLERANCE:
            why = " (the forces belong to it)" if taken == "free_energy" else ""
            remarks.add(f"{taken} differs from energy; {taken} is used{why}", index)
    for kind in ("energy", "forces", "stress", "virial"):
        if getattr(keys, kind) and found[kind] is None:
            remarks.add(f"has no {getattr(keys, kind)!r}, the name given for {kind}: it counts as unlabelled", index)


def _stress(stress: Any, virial: Any, cell: np.ndarray, scale: Factors, where: str, index: int, remarks: Remarks) -> np.ndarray | None:
    if stress is None and virial is None:
        return None
    volume = abs(np.linalg.det(cell))
    if stress is not None:
        sigma = as_stress(stress, where) * scale.stress
    elif volume < SMALL_VOLUME:
        remarks.add("a virial without a cell of three vectors has no stress: it counts as unlabelled", index)
        return None
    else:
        sigma = -as_stress(virial, where, "virial") * scale.energy / volume
    asymmetry = np.abs(sigma - sigma.T).max()
    if asymmetry > 1e-3 * max(np.abs(sigma).max(), 1e-6):
        remarks.add("stress is not symmetric to 0.1 %: no model can fit the antisymmetric part", index)
    return sigma


def _config_type(atoms: ase.Atoms, keys: Keys, used: set[str]) -> Any:
    if keys.config_type:
        used.add(keys.config_type)
        return atoms.info.get(keys.config_type, DEFAULT_CONFIG_TYPE)
    return atoms.info.get("config_type", DEFAULT_CONFIG_TYPE)


def _weight(atoms: ase.Atoms, keys: Keys, used: set[str]) -> Any:
    if keys.weight:
        used.add(keys.weight)
        return atoms.info.get(keys.weight, 1.0)
    return atoms.info.get("config_weight", 1.0)


def _number(value: Any, name: str, where: str) -> float:
    array = _array(value, None, name, where)
    if array.size != 1:
        raise UserError(f"{where}: {name} must be one number, not {array.size}; give another name in keys")
    return float(array.reshape(()))


def _array(value: Any, shape: tuple[int, ...] | None, name: str, where: str) -> np.ndarray:
    try:
        if np.iscomplexobj(value):
            raise TypeError
        array = np.array(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise UserError(f"{where}: {name} is not numeric ({str(value)[:40]!r}); give another name in keys") from None
    if shape is not None and array.shape != shape:
        raise UserError(f"{where}: {name} has shape {array.shape}, not {shape}; give another name in keys")
    return array
