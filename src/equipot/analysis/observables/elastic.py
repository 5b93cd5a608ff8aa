"""Elastic constants by finite strains."""

import numpy as np
from ase import units

from equipot.analysis.observables.crystal import Crystal, relax
from equipot.analysis.observables.result import Observable, Value
from equipot.analysis.observables.settings import Settings
from equipot.conventions import VOIGT

SMALL = 0.005  # of the largest constant: below it one is taken to vanish by symmetry
NAMES = "123456"


def elastic_constants(crystal: Crystal, settings: Settings) -> Observable:
    """C_ij = ∂σ_i/∂γ_j in GPa by central differences of the stress over ±strain, atoms relaxed at each; averages by Voigt, Reuss and Hill.

    In spglib's standard orientation of the conventional cell, order xx yy zz yz xz xy, γ_yz = 2 ε_yz. The matrix is made symmetric; by how much it
    was not says how good it is. R. Hill, Proc. Phys. Soc. A 65, 349 (1952).
    """
    raw = np.array([_column(crystal, j, settings.strain) for j in range(6)]).T / units.GPa
    matrix = (raw + raw.T) / 2
    asymmetry = float(np.abs(raw - raw.T).max() / 2)
    largest = float(np.abs(matrix).max())
    values = [
        Value(f"C{NAMES[i]}{NAMES[j]}", float(matrix[i, j]), np.nan, "GPa")
        for i in range(6)
        for j in range(i, 6)
        if abs(matrix[i, j]) > SMALL * largest
    ]
    stable = bool(np.linalg.eigvalsh(matrix)[0] > 0)
    notes = [
        f"{crystal.space_group}, strains of ±{settings.strain:g}; asymmetry left {asymmetry:.2g} GPa; constants below {SMALL * largest:.2g} GPa are not listed"
    ]
    if stable:
        values += moduli(matrix)
    else:
        notes.append("not stable: the matrix of elastic constants has a negative eigenvalue")
    data = {"matrix_GPa": matrix.tolist(), "stable": stable, "asymmetry_GPa": asymmetry}
    return Observable("elastic", "Elastic constants", "", "", values=values, notes=notes, data=data)


def moduli(matrix: np.ndarray) -> list[Value]:
    """Hill's bulk and shear modulus (means of Voigt's and Reuss's), Young's modulus and Poisson's ratio of the polycrystal; (6, 6) GPa."""
    compliance = np.linalg.inv(matrix)
    bulk_v = matrix[:3, :3].sum() / 9
    bulk_r = 1.0 / compliance[:3, :3].sum()
    diagonal, off = np.trace(matrix[:3, :3]), matrix[0, 1] + matrix[0, 2] + matrix[1, 2]
    shear_v = (diagonal - off + 3 * np.trace(matrix[3:, 3:])) / 15
    diagonal, off = np.trace(compliance[:3, :3]), compliance[0, 1] + compliance[0, 2] + compliance[1, 2]
    shear_r = 15.0 / (4 * diagonal - 4 * off + 3 * np.trace(compliance[3:, 3:]))
    bulk, shear = (bulk_v + bulk_r) / 2, (shear_v + shear_r) / 2
    found = {"B (Voigt)": bulk_v, "B (Reuss)": bulk_r, "B (Hill)": bulk, "G (Voigt)": shear_v, "G (Reuss)": shear_r, "G (Hill)": shear}
    found["Young's modulus"] = 9 * bulk * shear / (3 * bulk + shear)
    values = [Value(name, float(value), np.nan, "GPa") for name, value in found.items()]
    return [*values, Value("Poisson's ratio", float((3 * bulk - 2 * shear) / (6 * bulk + 2 * shear)), np.nan, "")]


def _column(crystal: Crystal, j: int, strain: float) -> np.ndarray:
    """∂σ/∂γ_j, (6,) eV/Å³."""
    return (_stress(crystal, j, strain) - _stress(crystal, j, -strain)) / (2 * strain)


def _stress(crystal: Crystal, j: int, gamma: float) -> np.ndarray:
    tensor = np.zeros((3, 3))
    a, b = VOIGT[j]
    tensor[a, b] += gamma / 2
    tensor[b, a] += gamma / 2
    atoms = crystal.conventional.copy()
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + tensor), scale_atoms=True)
    return relax(atoms, crystal.calculator, cell=False).get_stress(voigt=True)
