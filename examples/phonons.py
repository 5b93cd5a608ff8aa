"""Phonons of a crystal with phonopy: force constants of a model, bands along the path of the lattice, density of states.

    python examples/phonons.py MODEL [STRUCTURE] [--supercell 3 3 3] [--quick]

MODEL is a model file or an exported model; STRUCTURE a relaxed unit cell (equipot relax --cell), silicon at 5.43 Å if it is left out.
Needs pip install "equipot[phonopy]". Writes band.yaml and total_dos.dat, which phonopy-bandplot and others read, into the folder --out.
"""

import argparse
import os
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.dft.kpoints import parse_path_string
from ase.io import read

from equipot.interfaces.phonopy_forces import phonons


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("structure", nargs="?")
    parser.add_argument("--supercell", type=int, nargs=3, default=None)
    parser.add_argument("--out", type=Path, default=Path("phonons"))
    parser.add_argument("--quick", action="store_true", help="a small supercell, few points")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)

    atoms = read(options.structure) if options.structure else bulk("Si", "diamond", 5.43)
    supercell = options.supercell or ([2, 2, 2] if options.quick else [4, 4, 4])
    crystal = phonons(options.model, atoms, supercell)
    print(f"{len(crystal.supercells_with_displacements)} displacements in {len(crystal.supercell)} atoms")

    path = Atoms(cell=crystal.primitive.cell, pbc=True).cell.bandpath()
    points = path.special_points
    lines = [pair for part in parse_path_string(path.path) for pair in zip(part, part[1:], strict=False)]
    n = 5 if options.quick else 51
    crystal.run_band_structure([np.linspace(points[a], points[b], n) for a, b in lines])
    crystal.run_mesh([5] * 3 if options.quick else [20] * 3)
    crystal.run_total_dos()

    crystal.run_qpoints(list(points.values()))
    for label, frequencies in zip(points, crystal.qpoints.frequencies, strict=True):
        print(f"{label}: " + " ".join(f"{f:.3f}" for f in frequencies) + " THz")
    lowest = min(f.min() for f in crystal.band_structure.frequencies)
    print(f"lowest frequency on the path {lowest:.3f} THz" + (": imaginary, the structure is not stable" if lowest < -0.1 else ""))

    here = Path.cwd()
    os.chdir(options.out)  # phonopy writes where it stands
    try:
        crystal.write_yaml_band_structure()
        crystal.write_total_dos()
    finally:
        os.chdir(here)
    print(f"bands and density of states: {options.out}/band.yaml, {options.out}/total_dos.dat")


if __name__ == "__main__":
    main()
