"""Path-integral molecular dynamics with i-PI: writes its input, starts it, and serves it with a model.

    python examples/ipi_path_integrals.py MODEL STRUCTURE [--beads 8] [--temperature 300] [--quick]

MODEL is a model file or an exported model. Needs pip install "equipot[ipi]". Compares the first energy with ASE's, and writes into the
folder --out. More clients, also on other machines, would call `run_client` alone.
"""

import argparse
import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

import numpy as np
from ase.io import read

from equipot.ase import Calculator
from equipot.errors import MissingPackageError
from equipot.interfaces.ipi_client import run_client, xyz_of

INPUT = """\
<simulation verbosity='low'>
  <output prefix='simulation'>
    <properties filename='out' stride='1' flush='1'>
      [ step, time{{picosecond}}, conserved{{electronvolt}}, temperature{{kelvin}},
        kinetic_cv{{electronvolt}}, potential{{electronvolt}}, pressure_cv{{megapascal}} ]
    </properties>
    <trajectory filename='centroids' stride='10' cell_units='angstrom'> x_centroid{{angstrom}} </trajectory>
  </output>
  <total_steps> {steps} </total_steps>
  <prng> <seed> 1 </seed> </prng>
  <ffsocket mode='unix' name='equipot'> <address> {socket} </address> <latency> 1e-3 </latency> </ffsocket>
  <system>
    <initialize nbeads='{beads}'>
      <file mode='xyz'> structure.xyz </file>
      <velocities mode='thermal' units='kelvin'> {temperature} </velocities>
    </initialize>
    <forces> <force forcefield='equipot'/> </forces>
    <motion mode='dynamics'>
      <dynamics mode='nvt'>
        <timestep units='femtosecond'> 0.25 </timestep>
        <thermostat mode='pile_g'> <tau units='femtosecond'> 50 </tau> </thermostat>
      </dynamics>
    </motion>
    <ensemble> <temperature units='kelvin'> {temperature} </temperature> </ensemble>
  </system>
</simulation>
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("structure")
    parser.add_argument("--temperature", type=float, default=300.0, help="K")
    parser.add_argument("--beads", type=int, default=8)
    parser.add_argument("--out", type=Path, default=Path("ipi"))
    parser.add_argument("--quick", action="store_true", help="a few steps only")
    options = parser.parse_args()
    program = shutil.which("i-pi", path=os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", "")]))
    if program is None:
        raise MissingPackageError("i-PI", "ipi")
    options.out.mkdir(parents=True, exist_ok=True)

    atoms = read(options.structure)
    socket = f"equipot_{os.getpid()}"
    steps = 5 if options.quick else 1000
    (options.out / "structure.xyz").write_text(xyz_of(atoms))
    text = INPUT.format(steps=steps, socket=socket, beads=options.beads, temperature=options.temperature)
    (options.out / "input.xml").write_text(text)

    with (options.out / "i-pi.log").open("w") as log:
        server = subprocess.Popen([program, "input.xml"], cwd=options.out, stdout=log, stderr=subprocess.STDOUT)
        try:
            answers = run_client(options.model, atoms, unixsocket=socket)
            server.wait(timeout=60)  # it has closed its socket, and writes its last files
        finally:
            server.kill()  # does nothing to one that has ended
    if server.returncode:
        raise SystemExit(f"i-PI ended with status {server.returncode}: see {options.out}/i-pi.log")

    columns = np.atleast_2d(np.loadtxt(options.out / "simulation.out"))
    atoms.calc = Calculator(options.model)
    print(f"potential energy of the first step: i-PI {columns[0, 5]:.6f} eV, ASE {atoms.get_potential_energy():.6f} eV")
    print(f"{answers} structures computed: {steps} steps of {options.beads} beads, and the start")
    print(
        f"quantum kinetic energy {columns[-1, 4] / len(atoms) * 1e3:.1f} meV per atom, classical {1.5 * 8.617333e-5 * options.temperature * 1e3:.1f}"
    )


if __name__ == "__main__":
    main()
