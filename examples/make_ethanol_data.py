#!/usr/bin/env python3
"""Make the packaged ethanol data set: GFN2-xTB dynamics, relabelled with PBE.

Needs ``pip install pyscf tblite ase numpy``.  One call does everything::

    python make_ethanol_data.py --work ethanol-work --out ethanol-data

Stages (``--stage``): *md*, Langevin trajectories with GFN2-xTB at 300 K and
600 K, and a rigid O-H stretch scan; *label*, RKS PBE/def2-SVP energies and forces
of every frame, and of the isolated atoms (UKS); *check*, analytic forces against
finite differences; *write*, the extxyz files, from all frames labelled so far.

Every piece of work is a file in the work folder, written beside its final name
and then renamed, so an interrupted run continues where it stopped.  A frame
whose SCF fails is recorded in ``*.failed.txt`` with the reason, and left out.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # parallelism is by process, see --jobs

import argparse
import gzip
import io
import itertools
import json
import time
from multiprocessing import get_context
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms, units
from ase.build import molecule
from ase.calculators.calculator import Calculator
from ase.calculators.mixing import SumCalculator
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixCom
from ase.geometry import get_dihedrals, get_dihedrals_derivatives
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution, Stationary, ZeroRotation
from ase.optimize import BFGS

SEED = 20240
FRAMES_PER_TRAJECTORY = 25
TIMESTEP_FS, EQUILIBRATION_FS, SPACING_FS, FRICTION_PER_FS = 0.5, 2000.0, 150.0, 0.01
METHOD = {"xc": "pbe", "basis": "def2-svp", "auxbasis": "def2-universal-jfit", "grid_level": 3, "conv_tol": 1e-10}
ATOM_SPINS = {"H": 1, "C": 2, "O": 2}  # unpaired electrons in the ground state
SCAN_LENGTHS = [(80 + 4 * k) / 100 for k in range(21)]  # O-H, Angstrom
MAX_NET_FORCE = 1e-4  # eV/A


def save(path, content):
    """Write beside, then rename: a file under its final name is always whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_bytes(content)
    part.replace(path)


def extxyz(frames):
    buffer = io.StringIO()
    ase.io.write(buffer, frames, format="extxyz")
    return buffer.getvalue().encode()


def bonded_sites(atoms):
    """Indices (oxygen, its hydrogen, its carbon, the methyl carbon)."""
    d = atoms.get_all_distances()
    o = atoms.symbols.search("O")[0]
    h = min(atoms.symbols.search("H"), key=lambda i: d[o, i])
    c, c_methyl = sorted(atoms.symbols.search("C"), key=lambda i: d[o, i])
    return int(o), int(h), int(c), int(c_methyl)


class TorsionBias(Calculator):
    """A cos(C-C-O-H dihedral): GFN2-xTB alone puts gauche 0.07 eV under trans,
    PBE 0.01 eV, and without this trans is hardly visited at 300 K."""

    implemented_properties = ["energy", "forces"]
    amplitude = 0.04  # eV

    def __init__(self, indices):
        super().__init__()
        self.indices = list(indices)

    def calculate(self, atoms, properties, system_changes):
        super().calculate(atoms, properties, system_changes)
        p = atoms.positions[self.indices]
        bonds = [[p[k + 1] - p[k]] for k in range(3)]
        angle = np.radians(get_dihedrals(*bonds)[0])
        slope = np.radians(get_dihedrals_derivatives(*bonds)[0])
        forces = np.zeros((len(atoms), 3))
        forces[self.indices] = self.amplitude * np.sin(angle) * slope
        self.results = {"energy": self.amplitude * np.cos(angle), "forces": forces}


def relaxed(dihedral):
    """Minimum of the sampling potential nearest to a C-C-O-H dihedral (degrees)."""
    from tblite.ase import TBLite

    atoms = molecule("CH3CH2OH")
    o, h, c, c_methyl = bonded_sites(atoms)
    atoms.set_dihedral(c_methyl, c, o, h, dihedral, indices=[h])
    atoms.calc = SumCalculator([TBLite(method="GFN2-xTB", verbosity=0), TorsionBias([c_methyl, c, o, h])])
    if not BFGS(atoms, logfile=None).run(fmax=0.005, steps=500):
        raise RuntimeError(f"the start structure at {dihedral} degrees did not relax")
    return atoms


def centred(atoms, **info):
    return Atoms(atoms.symbols, atoms.positions - atoms.get_center_of_mass(), info=info)


