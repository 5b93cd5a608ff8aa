"""One labelled structure, as every reader returns it: eV, Å, and where it came from."""

from dataclasses import dataclass, field
from typing import Any

import ase
import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator
from ase.data import atomic_numbers, chemical_symbols
from ase.stress import full_3x3_to_voigt_6_stress

from equipot.errors import UserError

DEFAULT_CONFIG_TYPE = "default"


@dataclass(frozen=True, eq=False)
class Frame:
    """One structure with the labels it has; a label it lacks is None, never zero.

    Stress is σ = (1/V) ∂E/∂ε, tensile positive. `source` names the file and the frame's number in it, which counts from 0 as in ASE.
    """

    numbers: np.ndarray  # (n,) int64, atomic numbers
    positions: np.ndarray  # (n, 3) float64, Å, wrapped or not
    cell: np.ndarray  # (3, 3) float64, Å, rows are lattice vectors; zeros where there is none
    pbc: np.ndarray  # (3,) bool
    energy: float | None = None  # eV
    forces: np.ndarray | None = None  # (n, 3) float64, eV/Å
    stress: np.ndarray | None = None  # (3, 3) float64, eV/Å³
    config_type: str = DEFAULT_CONFIG_TYPE
    weight: float = 1.0  # of this structure in the loss
    info: dict[str, Any] = field(default_factory=dict)  # what else the file says of this frame, e.g. a temperature
    source: str = ""  # "file.xyz#12"

    @property
    def n_atoms(self) -> int:
        return len(self.numbers)

    @property
    def symbols(self) -> list[str]:
        return [chemical_symbols[z] for z in self.numbers]

    @property
    def volume(self) -> float:
        """|det cell| in Å³; 0 where the cell has fewer than three vectors."""
        return float(abs(np.linalg.det(self.cell)))

    @property
    def has_stress_volume(self) -> bool:
        """Whether stress means anything here: periodic in some direction and a cell of three vectors."""
        return bool(self.pbc.any()) and self.volume > 1e-6

    @property
    def has_lattice(self) -> bool:
        """Whether every periodic direction has a lattice vector independent of the others (true of a molecule)."""
        used = self.cell[self.pbc]
        return bool(np.isfinite(self.cell).all()) and (len(used) == 0 or int(np.linalg.matrix_rank(used)) == len(used))

    @property
    def file(self) -> str:
        return self.source.rpartition("#")[0] or self.source

    @property
    def index(self) -> int | None:
        tail = self.source.rpartition("#")[2]
        return int(tail) if tail.isdigit() else None

    def atoms(self) -> ase.Atoms:
        """The frame as ASE atoms; its labels are the results of a single-point calculator (stress in ASE's Voigt order)."""
        atoms = ase.Atoms(numbers=self.numbers, positions=self.positions, cell=self.cell, pbc=self.pbc)
        atoms.info.update(self.info)
        if self.config_type != DEFAULT_CONFIG_TYPE:
            atoms.info["config_type"] = self.config_type
        if self.weight != 1.0:
            atoms.info["config_weight"] = self.weight
        results = {"energy": self.energy, "forces": self.forces}
        results["stress"] = None if self.stress is None else full_3x3_to_voigt_6_stress(self.stress)
        results = {name: value for name, value in results.items() if value is not None}
        if results:
            atoms.calc = SinglePointCalculator(atoms, **results)
        return atoms


def elements_of(frames: list[Frame]) -> list[str]:
    """Symbols of the elements in `frames`, by atomic number."""
    present = np.unique(np.concatenate([f.numbers for f in frames])) if frames else []
    return [chemical_symbols[z] for z in present]


def to_numbers(elements: list[str] | list[int]) -> list[int]:
    """Atomic numbers of elements given by symbol or by number; raises UserError for what is no element."""
    numbers = []
    for element in elements:
        number = int(element) if isinstance(element, int | np.integer) else atomic_numbers.get(str(element).capitalize(), 0)
        if not 0 < number < len(chemical_symbols):
            raise UserError(f"{element!r} is not an element: give a symbol such as 'H' or an atomic number")
        numbers.append(number)
    return numbers


def species_index(numbers: np.ndarray, elements: list[str] | list[int], where: str = "structure") -> np.ndarray:
    """(n,) position of each atom's element in `elements`; raises UserError naming the elements that are not there."""
    table = np.full(len(chemical_symbols), -1, dtype=np.int64)
    table[to_numbers(elements)] = np.arange(len(elements))
    species = table[np.asarray(numbers)]
    if (species < 0).any():
        missing = ", ".join(chemical_symbols[z] for z in np.unique(np.asarray(numbers)[species < 0]))
        known = ", ".join(chemical_symbols[z] for z in to_numbers(elements))
        raise UserError(f"{where}: {missing} is not among the elements known here ({known}): train on structures that contain it")
    return species
