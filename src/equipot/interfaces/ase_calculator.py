"""The ASE calculator."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator as AseCalculator
from ase.calculators.calculator import PropertyNotImplementedError, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from equipot.engine.file import SUFFIX
from equipot.engine.package import PACKAGE_SUFFIX
from equipot.errors import UserError
from equipot.interfaces.engines import Evaluation, open_engine

if TYPE_CHECKING:
    from equipot.model import Potential


ASE_OPTIONS = {"restart", "ignore_bad_restart_file", "label", "atoms", "directory"}  # of its own base class, which takes any other silently


class NoStressError(UserError, PropertyNotImplementedError):
    """Stress was asked of a structure without a volume; also the exception ASE expects for what cannot be computed."""


class Calculator(AseCalculator):
    """A model as an ASE calculator: energy, free_energy (the same), energies per atom, forces and stress.

    Args: path of a model file, an exported one (.eqn, .pt2), or a `Potential`; dtype "float32", "float64" or None for the one the model was
    trained in; device as torch names it; engine "auto", "torch" or "native"; skin of the neighbour list in Å, which is searched anew only when
    atoms have moved about half of it (results do not depend on it). eV, Å, eV/Å; stress in eV/Å³, tensile positive, in ASE's Voigt order (xx yy zz yz xz xy),
    computed with the forces wherever the cell is full and periodic in all directions.
    An ensemble gives the mean of its members, and how far they are apart: results["energy_std"], eV, and results["forces_std"] (N,), eV/Å, the
    standard deviation of each atom's force vector (`model.Spread`). A model with a calibrated last layer gives results["energy_std"] with the
    engine torch, and with the native one where it is asked for: get_property("energy_std", atoms).
    Raises UserError, a one-line message, for a file that is no model, elements the model does not know, positions that are not finite,
    and, as `NoStressError`, for the stress of a molecule or slab.
    """

    implemented_properties = ["energy", "free_energy", "energies", "forces", "stress"]
    ignored_changes = {"initial_charges", "initial_magmoms"}
    name = "equipot"

    def __init__(
        self,
        path: "str | Path | Potential",
        dtype: str | None = None,
        device: str = "cpu",
        engine: str = "auto",
        skin: float = 1.0,
        **kwargs: Any,
    ) -> None:
        unknown = sorted(set(kwargs) - ASE_OPTIONS)
        if unknown:
            raise UserError(f"Calculator has no option {unknown[0]!r}: it takes path, dtype, device, engine and skin")
        super().__init__(**kwargs)
        self.engine = open_engine(path, engine, dtype, device, skin)
        self._model, self._doubt = path, None
        self.implemented_properties = [*type(self).implemented_properties, *self.engine.uncertainties]
        model = str(path) if isinstance(path, str | Path) else "potential"
        self.parameters.update(path=model, dtype=self.engine.dtype, device=device, engine=self.engine.name, skin=skin)

    def get_property(self, name: str, atoms: Atoms | None = None, allow_calculation: bool = True) -> Any:
        """As ASE's; "energy_std" also of a model with a calibrated last layer whose engine does not compute it: torch does."""
        if name == "energy_std" and name not in self.implemented_properties and not _is_exported(self._model):
            self._doubt = open_engine(self._model, "torch", self.parameters["dtype"], self.parameters["device"], self.parameters["skin"])
            self.implemented_properties += self._doubt.uncertainties
        known = atoms is not None and self.atoms is not None and name in self.implemented_properties
        changes = self.check_state(atoms) if known else None
        if allow_calculation and changes == ["positions"]:  # ASE would copy everything twice, a sixth of a molecule's step
            self.results = {}
            self.atoms.positions[:] = atoms.positions
            self.calculate(self.atoms, [name], ["positions"])
            changes = []
        if changes == [] and name in self.results:
            result = self.results[name]
            return result.copy() if isinstance(result, np.ndarray) else result
        return super().get_property(name, atoms, allow_calculation)

    def check_state(self, atoms: Atoms, tol: float = 0.0) -> list[str]:
        """What has changed since the last calculation, exactly; ASE's own comparison takes as long as a molecule's neighbour list."""
        old = self.atoms
        if old is None:
            return all_changes
        pairs = {
            "positions": (old.positions, atoms.positions),
            "numbers": (old.numbers, atoms.numbers),
            "cell": (old.cell.array, atoms.cell.array),
            "pbc": (old.pbc, atoms.pbc),
        }
        # bytes: np.array_equal of four small arrays takes several times as long, in every step
        return [name for name, (before, now) in pairs.items() if before.tobytes() != now.tobytes()]

    def calculate(self, atoms: Atoms | None = None, properties: list[str] | None = None, system_changes: list[str] = all_changes) -> None:
        """Fills `results`; see the class for what raises."""
        if atoms is not self.atoms:
            super().calculate(atoms, properties, system_changes)
        if not len(self.atoms):
            raise UserError("the structure has no atoms")
        stress = has_full_cell(self.atoms)
        if not stress and "stress" in (properties or ()):
            raise NoStressError(
                "stress needs a cell that is periodic in all three directions: this structure is a molecule or a slab, or has no full cell"
            )
        found = self.engine.evaluate(self.atoms.numbers, self.atoms.positions, self.atoms.cell.array, self.atoms.pbc, stress)
        _require_finite(found)
        self.results = {"energy": found.energy, "free_energy": found.energy, "energies": found.energies, "forces": found.forces}
        self.results |= {name: getattr(found, name) for name in self.engine.uncertainties}
        if self._doubt is not None and "energy_std" in (properties or ()):
            doubt = self._doubt.evaluate(self.atoms.numbers, self.atoms.positions, self.atoms.cell.array, self.atoms.pbc, False)
            self.results["energy_std"] = doubt.energy_std
        if found.stress is not None:
            self.results["stress"] = full_3x3_to_voigt_6_stress(found.stress)


def has_full_cell(atoms: Atoms) -> bool:
    """Whether the structure has a volume: periodic in all three directions, by three independent vectors."""
    return bool(atoms.pbc.all()) and abs(np.linalg.det(atoms.cell.array)) > 1e-9


def _is_exported(model: object) -> bool:
    return isinstance(model, str | Path) and Path(model).suffix in (SUFFIX, PACKAGE_SUFFIX)


def _require_finite(found: Evaluation) -> None:
    if not math.isfinite(found.energy + float(np.add.reduce(found.forces, axis=None))):  # a sum is finite only if its terms are
        raise UserError("the model's energy or forces are not finite here: atoms sit on one another, or a simulation has blown up")
