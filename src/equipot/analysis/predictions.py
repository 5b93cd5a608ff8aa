"""Predicted frames: written beside their reference values, and read again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ase
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import iread
from ase.stress import full_3x3_to_voigt_6_stress, voigt_6_to_full_3x3_stress

from equipot.data.frame import Frame
from equipot.data.labels import Keys
from equipot.data.readers import read_frames
from equipot.data.writer import SUFFIXES, write_frames
from equipot.errors import UserError

DEVIATIONS = ("energy_std", "forces_std")  # of an ensemble
LABELS = Keys(energy="REF_energy", forces="REF_forces")


@dataclass(frozen=True)
class PredictedFrame:
    """A frame and what a model says of it: energy (eV), forces (n, 3) eV/Å, stress (3, 3) eV/Å³ or None."""

    frame: Frame
    prediction: dict[str, Any]
    set_name: str = ""

    def atoms(self) -> ase.Atoms:
        """ASE atoms with the predictions as calculator results and the labels as `REF_energy`, `REF_forces` and `REF_stress` (Voigt)."""
        atoms = self.frame.atoms()
        results = {k: v for k, v in self.prediction.items() if v is not None and k not in DEVIATIONS}
        if "stress" in results:
            results["stress"] = full_3x3_to_voigt_6_stress(results["stress"])
        atoms.calc = SinglePointCalculator(atoms, **results)
        if "energy_std" in self.prediction:
            atoms.info["energy_std"] = self.prediction["energy_std"]
        if "forces_std" in self.prediction:
            atoms.arrays["forces_std"] = self.prediction["forces_std"]
        if self.frame.energy is not None:
            atoms.info["REF_energy"] = self.frame.energy
        if self.frame.forces is not None:
            atoms.arrays["REF_forces"] = self.frame.forces
        if self.frame.stress is not None:
            atoms.info["REF_stress"] = full_3x3_to_voigt_6_stress(self.frame.stress)
        atoms.info |= {name: text for name, text in (("source", self.frame.source), ("set", self.set_name)) if text}
        return atoms


def write_predictions(sets: Mapping[str, tuple[Sequence[Frame], Sequence[dict[str, Any]]]], path: str | Path) -> None:
    """Frames and predictions of each set as extended xyz (.extxyz or .xyz, also .gz), whole or not at all; an older file is replaced."""
    predicted = [PredictedFrame(f, p, name) for name, pair in sets.items() for f, p in zip(*pair, strict=True)]
    write_frames(predicted, path, overwrite=True)


def read_predictions(path: str | Path) -> dict[str, tuple[list[Frame], list[dict[str, Any]]]]:
    """The inverse of `write_predictions`; raises UserError for a file that does not hold predictions beside labels."""
    sets: dict[str, tuple[list[Frame], list[dict[str, Any]]]] = {}
    for index, (frame, atoms) in enumerate(zip(read_frames(str(path), LABELS), iread(path, index=":", format="extxyz"), strict=True)):
        results = atoms.calc.results if atoms.calc is not None else {}
        if not {"energy", "forces"} <= results.keys() or not ("REF_energy" in atoms.info or "REF_forces" in atoms.arrays):
            raise UserError(f"{path}, frame {index}: has no prediction beside a label; `equipot evaluate --predictions` writes such files")
        stress = voigt_6_to_full_3x3_stress(results["stress"]) if "stress" in results else None
        stored = replace(frame, stress=frame.stress if "REF_stress" in atoms.info else None)
        frames, predictions = sets.setdefault(str(atoms.info.get("set", Path(path).name)), ([], []))
        frames.append(replace(stored, source=str(atoms.info.get("source", frame.source))))
        deviations = {k: v for k, v in (atoms.info | atoms.arrays).items() if k in DEVIATIONS}
        predictions.append({"energy": results["energy"], "forces": results["forces"], "stress": stress, **deviations})
    return sets


def require_xyz(path: str | Path | None) -> None:
    """Raises UserError, before any work, for a name that `write_predictions` would refuse."""
    if path and not str(path).endswith(SUFFIXES):
        raise UserError(f"{path}: predictions are written as extended xyz: the name must end in {', '.join(SUFFIXES)}")
