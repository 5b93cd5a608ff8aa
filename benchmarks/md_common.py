"""What the cases of `md.py` share: how they are asked, what they answer, structures and models."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from ase import Atoms
from ase.io import read

from equipot.data.readers import read_frames
from equipot.model import Potential
from equipot.model.export import native_bytes
from equipot.presets import nequip

WALK = 0.02  # Å per step and coordinate: every atom goes far enough for the neighbour list to be searched anew about every forty steps


class Options(NamedTuple):
    """How the cases are to be run."""

    threads: int
    rounds: int
    quick: bool
    model: Path | None  # for the drift
    folder: Path  # for what is written on the way


class Figure(NamedTuple):
    """A row of the table: a figure and the mark it was asked to reach; `good` is None where nothing was asked."""

    case: str
    what: str
    value: float
    text: str
    asked: str = ""
    good: bool | None = None
    details: dict[str, Any] = {}

    def __str__(self) -> str:
        verdict = {True: "yes", False: "NO", None: ""}[self.good]
        return f"| {self.case} | {self.what} | {self.text} | {self.asked} | {verdict} |"


def structure(name: str) -> Atoms:
    """acac: one molecule; water-N: liquid water, the box of 192 atoms repeated alike in all directions."""
    data = Path(os.environ["EQUIPOT_DATA"])
    if name == "acac":
        atoms = next(atoms for atoms in read(data / "acac" / "train_300K.xyz", ":5") if len(atoms) > 1)
    else:
        atoms = next(frame.atoms() for frame in read_frames(str(data / "water_deepmd")))
        times = round((int(name.removeprefix("water-")) / len(atoms)) ** (1 / 3))
        atoms = atoms.repeat((times, times, times))
        if f"water-{len(atoms)}" != name:
            raise ValueError(f"no cube of boxes of water has the size of {name}")
    atoms.calc = None
    return atoms


def water_model(folder: Path) -> Path:
    """NequIP for H and O, four layers of 32 channels to l = 2, cutoff 5 Å, untrained but with forces of about 1 eV/Å, exported in float32."""
    path = folder / "nequip-l2.eqn"
    if not path.is_file():
        spec = nequip(cutoff=5.0, n_layers=4, l_max=2, n_channels=32)
        layers = tuple(replace(layer, normaliser=replace(layer.normaliser, value=50.0)) for layer in spec.layers)
        spec = replace(spec, layers=layers, elements=(1, 8), energy=replace(spec.energy, e0=(-1.0, -2.0), scale=1.0))
        path.write_bytes(native_bytes(Potential(spec, dtype=torch.float32, seed=0)))
    return path


def step_on(atoms: Atoms, rng: np.random.Generator) -> None:
    """A small random displacement of all atoms."""
    atoms.positions += WALK * rng.normal(size=atoms.positions.shape)
