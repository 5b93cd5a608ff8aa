"""Equation of state: energy against volume."""

import numpy as np
from ase import units
from ase.eos import EquationOfState

from equipot.analysis.observables.blocks import Blocked
from equipot.analysis.observables.crystal import Crystal, relax
from equipot.analysis.observables.result import CannotObserveError, Curve, Observable, Value
from equipot.analysis.observables.settings import Settings


def equation_of_state(crystal: Crystal, settings: Settings) -> Observable:
    """E(V) of the uniformly scaled cell, atoms relaxed at each volume, and the Birch-Murnaghan fit's V0, E0, B0 = V E'' and B0'.

    Per atom, in Å³, eV and GPa. Raises CannotObserveError where the energy has no minimum in the range.
    """
    n, volume = len(crystal.conventional), crystal.conventional.get_volume()
    first, last, how_many = settings.volumes
    ratios = np.linspace(first, last, how_many)
    energies = np.array([_energy(crystal, float(ratio)) for ratio in ratios]) / n
    fit = EquationOfState(ratios * volume / n, energies, eos="birchmurnaghan")
    try:
        v0, e0, bulk = fit.fit(warn=False)
    except (ValueError, RuntimeError):
        v0, bulk = np.nan, np.nan
    if not (ratios[0] <= v0 * n / volume <= ratios[-1] and bulk > 0):
        raise CannotObserveError(
            f"the energy has no minimum between {first:g} and {last:g} of the relaxed volume: not a stable crystal of this model"
        )
    fine = np.linspace(ratios[0], ratios[-1], 101) * volume / n
    fitted = fit.func(fine, *fit.eos_parameters)
    residual = float(np.abs(fit.func(ratios * volume / n, *fit.eos_parameters) - energies).max())
    curves = [Curve("computed", ratios * volume / n, Blocked.of(energies[None])), Curve("Birch-Murnaghan", fine, Blocked.of(fitted[None]))]
    values = [
        Value("V0", float(v0), np.nan, "Å³/atom"),
        Value("E0", float(e0), np.nan, "eV/atom"),
        Value("B0", float(bulk / units.GPa), np.nan, "GPa"),
        Value("B0'", float(fit.eos_parameters[2]), np.nan, ""),
    ]
    notes = [f"{crystal.space_group}, {how_many} volumes; largest departure from the fit {1000 * residual:.2g} meV/atom"]
    return Observable("eos", "Equation of state", "volume, Å³/atom", "energy, eV/atom", curves, values, notes, together=True)


def _energy(crystal: Crystal, ratio: float) -> float:
    atoms = crystal.conventional.copy()
    atoms.set_cell(atoms.cell.array * ratio ** (1 / 3), scale_atoms=True)
    return float(relax(atoms, crystal.calculator, cell=False).get_potential_energy())
