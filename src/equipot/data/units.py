"""Units a data file may be in, and the factors that take them to eV and Å."""

import difflib
from dataclasses import dataclass, fields
from typing import Any

from ase import units as ase_units

from equipot.errors import UserError

ENERGY = {
    "ev": 1.0,
    "mev": 1e-3,
    "kcal/mol": ase_units.kcal / ase_units.mol,
    "kj/mol": ase_units.kJ / ase_units.mol,
    "ha": ase_units.Hartree,
    "hartree": ase_units.Hartree,
    "ry": ase_units.Rydberg,
    "rydberg": ase_units.Rydberg,
}
LENGTH = {"angstrom": 1.0, "ang": 1.0, "å": 1.0, "a": 1.0, "bohr": ase_units.Bohr, "nm": 10.0}
PRESSURE = {"gpa": ase_units.GPa, "kbar": 0.1 * ase_units.GPa, "bar": 1e-4 * ase_units.GPa, "pa": 1e-9 * ase_units.GPa}

Unit = str | float | None


@dataclass(frozen=True)
class Units:
    """The units of a file, by name or as a number (how many eV, Å, eV/Å or eV/Å³ one unit is); None means the format's own.

    The own units of a format are eV and Å, but kcal/mol and Å in an .npz file. Forces are energy/length and stress energy/length³ unless
    declared; virials are energies.
    """

    energy: Unit = None
    length: Unit = None
    forces: Unit = None
    stress: Unit = None

    @classmethod
    def from_mapping(cls, mapping: dict[str, Any]) -> "Units":
        """Units from a configuration; raises UserError that names the nearest valid key."""
        return cls(**checked_keys(mapping, [f.name for f in fields(cls)], "units"))


@dataclass(frozen=True)
class Factors:
    """What the numbers of a file are multiplied by to be eV, Å, eV/Å and eV/Å³."""

    energy: float = 1.0
    length: float = 1.0
    forces: float = 1.0
    stress: float = 1.0

    @property
    def is_identity(self) -> bool:
        return self == Factors()


def factors(units: Units | None, energy: Unit = "eV", length: Unit = "angstrom") -> Factors:
    """The factors of declared units; `energy` and `length` are the format's own, used where nothing is declared."""
    units = units or Units()
    energy_factor = _factor(units.energy if units.energy is not None else energy, ENERGY, "energy")
    length_factor = _factor(units.length if units.length is not None else length, LENGTH, "length")
    forces = energy_factor / length_factor if units.forces is None else _compound(units.forces, 1, {}, "forces")
    stress = energy_factor / length_factor**3 if units.stress is None else _compound(units.stress, 3, PRESSURE, "stress")
    return Factors(energy_factor, length_factor, forces, stress)


def checked_keys(mapping: dict[str, Any], valid: list[str], what: str) -> dict[str, Any]:
    """`mapping` unchanged if all its keys are valid; raises UserError with the nearest valid one."""
    for key in mapping:
        if key not in valid:
            near = difflib.get_close_matches(str(key), valid, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"it takes {', '.join(valid)}"
            raise UserError(f"{what}: {key!r} is not a key; {hint}")
    return dict(mapping)


def _factor(unit: str | float, table: dict[str, float], what: str) -> float:
    if isinstance(unit, int | float) and not isinstance(unit, bool):
        value = float(unit)
    else:
        value = table.get(_plain(unit), 0.0) or _number(unit)
    if not 0.0 < value < float("inf"):
        raise UserError(f"units: {unit!r} is not a unit of {what}; use one of {', '.join(table)}, or a positive number")
    return value


def _compound(unit: str | float, power: int, simple: dict[str, float], what: str) -> float:
    """A unit such as 'Ha/bohr' (power 1) or 'eV/angstrom^3' (power 3), or one of the `simple` ones."""
    if not isinstance(unit, str) or _plain(unit) in simple or _number(unit):
        return _factor(unit, simple, what)
    energy, slash, length = _plain(unit).rpartition("/")
    base = length if power == 1 else length.replace("**", "^").removesuffix(f"^{power}")
    if slash and energy in ENERGY and base in LENGTH and (power == 1 or base != length):
        return ENERGY[energy] / LENGTH[base] ** power
    example = "eV/angstrom or Ha/bohr" if power == 1 else "eV/angstrom^3, GPa, kbar or bar"
    raise UserError(f"units: {unit!r} is not a unit of {what}; use for example {example}, or a positive number")


def _plain(unit: Any) -> str:
    return str(unit).strip().lower().replace(" ", "").replace("³", "^3")


def _number(unit: Any) -> float:
    try:
        return 0.0 if isinstance(unit, bool) else float(unit)
    except (TypeError, ValueError):
        return 0.0
