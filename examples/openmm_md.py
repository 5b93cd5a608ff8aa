"""Molecular dynamics with OpenMM: a system from a structure, Langevin dynamics, a trajectory.

    python examples/openmm_md.py MODEL STRUCTURE [--temperature 300] [--platform CPU] [--quick]

MODEL is a model file or an exported model. Needs pip install "equipot[openmm]". Compares the first energy with ASE's, and writes into the
folder --out.
"""

import argparse
import sys
from pathlib import Path

import openmm
from ase.io import read
from openmm import app, unit

from equipot.ase import Calculator
from equipot.interfaces.openmm_force import KJ_PER_MOL, OpenMMPotential, from_ase


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("structure")
    parser.add_argument("--temperature", type=float, default=300.0, help="K")
    parser.add_argument("--platform", default="CPU", help="of OpenMM; the model itself runs on the CPU")
    parser.add_argument("--out", type=Path, default=Path("openmm"))
    parser.add_argument("--quick", action="store_true", help="a few steps only")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    steps = 20 if options.quick else 2000

    atoms = read(options.structure)
    topology, positions = from_ase(atoms)
    system = OpenMMPotential(options.model).create_system(topology)
    integrator = openmm.LangevinMiddleIntegrator(options.temperature * unit.kelvin, 1.0 / unit.picosecond, 0.5 * unit.femtosecond)
    simulation = app.Simulation(topology, system, integrator, openmm.Platform.getPlatformByName(options.platform))
    simulation.context.setPositions(positions)

    energy = simulation.context.getState(getEnergy=True).getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole)
    atoms.calc = Calculator(options.model)
    print(f"potential energy of the first step: OpenMM {energy / KJ_PER_MOL:.6f} eV, ASE {atoms.get_potential_energy():.6f} eV")

    simulation.context.setVelocitiesToTemperature(options.temperature * unit.kelvin)
    simulation.reporters.append(app.DCDReporter(str(options.out / "trajectory.dcd"), steps // 10))
    simulation.reporters.append(app.StateDataReporter(sys.stdout, steps // 10, step=True, potentialEnergy=True, temperature=True))
    simulation.step(steps)
    print(f"trajectory: {options.out}/trajectory.dcd")


if __name__ == "__main__":
    main()
