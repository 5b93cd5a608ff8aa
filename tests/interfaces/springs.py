"""A classical potential that is cheap and has one known minimum."""

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.neighborlist import neighbor_list
from ase.stress import full_3x3_to_voigt_6_stress

import equipot.ase


class Springs(Calculator):
    """E = Σ k/8 (r² − r0²)² / r0² over bonds fixed at the start (and their images): anharmonic, chaotic and cheap."""

    implemented_properties = ["energy", "free_energy", "forces", "stress"]

    def __init__(self, reference: Atoms, k: float = 0.5, reach: float = 4.2) -> None:
        super().__init__()
        self.k = k
        self.i, self.j, self.shift, length = neighbor_list("ijSd", reference, reach)
        self.square = length**2

    check_state = equipot.ase.Calculator.check_state  # ASE's own takes longer than these springs

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        r = self.atoms.positions[self.j] - self.atoms.positions[self.i] + self.shift @ self.atoms.cell.array
        off = (r**2).sum(1) - self.square
        energy = 0.0625 * self.k * (off**2 / self.square).sum()
        pull = 0.5 * self.k * (off / self.square)[:, None] * r
        forces = np.zeros((len(self.atoms), 3))
        np.add.at(forces, self.i, pull)
        self.results = {"energy": energy, "free_energy": energy, "forces": forces}
        if self.atoms.pbc.all():
            self.results["stress"] = full_3x3_to_voigt_6_stress(0.5 * r.T @ pull / self.atoms.get_volume())
