"""Predicted frames: written beside their reference values, and read again."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase
from ase.calculators.singlepoint import SinglePointCalculator
from ase.stress import full_3x3_to_voigt_6_stress

from equipot.data.frame import Frame
from equipot.data.writer import SUFFIXES, write_frames
from equipot.errors import UserError


@dataclass(frozen=True)
class PredictedFrame:
    """A frame and what a model says of it: energy (eV), forces (n, 3) eV/Å, stress (3, 3) eV/Å³ or None."""

    frame: Frame
    prediction: dict[str, Any]

    def atoms(self) -> ase.Atoms:
        """ASE atoms with the predictions as calculator results and the labels as `REF_energy`, `REF_forces` and `REF_stress` (Voigt)."""
        atoms = self.frame.atoms()
        results = {k: v for k, v in self.prediction.items() if v is not None}
        if "stress" in results:
            results["stress"] = full_3x3_to_voigt_6_stress(results["stress"])
        atoms.calc = SinglePointCalculator(atoms, **results)
        if self.frame.energy is not None:
            atoms.info["REF_energy"] = self.frame.energy
        if self.frame.forces is not None:
            atoms.arrays["REF_forces"] = self.frame.forces
        if self.frame.stress is not None:
            atoms.info["REF_stress"] = full_3x3_to_voigt_6_stress(self.frame.stress)
        if self.frame.source:
            atoms.info["source"] = self.frame.source
        return atoms


def write_predictions(frames: Sequence[Frame], predictions: Sequence[dict[str, Any]], path: str | Path) -> None:
    """Extended xyz (.extxyz or .xyz, also .gz), whole or not at all; an older file of the name is replaced."""
    write_frames([PredictedFrame(f, p) for f, p in zip(frames, predictions, strict=True)], path, overwrite=True)


def require_xyz(path: str | Path | None) -> None:
    """Raises UserError, before any work, for a name that `write_predictions` would refuse."""
    if path and not str(path).endswith(SUFFIXES):
        raise UserError(f"{path}: predictions are written as extended xyz: the name must end in {', '.join(SUFFIXES)}")
