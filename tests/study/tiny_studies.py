"""Studies of a few seconds: trimers of Cu and Al with the labels of EMT, models of a few hundred weights."""

from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ruamel.yaml import YAML

MODEL = {"preset": "nequip", "cutoff": 4.0, "n_layers": 2, "l_max": 1, "n_channels": 2, "radial_mlp": [4], "n_bessel": 2}


def trimers(n: int, seed: int = 0, spread: float = 0.15, forces: bool = True) -> list[Atoms]:
    """Bent CuAlAl."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(n):
        atoms = Atoms("CuAlAl", positions=np.array([[0.0, 0, 0], [2.5, 0, 0], [0.5, 2.4, 0]]) + rng.normal(0, spread, (3, 3)))
        atoms.calc = EMT()
        results = {"energy": atoms.get_potential_energy()} | ({"forces": atoms.get_forces()} if forces else {})
        atoms.calc = SinglePointCalculator(atoms, **results)
        found.append(atoms)
    return found


def tiny_study(folder: Path, **sections: Any) -> dict[str, Any]:
    """The content of a study in `folder`, whose data are written; sections replace those here."""
    for name, frames in {"train": trimers(14), "cold": trimers(5, 1), "hot": trimers(4, 2, 0.3)}.items():
        if not (folder / f"{name}.xyz").is_file():
            ase.io.write(folder / f"{name}.xyz", frames, format="extxyz")
    base = {
        "model": MODEL,
        "data": {"train": str(folder / "train.xyz"), "validation": 4, "reference_energies": {"Cu": 0.0, "Al": 0.0}},
        "train": {"batch_size": 2, "dtype": "float64", "device": "cpu", "warmup": 2, "optimizer": "adam", "checkpoint_seconds": 0.0},
    }
    hot = {"file": str(folder / "hot.xyz"), "kind": "out-of-domain"}
    return {
        "base": base,
        "variants": {"flat": {"model.l_max": 0}, "full": {}},
        "sizes": [4],
        "seeds": [0],
        "evaluate": {"cold": str(folder / "cold.xyz"), "hot": hot},
        "budget": {"max_updates": 6},
        "out": str(folder / "out"),
    } | sections


def write_study(folder: Path, **sections: Any) -> Path:
    """`tiny_study` as a file."""
    path = folder / "study.yaml"
    with open(path, "w") as file:
        YAML().dump(tiny_study(folder, **sections), file)
    return path
