"""From an ensemble to ASE's integrator, and the state that a restart file must hold.

ASE's Nose-Hoover classes count 3N degrees of freedom. Total momentum, and for molecules angular momentum, is zero from the start and
stays so: the thermostat would overheat the rest by 3N/(3N − 3) or more. Here they are given the true number.
"""

from typing import Any

import numpy as np
from ase import Atoms, units
from ase.md.langevin import Langevin
from ase.md.md import MolecularDynamics
from ase.md.nose_hoover_chain import MTKNPT, IsotropicMTKNPT, NoseHooverChainNVT, NoseHooverChainThermostat
from ase.md.verlet import VelocityVerlet

from equipot.errors import UserError
from equipot.interfaces.md_settings import MDSettings

_THERMOSTAT = ("_q", "_p", "_thermostat._eta", "_thermostat._p_eta")
_BAROSTAT = (*_THERMOSTAT, "_barostat._xi", "_barostat._p_xi")
_STATE: dict[type, tuple[str, ...]] = {
    VelocityVerlet: (),
    Langevin: (),
    NoseHooverChainNVT: _THERMOSTAT,
    IsotropicMTKNPT: (*_BAROSTAT, "_eps", "_p_eps", "_cell0", "_volume0"),
    MTKNPT: (*_BAROSTAT, "_h", "_p_g"),
}


def build_integrator(atoms: Atoms, settings: MDSettings, n_dof: int, rng: np.random.Generator) -> MolecularDynamics:
    """The integrator of the settings' ensemble for atoms that have momenta; `n_dof` degrees of freedom carry the temperature.

    Raises UserError where the ensemble does not suit the structure.
    """
    dt = settings.timestep * units.fs
    if settings.ensemble == "nve":
        return VelocityVerlet(atoms, dt)
    if settings.ensemble == "langevin":
        friction = (10.0 if settings.friction is None else settings.friction) / (1000.0 * units.fs)
        return Langevin(atoms, dt, temperature_K=settings.temperature, friction=friction, fixcm=False, rng=rng)
    _require_thermostat_fits(atoms, settings.ensemble, n_dof)
    tdamp = 100.0 * dt if settings.tau is None else settings.tau * units.fs
    if settings.ensemble == "nvt":
        dynamics = NoseHooverChainNVT(atoms, dt, temperature_K=settings.temperature, tdamp=tdamp)
    else:
        pdamp = 1000.0 * dt if settings.pressure_tau is None else settings.pressure_tau * units.fs
        pressure = (settings.pressure or 0.0) * units.GPa
        kind = MTKNPT if settings.barostat == "full" else IsotropicMTKNPT
        dynamics = kind(atoms, dt, temperature_K=settings.temperature, pressure_au=pressure, tdamp=tdamp, pdamp=pdamp)
    _count_degrees_of_freedom(dynamics, settings.temperature, tdamp, n_dof)
    return dynamics


def conserved_energy(dynamics: MolecularDynamics) -> float | None:
    """The quantity that exact dynamics conserves, eV: total energy (nve) or that of the extended system (nvt, npt); None for Langevin."""
    if isinstance(dynamics, Langevin):
        return None
    if isinstance(dynamics, VelocityVerlet):
        return float(dynamics.atoms.get_total_energy())
    return float(dynamics.get_conserved_energy())


def integrator_state(dynamics: MolecularDynamics) -> dict[str, np.ndarray]:
    """The integrator's own variables, by name; with the atoms' state and the random state they determine every later step."""
    return {name: np.array(_get(dynamics, name)) for name in _STATE[type(dynamics)]}


def restore_integrator(dynamics: MolecularDynamics, state: dict[str, np.ndarray], step: int) -> None:
    """The inverse of `integrator_state`; the next step will be number `step` + 1."""
    for name in _STATE[type(dynamics)]:
        owner, _, attribute = name.rpartition(".")
        value = state[name].copy()
        setattr(getattr(dynamics, owner) if owner else dynamics, attribute, float(value) if value.ndim == 0 else value)
    dynamics.nsteps = step


def _get(dynamics: MolecularDynamics, name: str) -> Any:
    value: Any = dynamics
    for part in name.split("."):
        value = getattr(value, part)
    return value


def _require_thermostat_fits(atoms: Atoms, ensemble: str, n_dof: int) -> None:
    if atoms.constraints:
        raise UserError(f"the ensemble {ensemble} does not go with constraints (fixed atoms): use langevin or nve, or free the atoms")
    if n_dof < 1:
        raise UserError(f"the ensemble {ensemble} needs at least two atoms: a single one has nothing that moves; use langevin")


def _count_degrees_of_freedom(dynamics: MolecularDynamics, temperature: float, tdamp: float, n_dof: int) -> None:
    atoms_with_all = n_dof / 3.0
    dynamics._thermostat = NoseHooverChainThermostat(atoms_with_all, dynamics.masses, temperature, tdamp)
    if not isinstance(dynamics, NoseHooverChainNVT):
        dynamics._num_atoms_global = atoms_with_all
