"""A model in OpenMM: a `PythonForce` in a `System`. Extra `openmm`; OpenMM 8.5 or later, the first releases with `PythonForce`."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms

from equipot.data.frame import species_index
from equipot.errors import MissingPackageError, UserError
from equipot.interfaces.engines import Engine, open_engine

try:
    import openmm
    from openmm import app, unit
except ImportError as error:
    raise MissingPackageError("openmm", "openmm") from error

if TYPE_CHECKING:
    from equipot.model import Ensemble, Potential

ANGSTROM = 10.0
"""Of a nm."""
KJ_PER_MOL = 1.602176634e-19 * 6.02214076e23 / 1000.0
"""Of an eV, e · N_A: exact by the definition of the units."""


class OpenMMPotential:
    """A model that makes OpenMM systems, and adds itself to those there are.

    Args: path of a model file or an exported model, or a potential; engine, dtype, device and skin as for `equipot.ase.Calculator`.
    Energies are in kJ/mol with the model's reference energies in them, forces in kJ/(mol nm), as everywhere in OpenMM.
    Raises UserError for an OpenMM without `PythonForce` and as `open_engine` does.
    """

    def __init__(
        self,
        model: "str | Path | Potential | Ensemble",
        engine: str = "auto",
        dtype: str | None = None,
        device: str = "cpu",
        skin: float = 1.0,
    ) -> None:
        if not hasattr(openmm, "PythonForce"):
            raise UserError(f'OpenMM {openmm.__version__} has no PythonForce: pip install --upgrade "equipot[openmm]" (8.5 or later)')
        self._arguments = (model, engine, dtype, device, skin)
        self._opened: Engine | None = open_engine(*self._arguments)
        self.elements = self._opened.elements

    def create_system(self, topology: "app.Topology", remove_cm_motion: bool = True) -> "openmm.System":
        """A system of the topology's atoms and their masses in which this model is all there is; bonds of the topology mean nothing to it.

        It is periodic where the topology has box vectors. Raises UserError for atoms of no element, or of one the model does not know.
        """
        system = openmm.System()
        _numbers(topology, range(topology.getNumAtoms()))
        for atom in topology.atoms():
            system.addParticle(atom.element.mass)
        if topology.getPeriodicBoxVectors() is not None:
            system.setDefaultPeriodicBoxVectors(*topology.getPeriodicBoxVectors())
        self.add_force(system, topology)
        if remove_cm_motion:
            system.addForce(openmm.CMMotionRemover())
        return system

    def add_force(
        self, system: "openmm.System", topology: "app.Topology", atoms: Sequence[int] | None = None, force_group: int = 0
    ) -> "openmm.PythonForce":
        """Adds the model to a system, for all particles or for `atoms`, and returns the force.

        The other particles and their forces stay as they are: interactions of another force field among `atoms` are the caller's to take out.
        Raises UserError as `create_system` does, for indices that are not there, and where topology and system have not as many atoms.
        """
        n = topology.getNumAtoms()
        if system.getNumParticles() != n:
            raise UserError(
                f"the system has {system.getNumParticles()} particles, the topology {n} atoms: give the topology it was made of"
            )
        chosen = list(range(n)) if atoms is None else [int(i) for i in atoms]
        if not chosen or min(chosen) < 0 or max(chosen) >= n or len(set(chosen)) < len(chosen):
            raise UserError(f"atoms must be different indices from 0 to {n - 1}, at least one")
        numbers = _numbers(topology, chosen)
        species_index(numbers, list(self.elements), "the topology")
        periodic = topology.getPeriodicBoxVectors() is not None
        engine, self._opened = self._opened or open_engine(*self._arguments), None  # each force has one of its own
        itself = hasattr(openmm.PythonForce, "setParticles")  # from 8.6 on
        force = openmm.PythonForce(Computation(engine, numbers, periodic, None if atoms is None or itself else np.array(chosen)))
        force.setUsesPeriodicBoundaryConditions(periodic)
        force.setName("equipot")
        force.setForceGroup(force_group)
        if atoms is not None and itself:
            force.setParticles(chosen)
        system.addForce(force)
        return force


class Computation:
    """What OpenMM calls with a `State`; it can be pickled, so a system written as XML has the model in it.

    particles: those of the state that are the model's, where OpenMM does not choose them by itself.
    """

    def __init__(self, engine: Engine, numbers: np.ndarray, periodic: bool, particles: np.ndarray | None = None) -> None:
        self.engine, self.numbers, self.periodic, self.particles = engine, numbers, periodic, particles
        self._one_at_a_time = threading.Lock()  # contexts of one system share this object, and may run in several threads

    def __call__(self, state: "openmm.State") -> tuple[float, np.ndarray]:
        """Energy, kJ/mol, and forces (n, 3), kJ/(mol nm); raises UserError, which OpenMM passes on as an exception of its own."""
        positions = state.getPositions(asNumpy=True).value_in_unit(unit.nanometer) * ANGSTROM
        cell = np.zeros((3, 3))
        if self.periodic:
            cell = np.array(state.getPeriodicBoxVectors(asNumpy=True).value_in_unit(unit.nanometer)) * ANGSTROM
        chosen = slice(None) if self.particles is None else self.particles
        with self._one_at_a_time:
            found = self.engine.evaluate(self.numbers, positions[chosen], cell, np.full(3, self.periodic), stress=False)
        if not (np.isfinite(found.energy) and np.isfinite(found.forces).all()):
            raise UserError("the model's energy or forces are not finite here: atoms sit on one another, or a simulation has blown up")
        forces = np.zeros_like(positions)
        forces[chosen] = found.forces * (KJ_PER_MOL * ANGSTROM)
        return found.energy * KJ_PER_MOL, forces

    def __getstate__(self) -> tuple:
        return self.engine, self.numbers, self.periodic, self.particles

    def __setstate__(self, state: tuple) -> None:
        self.__init__(*state)


def from_ase(atoms: Atoms) -> "tuple[app.Topology, unit.Quantity]":
    """Topology and positions of an ASE structure, periodic in all directions or in none, turned so that OpenMM takes its box.

    Raises UserError for slabs and wires, which OpenMM does not know.
    """
    if atoms.pbc.any() and not atoms.pbc.all():
        raise UserError("OpenMM is periodic in all directions or in none: this structure is periodic in some")
    topology, positions = app.Topology(), atoms.positions
    residue = topology.addResidue("MOL", topology.addChain())
    for symbol in atoms.symbols:
        topology.addAtom(symbol, app.Element.getBySymbol(symbol), residue)
    if atoms.pbc.any():
        upright, turn = atoms.cell.standard_form()
        topology.setPeriodicBoxVectors(_reduced(upright.array / ANGSTROM) * unit.nanometer)
        positions = positions @ turn.T
    return topology, positions / ANGSTROM * unit.nanometer


def _reduced(box: np.ndarray) -> np.ndarray:
    """The same lattice by vectors whose off-diagonal parts are at most half the diagonal."""
    a, b, c = box
    c = c - b * np.round(c[1] / b[1])
    c = c - a * np.round(c[0] / a[0])
    b = b - a * np.round(b[0] / a[0])
    return np.array([a, b, c])


def _numbers(topology: "app.Topology", chosen: Sequence[int]) -> np.ndarray:
    atoms = list(topology.atoms())
    bare = next((i for i in chosen if atoms[i].element is None), None)
    if bare is not None:
        raise UserError(
            f"atom {bare} of the topology ({atoms[bare].name}) has no element: extra particles and virtual sites cannot be modelled"
        )
    return np.array([atoms[i].element.atomic_number for i in chosen])
