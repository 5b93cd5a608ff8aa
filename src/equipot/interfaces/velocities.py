"""Starting velocities, and the number of degrees of freedom that carry the temperature."""

from typing import NamedTuple

import numpy as np
from ase import Atoms, units
from ase.md.velocitydistribution import thermalize_momenta

from equipot.errors import UserError
from equipot.interfaces.md_settings import MDSettings


class Start(NamedTuple):
    """How a run was started."""

    n_dof: int  # T = 2 KE / (n_dof k_B)
    from_file: bool  # whether the velocities are those of the structure's file


def set_start_velocities(atoms: Atoms, settings: MDSettings, rng: np.random.Generator) -> Start:
    """Set the momenta: Maxwell-Boltzmann at exactly the settings' temperature, or those the structure has.

    Total momentum is removed, and so is rotation where nothing is periodic (but kept in velocities from a file if the ensemble is nve);
    neither where atoms are constrained. Raises UserError if velocities were to be in the file and are not.
    """
    from_file = _use_file(atoms, settings)
    if not from_file:
        thermalize_momenta(atoms, max(settings.temperature, 1e-12), rng=rng)
    n_removed = 0
    if not atoms.constraints:
        n_removed = _remove_momentum(atoms)
        if not atoms.pbc.any() and not (from_file and settings.ensemble == "nve"):
            n_removed += _remove_rotation(atoms)
    n_dof = atoms.get_number_of_degrees_of_freedom() - (0 if settings.ensemble == "langevin" else n_removed)
    if not from_file:
        _scale(atoms, settings.temperature, atoms.get_number_of_degrees_of_freedom() - n_removed)
    return Start(n_dof, from_file)


def temperature_of(atoms: Atoms, n_dof: int) -> float:
    """2 KE / (n_dof k_B) in K; zero where nothing moves."""
    return float(2.0 * atoms.get_kinetic_energy() / (n_dof * units.kB)) if n_dof > 0 else 0.0


def _use_file(atoms: Atoms, settings: MDSettings) -> bool:
    has = atoms.has("momenta") and bool(np.abs(atoms.get_momenta()).max(initial=0.0) > 0)
    if has and not np.isfinite(atoms.get_momenta()).all():
        raise UserError("the structure's velocities are not finite: mend the file, or draw new ones")
    if settings.velocities == "file" and not has:
        raise UserError("the structure's file holds no velocities: give one that does (extended xyz with momenta, .traj), or draw them")
    return has and settings.velocities != "draw"


def _remove_momentum(atoms: Atoms) -> int:
    """Takes the velocity of the centre of mass off all atoms; returns the number of degrees of freedom that fixes."""
    masses = atoms.get_masses()[:, None]
    momenta = atoms.get_momenta()
    atoms.set_momenta(momenta - masses * momenta.sum(axis=0) / masses.sum())
    return 3


def _remove_rotation(atoms: Atoms) -> int:
    """Takes the rigid rotation off; returns its number of degrees of freedom: 3, of a linear molecule 2, of an atom 0."""
    r = atoms.get_positions() - atoms.get_center_of_mass()
    masses, momenta = atoms.get_masses()[:, None], atoms.get_momenta()
    inertia = np.einsum("ai,ai->", r, masses * r) * np.eye(3) - np.einsum("ai,aj->ij", r, masses * r)
    moments, axes = np.linalg.eigh(inertia)
    real = moments > 1e-8 * max(moments[-1], 1e-8)
    angular = axes.T @ np.cross(r, momenta).sum(axis=0)
    omega = axes[:, real] @ (angular[real] / moments[real])
    atoms.set_momenta(momenta - masses * np.cross(omega, r))
    return int(real.sum())


def _scale(atoms: Atoms, temperature: float, n_dof: int) -> None:
    """Kinetic energy to exactly n_dof k_B T / 2."""
    now = temperature_of(atoms, n_dof)
    atoms.set_momenta(atoms.get_momenta() * (np.sqrt(temperature / now) if now > 0 else 0.0))
