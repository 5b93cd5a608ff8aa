"""Structures to trace and to compare a torch package with, and the comparison."""

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from equipot.data.graph import Graph, concatenate, make_graph
from equipot.errors import UserError
from equipot.model.derivatives import predict, predict_members
from equipot.model.ensemble import Ensemble
from equipot.model.potential import Potential
from equipot.spec import ModelSpec

_ALLOWED = {torch.float64: 1e-9, torch.float32: 1e-4}
"""Largest deviation relative to the size of what is summed: code that was compiled wrongly is off by about that size."""


class Deviation(NamedTuple):
    """Largest differences between a package and its potential."""

    energy: float  # eV per atom
    forces: float  # eV/Å
    stress: float  # eV/Å³


def example(spec: ModelSpec, size: int) -> Graph:
    """Structures of the model's elements, atoms at about half the cutoff, always the same: 0 a cluster and a crystal, 1 an isolated atom, 2 it and a
    cluster, 3 two crystals, 4 a large cluster; no two have the same numbers of atoms and edges."""
    atoms = {0: ((5, False), (4, True)), 1: ((1, False),), 2: ((1, False), (9, False)), 3: ((3, True), (8, True)), 4: ((150, False),)}[size]
    return concatenate([_structure(spec, n, periodic, seed=n) for n, periodic in atoms])


def inputs_of(graph: Graph, spec: ModelSpec, device: str) -> tuple[Tensor, ...]:
    """The graph as a package takes it (`torch_trace`), dense: compiled code reads memory as if it were."""
    numbers = torch.tensor(spec.elements)[graph.species]
    edges = torch.stack([graph.sender, graph.receiver])
    given = (graph.positions, numbers, graph.cell, edges, graph.shift.round().long(), graph.structure)
    return tuple(t.to(device).clone(memory_format=torch.contiguous_format) for t in given)


def compare(
    run: Callable[..., Sequence[Tensor]], potential: Potential | Ensemble, graphs: Sequence[Graph], names: Sequence[str], device: str
) -> Deviation:
    """Largest deviations of what a package says from what the potential says, on the CPU; raises UserError if it is more than rounding."""
    worst = dict.fromkeys(names, 0.0)
    for graph in graphs:
        found = dict(zip(names, (t.cpu() for t in run(*inputs_of(graph, potential.spec, device))), strict=True))
        found["energy"] = found["energy"] / graph.n_atoms
        for name, (expected, size) in _expected(potential, graph).items():
            difference = float((found[name] - expected).abs().max())
            allowed = _ALLOWED[potential.dtype] * max(1e-3, size) + 1e-14 * float(expected.abs().max())
            if not difference <= allowed:
                raise UserError(
                    f"the compiled {name} is off by {difference:.1e} on a test structure, {allowed:.1e} is allowed: torch compiled this model wrongly"
                )
            worst[name] = max(worst[name], difference)
    return Deviation(worst["energy"], worst["forces"], worst["stress"])


def _expected(potential: Potential | Ensemble, graph: Graph) -> dict[str, tuple[Tensor, float]]:
    """By output what it should be, energies per atom of the whole graph, and the size of what it is a sum of; stress where all is periodic."""
    periodic = bool(graph.pbc.all())
    found: dict[str, tuple[Tensor, float]] = {}
    if isinstance(potential, Ensemble):
        spread = predict_members(potential, graph, stress=periodic)
        whole = spread.mean
    else:
        whole = predict(potential, graph, stress=periodic)
    interaction = float((whole.site_energy - potential.e0[graph.species]).abs().max())
    pull = float(whole.forces.abs().max())
    found["energy"], found["site_energy"] = (whole.energy / graph.n_atoms, interaction), (whole.site_energy, interaction)
    found["forces"] = (whole.forces, pull)
    if isinstance(potential, Ensemble):
        found |= {"energy_std": (spread.energy_std, interaction * graph.n_atoms), "forces_std": (spread.forces_std, pull)}
    if whole.stress is not None:
        volumes = torch.linalg.det(graph.cell).abs()[:, None, None]
        size = pull * potential.spec.cutoff * graph.n_atoms
        found |= {"virial": (-whole.stress * volumes, size), "stress": (whole.stress, size / float(volumes.min()))}
    return found


def _structure(spec: ModelSpec, n: int, periodic: bool, seed: int) -> Graph:
    """n atoms near a grid, with all pairs inside the cutoff, over the faces of a cell to the next one only."""
    random = torch.Generator().manual_seed(seed)
    spacing = 0.45 * spec.cutoff
    side = next(k for k in itertools.count(1) if k**3 >= n)
    grid = torch.cartesian_prod(*[torch.arange(side, dtype=torch.float64)] * 3)[:n]
    positions = spacing * (grid + 0.15 * torch.rand(n, 3, generator=random, dtype=torch.float64))
    cell = torch.zeros(3, 3, dtype=torch.float64)
    if periodic:
        skew = torch.eye(3, dtype=torch.float64) + 0.1 * torch.rand(3, 3, generator=random, dtype=torch.float64)
        cell = side * spacing * skew
        positions = positions @ skew
    steps = [-1.0, 0.0, 1.0] if periodic else [0.0]
    shifts = torch.cartesian_prod(*[torch.tensor(steps, dtype=torch.float64)] * 3).reshape(-1, 3)
    # (centre, neighbour, shift)
    edges = positions[None, :, None] + (shifts @ cell)[None, None] - positions[:, None, None]
    lengths = edges.norm(dim=3)
    species = torch.arange(n) % len(spec.elements)
    limit = torch.tensor(spec.cutoff, dtype=torch.float64)
    if spec.pair_cutoff is not None:
        limit = torch.tensor(spec.pair_cutoff, dtype=torch.float64)[species[:, None], species[None, :]][:, :, None]
    receiver, sender, which = torch.nonzero((lengths > 1e-6) & (lengths < limit), as_tuple=True)
    whole = torch.full((1, 3), periodic)
    return make_graph(positions, species, sender, receiver, shifts[which], cell[None], whole, torch.zeros(n, dtype=torch.int64))
