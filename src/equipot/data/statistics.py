"""What a data set says of the scale of its energies, forces and neighbourhoods."""

from dataclasses import asdict, dataclass

import numpy as np
import torch
from ase.data import chemical_symbols

from equipot.data.dataset import DataSet
from equipot.data.frame import to_numbers
from equipot.data.references import References
from equipot.errors import UserError


@dataclass(frozen=True)
class Statistics:
    """Numbers of a data set; a model is scaled by them and its file records them. NaN (None in `to_dict`) where no label tells."""

    n_structures: int
    n_atoms: int
    n_energies: int
    n_forces: int  # structures with forces
    n_stresses: int
    mean_neighbours: float  # over the atoms that have one, as BOTNet counts
    mean_neighbours_all: float  # over all atoms
    neighbours_by_element: dict[str, float]  # over all atoms of the element as centre
    rms_forces: float  # eV/Å, of force components
    rms_forces_by_element: dict[str, float]  # eV/Å
    mean_interaction: float  # eV per atom, (E − Σ E0) / N over structures
    std_interaction: float  # eV per atom
    min_distance: dict[str, float]  # Å by pair of elements "H-O", of pairs inside the cutoff
    atoms_by_element: dict[str, int]

    def to_dict(self) -> dict:
        """Plain numbers for a JSON header; what is unknown is None."""

        def plain(value: object) -> object:
            if isinstance(value, dict):
                return {key: plain(v) for key, v in value.items()}
            return None if isinstance(value, float) and np.isnan(value) else value

        return {name: plain(value) for name, value in asdict(self).items()}


def statistics(dataset: DataSet, references: References) -> Statistics:
    """The statistics of a data set with the given reference energies; raises UserError if it is empty."""
    if not len(dataset):
        raise UserError("no frames to take statistics of")
    symbols = [chemical_symbols[z] for z in to_numbers(dataset.elements)]
    species = torch.cat([g.species for g in dataset.graphs]).numpy()
    neighbours = torch.cat([g.receiver_start.diff() for g in dataset.graphs]).numpy()
    atoms = np.bincount(species, minlength=len(symbols))
    energies = [(f.energy - references.of(f)) / f.n_atoms for f in dataset.frames if f.energy is not None]
    rms, rms_by_element = _force_rms(dataset, symbols)
    return Statistics(
        n_structures=len(dataset),
        n_atoms=len(species),
        n_energies=len(energies),
        n_forces=sum(f.forces is not None for f in dataset.frames),
        n_stresses=sum(f.stress is not None for f in dataset.frames),
        mean_neighbours=float(neighbours[neighbours > 0].mean()) if (neighbours > 0).any() else 0.0,
        mean_neighbours_all=float(neighbours.mean()),
        neighbours_by_element={s: float(neighbours[species == k].mean()) for k, s in enumerate(symbols) if atoms[k]},
        rms_forces=rms,
        rms_forces_by_element=rms_by_element,
        mean_interaction=float(np.mean(energies)) if energies else float("nan"),
        std_interaction=float(np.std(energies)) if energies else float("nan"),
        min_distance=_min_distances(dataset, symbols),
        atoms_by_element={s: int(atoms[k]) for k, s in enumerate(symbols)},
    )


def _force_rms(dataset: DataSet, symbols: list[str]) -> tuple[float, dict[str, float]]:
    labelled = [(g.species.numpy(), f.forces) for g, f in zip(dataset.graphs, dataset.frames, strict=True) if f.forces is not None]
    if not labelled:
        return float("nan"), {}
    species = np.concatenate([s for s, _ in labelled])
    square = (np.concatenate([f for _, f in labelled]) ** 2).mean(axis=1)
    present = [k for k in range(len(symbols)) if (species == k).any()]
    return float(np.sqrt(square.mean())), {symbols[k]: float(np.sqrt(square[species == k].mean())) for k in present}


def _min_distances(dataset: DataSet, symbols: list[str]) -> dict[str, float]:
    n = len(symbols)
    closest = np.full(n * n, np.inf)
    for graph in dataset.graphs:
        if graph.n_edges:
            edge = graph.positions[graph.sender] - graph.positions[graph.receiver] + graph.shift @ graph.cell[0]
            pair = graph.species[graph.sender] * n + graph.species[graph.receiver]
            np.minimum.at(closest, pair.numpy(), edge.norm(dim=1).numpy())
    table = closest.reshape(n, n)
    return {f"{symbols[i]}-{symbols[j]}": float(table[i, j]) for i in range(n) for j in range(i, n) if np.isfinite(table[i, j])}
