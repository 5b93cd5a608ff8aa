"""A learning that takes seconds: trimers of Cu and Al, labels by ASE's EMT, models solved by least squares; and calculators that misbehave."""

import os
import signal
import time
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ruamel.yaml import YAML

HERE = Path(__file__).parent


def trimers(n: int, seed: int = 0, labelled: bool = True) -> list[Atoms]:
    """Bent CuAlAl without a cell."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(n):
        positions = np.array([[0.0, 0, 0], [2.5, 0, 0], [0.5, 2.4, 0]]) + rng.normal(0, 0.1, (3, 3))
        atoms = Atoms("CuAlAl", positions=positions)
        if labelled:
            atoms.calc = EMT()
            results = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}
            atoms.calc = SinglePointCalculator(atoms, **results)
        found.append(atoms)
    return found


def settings(folder: Path, **sections: dict) -> dict:
    """The configuration as data; sections are merged over what is here."""
    for name, seed in (("init.xyz", 1), ("test.xyz", 2)):
        if not (folder / name).is_file():
            ase.io.write(folder / name, trimers(8, seed), format="extxyz")
    ours = {
        "train": {
            "model": {"preset": "ace", "cutoff": 4.0, "l_max": 1, "n_radial": 3, "degrees": [3, 3, 3]},
            "data": {"train": str(folder / "init.xyz"), "validation": 2, "test": {"held": str(folder / "test.xyz")}},
            "train": {"fit": "least-squares", "least_squares": {"regularisation": 1e-5}, "device": "cpu"},
        },
        "ensemble": 2,
        "explore": {"temperature": 300.0, "timestep": 2.0, "steps": 6, "interval": 2, "walkers": 2, "threshold": {"forces_std": 1e-6}},
        "select": {"max": 2, "min_distance": 1e-4},
        "label": {"calculator": "ase.calculators.emt:EMT"},
        "rounds": 1,
        "out": str(folder / "out"),
    }
    ours["explore"]["stop"] = {"forces_std": 1e6}
    for key, value in sections.items():
        ours[key] = ours[key] | value if isinstance(ours.get(key), dict) and isinstance(value, dict) else value
    return ours


def written(folder: Path, data: dict) -> Path:
    """The same in a file."""
    file = folder / "learn.yaml"
    YAML().dump(data, file)
    return file


class Misbehaving(EMT):
    """EMT that fails, dies, hangs, waits for the file `seen` to go or gives NaN where the first bond is longer than `longest`, Å."""

    def __init__(self, how: str, longest: float, seen: str = "") -> None:
        super().__init__()
        self.how, self.longest, self.seen = how, longest, seen

    def calculate(self, atoms=None, properties=None, system_changes=None):
        if self.seen and self.how != "waits":
            with open(self.seen, "a") as file:
                file.write(f"{len(atoms)}\n")
        super().calculate(atoms, properties, system_changes)
        if len(atoms) > 1 and atoms.get_distance(0, 1) > self.longest:
            print("something on standard output, which is not an answer")
            if self.how == "fails":
                raise RuntimeError('the field has "not" converged')
            if self.how == "dies":
                os.kill(os.getpid(), signal.SIGSEGV)
            if self.how == "hangs":
                time.sleep(60)
            if self.how == "waits":
                while Path(self.seen).exists():
                    time.sleep(0.01)
                return
            self.results["forces"] = np.full((len(atoms), 3), np.nan)


class NoAluminium(EMT):
    """EMT that knows no free aluminium."""

    def calculate(self, atoms=None, properties=None, system_changes=None):
        if len(atoms) == 1 and atoms.numbers[0] == 13:
            raise ValueError("no atoms")
        super().calculate(atoms, properties, system_changes)


def no_atoms() -> EMT:
    """As a function that returns a calculator."""
    return NoAluminium()