def run_trajectory(work, temperature, index):
    """One short NVT trajectory; the starts cycle through the three conformers."""
    path = work / "md" / f"{temperature}K_{index:03d}.extxyz"
    if path.exists():
        return
    rng = np.random.default_rng([SEED, temperature, index])
    atoms = relaxed((180, 60, 300)[index % 3])
    atoms.set_constraint(FixCom())
    MaxwellBoltzmannDistribution(atoms, temperature_K=temperature, rng=rng)
    Stationary(atoms)
    ZeroRotation(atoms)
    md = Langevin(atoms, TIMESTEP_FS * units.fs, temperature_K=temperature, friction=FRICTION_PER_FS / units.fs, fixcm=False, rng=rng)
    md.run(round(EQUILIBRATION_FS / TIMESTEP_FS))
    frames = []
    for k in range(FRAMES_PER_TRAJECTORY):
        md.run(round(SPACING_FS / TIMESTEP_FS))
        frames.append(
            centred(atoms, config_type=f"{temperature}K", temperature=float(temperature), trajectory=index, time_fs=(k + 1) * SPACING_FS)
        )
    save(path, extxyz(frames))


def make_scan(work):
    atoms = relaxed(180)
    (o, h, _, _), frames = bonded_sites(atoms), []
    for length in SCAN_LENGTHS:
        atoms.set_distance(o, h, length, fix=0)
        frames.append(centred(atoms, config_type="OH_scan", temperature=0.0, oh_length=length))
    save(work / "md" / "OH_scan.extxyz", extxyz(frames))


