"""A model without equipot: energy, forces and stress of structures from a torch package, with torch, numpy and ase alone.

    equipot export MODEL --to torch -o model.pt2
    python examples/torch_package.py model.pt2 STRUCTURES.xyz

Prints a line for each structure. All structures of the file are one batch. Loading a package runs the code in it: take packages only from people
you trust. In C++ the same file is loaded by torch::inductor::AOTIModelPackageLoader, and takes and gives the same tensors in the same order.
"""

import argparse
import json

import ase.io
import numpy as np
import torch
from ase.neighborlist import neighbor_list


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package")
    parser.add_argument("structures", help="anything that ase reads")
    options = parser.parse_args()

    model = torch._inductor.aoti_load_package(options.package)
    facts = {key: json.loads(value) for key, value in model.loader.get_metadata().items() if not key.startswith("AOTI_")}
    frames = ase.io.read(options.structures, ":")
    outputs = model(*(tensor.to(facts["device"]) for tensor in batch(frames, facts["cutoff"], facts["elements"])))
    found = {name: tensor.cpu().numpy() for name, tensor in zip(facts["outputs"], outputs, strict=True)}

    first = 0
    for i, atoms in enumerate(frames):
        forces = found["forces"][first : first + len(atoms)]
        first += len(atoms)
        line = f"{atoms.get_chemical_formula():12s} energy {found['energy'][i]:.6f} eV, largest force {np.linalg.norm(forces, axis=1).max():.6f} eV/Å"
        # the package knows no periodicity: the stress of a slab or molecule in a box would be that of the box
        print(line + (f", pressure {-np.trace(found['stress'][i]) / 3:.6f} eV/Å³" if atoms.pbc.all() else ""))


def batch(frames: list[ase.Atoms], cutoff: float, elements: list[int]) -> tuple[torch.Tensor, ...]:
    """positions, numbers, cell, edge_index, shift, structure: dense, in this order, of these types."""
    edges, shifts, first = [], [], 0
    for atoms in frames:
        if unknown := set(atoms.numbers) - set(elements):
            raise SystemExit(f"the model does not know the elements {sorted(unknown)}")
        centre, neighbour, shift = neighbor_list("ijS", atoms, cutoff)  # every pair in both directions
        edges.append(np.stack([neighbour, centre]).astype(np.int64) + first)
        shifts.append(shift)
        first += len(atoms)
    arrays = (
        np.concatenate([atoms.positions for atoms in frames]).astype(np.float64),
        np.concatenate([atoms.numbers for atoms in frames]).astype(np.int64),
        np.stack([atoms.cell.array for atoms in frames]).astype(np.float64),
        np.concatenate(edges, axis=1),
        np.concatenate(shifts).astype(np.int64),
        np.repeat(np.arange(len(frames), dtype=np.int64), [len(atoms) for atoms in frames]),
    )
    # compiled code reads memory as if it were dense: a transposed array would give wrong results without a word
    return tuple(torch.from_numpy(np.ascontiguousarray(array)) for array in arrays)


if __name__ == "__main__":
    main()
