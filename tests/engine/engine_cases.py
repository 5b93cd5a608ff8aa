"""Models and structures for the native engine, and how its results are compared with torch."""

from functools import cache
from typing import NamedTuple

import numpy as np
from contract_models import cluster_graph, crystal_graph

from equipot.data.graph import Graph
from equipot.engine.native import NativeModel, Neighbours, Result
from equipot.model import Potential, predict
from equipot.model.export import native_bytes


class Deviation(NamedTuple):
    """Largest differences from torch."""

    energy: float  # eV, of an atom
    forces: float  # eV/Å
    stress: float  # eV/Å³


def native(potential: Potential, dtype: str = "float64", accuracy: float = 1e-8) -> NativeModel:
    """The potential, exported (once) and opened."""
    return NativeModel(_exported(potential, accuracy), dtype)


@cache
def _exported(potential: Potential, accuracy: float) -> bytes:
    return native_bytes(potential, accuracy)


def neighbours_of(graph: Graph) -> Neighbours:
    """The graph's edges for the engine."""
    return Neighbours(graph.receiver_start.numpy(), graph.sender.numpy(), graph.shift.numpy())


def compute(model: NativeModel, graph: Graph, positions: np.ndarray | None = None) -> Result:
    """Everything the engine computes of the graph's one structure, at other positions if given."""
    where = graph.positions.numpy() if positions is None else positions
    return model.compute(graph.species.numpy(), where, graph.cell[0].numpy(), neighbours_of(graph), virial=True, virials=True)


def deviation(model: NativeModel, potential: Potential, graph: Graph) -> Deviation:
    """The engine's results against torch's."""
    periodic = bool(graph.pbc.all())
    expected, found = predict(potential, graph, stress=periodic), compute(model, graph)
    stress = 0.0
    if periodic:
        volume = abs(np.linalg.det(graph.cell[0].numpy()))
        stress = float(np.abs(-found.virial / volume - expected.stress[0].numpy()).max())
    energy = np.abs(found.energies - expected.site_energy.numpy()).max(initial=0.0)
    return Deviation(float(energy), float(np.abs(found.forces - expected.forces.numpy()).max(initial=0.0)), stress)


def worst(model: NativeModel, potential: Potential) -> Deviation:
    """The largest of each over a cluster and a crystal whose cell is smaller than the cutoff."""
    return Deviation(*np.max([deviation(model, potential, g) for g in (cluster_graph(potential), crystal_graph(potential))], axis=0))