def load_frames(work, temperature, count):
    """The frames of all trajectories in one fixed random order."""
    frames = []
    for index in range(-(-count // FRAMES_PER_TRAJECTORY)):
        frames += ase.io.read(work / "md" / f"{temperature}K_{index:03d}.extxyz", ":")
    order = np.random.default_rng([SEED, temperature]).permutation(len(frames))
    return [frames[i] for i in order[:count]]


def mean_field(atoms, grid_level=METHOD["grid_level"], conv_tol=METHOD["conv_tol"]):
    from pyscf import dft, gto, lib

    lib.num_threads(1)
    spin = ATOM_SPINS[atoms.symbols[0]] if len(atoms) == 1 else 0
    mol = gto.M(
        atom=list(zip(atoms.get_chemical_symbols(), atoms.positions / units.Bohr, strict=True)),
        unit="Bohr",
        basis=METHOD["basis"],
        spin=spin,
        verbose=0,
    )
    mf = dft.UKS(mol) if spin else dft.RKS(mol)
    mf = mf.density_fit(auxbasis=METHOD["auxbasis"])
    mf.xc, mf.grids.level, mf.conv_tol, mf.max_cycle = METHOD["xc"], grid_level, conv_tol, 100
    return mf


def converge(atoms):
    """Converged mean field: a coarse grid for the start, the full one to the end."""
    coarse = mean_field(atoms, grid_level=1, conv_tol=1e-7)
    coarse.kernel()
    mf = mean_field(atoms)
    mf.with_df = coarse.with_df  # the fitted integrals do not depend on the grid
    mf.kernel(dm0=coarse.make_rdm1())
    if not mf.converged:
        raise RuntimeError(f"SCF not converged in {mf.max_cycle} cycles")
    return mf


def energy_and_forces(atoms):
    mf = converge(atoms)
    gradient = mf.nuc_grad_method()
    gradient.grid_response = True  # else the moving grid leaves a net force
    return mf.e_tot * units.Hartree, -gradient.kernel() * units.Hartree / units.Bohr


def label_frame(job):
    """Label one frame into ``path``; returns a line to print."""
    path, atoms = job
    start = time.time()
    try:
        energy, forces = energy_and_forces(atoms)
        net = float(np.abs(forces.sum(axis=0)).max())
        if not net < MAX_NET_FORCE:
            raise RuntimeError(f"net force {net:.2e} eV/A")
    except Exception as error:  # recorded; the other frames go on
        reason = f"{type(error).__name__}: {error}"
        save(path.with_suffix(".failed.txt"), reason.encode())
        return f"{path.stem}: FAILED, {reason}"
    save(path, json.dumps({"method": METHOD, "positions": atoms.positions.tolist(), "energy": energy, "forces": forces.tolist()}).encode())
    return f"{path.stem}: {energy:.6f} eV, net force {net:.1e} eV/A, {time.time() - start:.1f} s"


def label_all(work, groups, jobs):
    todo = []
    for group, frames in groups.items():
        for i, atoms in enumerate(frames):
            path = work / "labels" / f"{group}_{i:04d}.json"
            if not path.exists() and not path.with_suffix(".failed.txt").exists():
                priority = i / len(frames) if len(atoms) > 1 else 0
                todo.append((priority, path, atoms))
    todo.sort(key=lambda item: item[:2])  # all groups advance together
    print(f"{len(todo)} frames to label", flush=True)
    with get_context("spawn").Pool(jobs) as pool:
        for line in pool.imap_unordered(label_frame, [item[1:] for item in todo]):
            print(line, flush=True)


def check_forces(work, frame, step=0.005):
    """Five-point finite differences for the oxygen, its hydrogen and its carbon."""
    forces, errors = energy_and_forces(frame)[1], []
    for atom, axis in itertools.product(bonded_sites(frame)[:3], range(3)):
        e = {}
        for k in (-2, -1, 1, 2):
            moved = frame.copy()
            moved.positions[atom, axis] += k * step
            e[k] = converge(moved).e_tot * units.Hartree
        numeric = -(8 * (e[1] - e[-1]) - (e[2] - e[-2])) / (12 * step)
        errors.append(abs(numeric - forces[atom, axis]))
    print(f"finite differences, {len(errors)} force components: largest error {max(errors):.1e} eV/A", flush=True)


def labelled(work, group, frames):
    """The frames that have a label, with its energy and forces."""
    done = []
    for i, atoms in enumerate(frames):
        path = work / "labels" / f"{group}_{i:04d}.json"
        if path.exists():
            label = json.loads(path.read_text())
            moved = np.abs(label["positions"] - atoms.positions).max()
            if label["method"] != METHOD or moved > 1e-7:
                raise ValueError(f"{path} was made with other settings; use a fresh work folder")
            atoms.calc = SinglePointCalculator(atoms, energy=label["energy"], forces=np.array(label["forces"]))
            done.append(atoms)
    return done


def write_all(work, out, groups):
    atoms = labelled(work, "isolated_atoms", groups["isolated_atoms"])
    energies = {atom.symbols[0]: atom.get_potential_energy() for atom in atoms}
    for group, frames in groups.items():
        done = labelled(work, group, frames)
        path = out / f"ethanol_{group}.extxyz.gz"
        save(path, gzip.compress(extxyz(done), mtime=0))
        e = [a.get_potential_energy() - sum(energies[s] for s in a.symbols) for a in done]
        f = np.array([a.get_forces() for a in done])
        print(
            f"{path.name}: {len(done)} of {len(frames)} frames; eV, eV/A\n"
            f"  energy less atoms: {min(e):.4f} to {max(e):.4f}, mean {np.mean(e):.4f}, "
            f"std {np.std(e):.4f}\n  force components: rms {f.std():.4f}, largest "
            f"{np.abs(f).max():.4f}, largest net {np.abs(f.sum(axis=1)).max():.1e}"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default="ethanol-work", help="pieces of work")
    parser.add_argument("--out", type=Path, default="ethanol-data", help="finished files")
    parser.add_argument("--n300", type=int, default=400, help="frames at 300 K")
    parser.add_argument("--n600", type=int, default=150, help="frames at 600 K")
    parser.add_argument("--jobs", type=int, default=1, help="processes, one thread each")
    parser.add_argument("--stage", choices=["all", "md", "label", "check", "write"], default="all")
    args = parser.parse_args()
    counts = {300: args.n300, 600: args.n600}

    if args.stage in ("all", "md"):
        if not (args.work / "md" / "OH_scan.extxyz").exists():
            make_scan(args.work)
        jobs = [(args.work, t, i) for t, n in counts.items() for i in range(-(-n // FRAMES_PER_TRAJECTORY))]
        with get_context("spawn").Pool(args.jobs) as pool:
            pool.starmap(run_trajectory, jobs, chunksize=1)
    groups = {"isolated_atoms": [centred(Atoms(s), config_type="IsolatedAtom", temperature=0.0) for s in ATOM_SPINS]}
    groups.update({f"{t}K": load_frames(args.work, t, n) for t, n in counts.items()})
    groups["OH_scan"] = ase.io.read(args.work / "md" / "OH_scan.extxyz", ":")
    if args.stage in ("all", "label"):
        label_all(args.work, groups, args.jobs)
    if args.stage in ("all", "check"):
        check_forces(args.work, groups["600K"][0])
    if args.stage in ("all", "write"):
        write_all(args.work, args.out, groups)


if __name__ == "__main__":
    main()
