"""A small sound model, and models broken on purpose: each has one defect that one of the checks exists to find."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from equipot.data.graph import Graph
from equipot.data.neighbours import neighbour_graph
from equipot.model import Potential, Prediction, predict
from equipot.model.potential import SiteEnergies
from equipot.ops.reference import segment_sum
from equipot.presets import PRESETS, preset_options

CUTOFF = 3.5
ELEMENTS = (1, 6, 8)


def small_spec(preset: str = "nequip", elements: tuple[int, ...] = ELEMENTS, e0: float = 0.0, scale: float = 1.0, **options):
    """A complete spec of a very small model."""
    wanted = {"n_layers": 2, "n_channels": 4, "l_max": 1, "cutoff": CUTOFF, **options}
    spec = PRESETS[preset](**{name: value for name, value in wanted.items() if name in preset_options(preset)})
    layers = tuple(replace(layer, normaliser=replace(layer.normaliser, value=6.0)) for layer in spec.layers)
    shift = 0.1 if spec.energy.shift is None else spec.energy.shift
    return replace(spec, layers=layers, elements=elements, energy=replace(spec.energy, e0=e0, scale=scale, shift=shift))


def small_potential(
    preset: str = "nequip",
    kind: type[Potential] = Potential,
    dtype: torch.dtype = torch.float64,
    pair_cutoff: tuple[tuple[float, ...], ...] | None = None,
    **options,
) -> Potential:
    """An untrained potential; its forces are of the order of 0.1 eV/Å."""
    return kind(replace(small_spec(preset, **options), pair_cutoff=pair_cutoff), dtype=dtype, seed=1).eval()


class Added(Potential):
    """A potential with a further term; subclasses say which."""

    def extra(self, graph: Graph, vectors: Tensor) -> Tensor:
        """(N,) eV to add to the site energies."""
        raise NotImplementedError

    def forward(self, graph: Graph, vectors: Tensor) -> SiteEnergies:
        sites = super().forward(graph, vectors)
        return sites._replace(total=sites.total + self.extra(graph, vectors))


class KnowsWhereItIs(Added):
    """An energy that depends on the absolute x coordinate."""

    def extra(self, graph: Graph, vectors: Tensor) -> Tensor:
        return 1e-3 * graph.positions[:, 0]


class KnowsDirections(Added):
    """Edges along x are dearer."""

    def extra(self, graph: Graph, vectors: Tensor) -> Tensor:
        r = vectors.norm(dim=1)
        return segment_sum(1e-3 * vectors[:, 0] ** 2 * (1 - r / CUTOFF) ** 4, graph.receiver, graph.n_atoms)


class Handed(Added):
    """A pseudoscalar: left-handed neighbourhoods have another energy than right-handed ones. Turning does not show it."""

    def extra(self, graph: Graph, vectors: Tensor) -> Tensor:
        r = vectors.norm(dim=1, keepdim=True)
        envelope = (1 - r / CUTOFF).clamp(min=0) ** 4
        z = graph.species[graph.sender, None].double()
        arms = [
            segment_sum(vectors * envelope * f, graph.receiver, graph.n_atoms) for f in (r, torch.cos(2 * r) * (1 + z), r * z**2 + r**3)
        ]
        return 1e-2 * (arms[0] * torch.linalg.cross(arms[1], arms[2])).sum(1)


class CountsFirst(Added):
    """The first atom of a structure is special."""

    def extra(self, graph: Graph, vectors: Tensor) -> Tensor:
        first = torch.zeros(graph.n_atoms, dtype=torch.float64)
        first[torch.searchsorted(graph.structure, torch.arange(graph.n_structures))] = 1.0
        pair = segment_sum((1 - vectors.norm(dim=1) / CUTOFF) ** 4, graph.receiver, graph.n_atoms)
        return 1e-2 * first * pair


class Edges(Added):
    """E = factor · Σ (1 − r/r_c)^power: at the cutoff the energy (0), the force (1) or its slope (2) jumps."""

    power = 0
    factor = 1e-2

    def extra(self, graph: Graph, vectors: Tensor) -> Tensor:
        return self.factor * segment_sum((1 - vectors.norm(dim=1) / CUTOFF) ** self.power, graph.receiver, graph.n_atoms)


class JumpingForce(Edges):
    power = 1


class JumpingSlope(Edges):
    power = 2
    factor = 0.5


class IgnoresElements(Edges):
    """Smooth at the cutoff of the model, whatever that of a pair of elements is."""

    power = 4


class EdgesByPair(Added):
    """E = Σ (1 − r/r_ab) within the cutoff r_ab of a pair of elements: its force jumps there."""

    def extra(self, graph: Graph, vectors: Tensor) -> Tensor:
        cutoff = torch.tensor(self.spec.pair_cutoff, dtype=torch.float64)[graph.species[graph.receiver], graph.species[graph.sender]]
        return 1e-2 * segment_sum((1 - vectors.norm(dim=1) / cutoff).clamp(min=0), graph.receiver, graph.n_atoms)


class AloneIsNotZero(Added):
    """A shift that an `exact` model may not have."""

    def extra(self, graph: Graph, vectors: Tensor) -> Tensor:
        return torch.full((graph.n_atoms,), 1e-3, dtype=torch.float64)


class CountsAtoms(Added):
    """An energy that grows with the square of the number of atoms."""

    def extra(self, graph: Graph, vectors: Tensor) -> Tensor:
        counts = torch.bincount(graph.structure, minlength=graph.n_structures)
        return 1e-4 * counts[graph.structure].double()


class Coarse(Potential):
    """In single precision it keeps 8 bits of every distance."""

    def forward(self, graph: Graph, vectors: Tensor) -> SiteEnergies:
        return super().forward(graph, vectors.bfloat16().double() if self.dtype == torch.float32 else vectors)


class UndefinedAtContact(Added):
    """A logarithm of what becomes negative."""

    def extra(self, graph: Graph, vectors: Tensor) -> Tensor:
        return segment_sum(torch.log(vectors.norm(dim=1) - 0.1), graph.receiver, graph.n_atoms)


class Steps(Added):
    """The energy of a pair has a step of 1e-2 eV where no atom of a structure is: close to contact."""

    def extra(self, graph: Graph, vectors: Tensor) -> Tensor:
        return segment_sum(1e-2 * (vectors.norm(dim=1) < 0.2345).double(), graph.receiver, graph.n_atoms)


class Kinks(Added):
    """A force that jumps where two tables meet."""

    def extra(self, graph: Graph, vectors: Tensor) -> Tensor:
        return segment_sum(0.1 * (vectors.norm(dim=1) - 0.7).abs(), graph.receiver, graph.n_atoms)


class Stiff(Added):
    """Sound, but so steep that a difference over 2e-3 Å is off by more than the law allows."""

    def extra(self, graph: Graph, vectors: Tensor) -> Tensor:
        r = vectors.norm(dim=1)
        return segment_sum(torch.exp(-20 * (r - 2.0)) * (1 - r / CUTOFF).clamp(min=0) ** 4, graph.receiver, graph.n_atoms)


class Wall(Added):
    """A strong repulsion that hides all else at short range."""

    sign = 1.0

    def extra(self, graph: Graph, vectors: Tensor) -> Tensor:
        r = vectors.norm(dim=1)
        return self.sign * segment_sum(50.0 * torch.exp(-3 * r) * (1 - r / CUTOFF) ** 4 / (r + 0.01), graph.receiver, graph.n_atoms)


class Pit(Wall):
    """The same, attractive."""

    sign = -1.0


class Bonds(Added):
    """Every pair within reach is a spring that ends smoothly at the cutoff."""

    rest = 1.2

    def extra(self, graph: Graph, vectors: Tensor) -> Tensor:
        r = vectors.norm(dim=1)
        return segment_sum(0.5 * ((r - self.rest) ** 2 - 1.0) * (1 - (r / CUTOFF) ** 2) ** 4, graph.receiver, graph.n_atoms)


class TwoBonds(Added):
    """Bonds with a second rest length, as a model far from its data has them."""

    second = 2.1

    def extra(self, graph: Graph, vectors: Tensor) -> Tensor:
        r = vectors.norm(dim=1)
        wells = -2.0 * torch.exp(-30 * (r - 1.2) ** 2) - 1.0 * torch.exp(-30 * (r - self.second) ** 2)
        return segment_sum((wells + 3.0 * torch.exp(-4 * r)) * (1 - (r / CUTOFF) ** 2).clamp(min=0) ** 3, graph.receiver, graph.n_atoms)


class OneBond(TwoBonds):
    """The same without."""

    second = 1.2


class Dead(Potential):
    """No energy but E0."""

    def forward(self, graph: Graph, vectors: Tensor) -> SiteEnergies:
        sites = super().forward(graph, vectors)
        return SiteEnergies(self.e0[graph.species] + 0.0 * sites.total, 0.0 * sites.layers)


def forces_scaled(factor: float):
    """A `predict` whose forces are not the derivative."""

    def broken(*args, **kwargs) -> Prediction:
        result = predict(*args, **kwargs)
        return result._replace(forces=factor * result.forces)

    return broken


def stress_of_opposite_sign(*args, **kwargs) -> Prediction:
    """A `predict` that returns the virial's sign."""
    result = predict(*args, **kwargs)
    return result if result.stress is None else result._replace(stress=-result.stress)


def noisy_forces(*args, **kwargs) -> Prediction:
    """A `predict` that is not deterministic, as a neighbour list with a race would make it."""
    result = predict(*args, **kwargs)
    return result._replace(forces=result.forces + 1e-3 * torch.randn(result.forces.shape, dtype=torch.float64))


def short_list(positions, species, cell, pbc, cutoff) -> Graph:
    """Neighbours to 90 % of the cutoff only."""
    return neighbour_graph(positions, species, cell, pbc, 0.9 * cutoff)


def near_images_only(positions, species, cell, pbc, cutoff) -> Graph:
    """Neighbours in the cell and the images next to it only, as a minimum-image list that takes positions to be wrapped."""
    keep = _keep(lambda g: (g.shift.abs() <= 1).all(dim=1))
    return keep(neighbour_graph(positions, species, cell, pbc, cutoff))


def five_neighbours(positions, species, cell, pbc, cutoff) -> Graph:
    """At most five neighbours of each atom, the first in the list."""
    keep = _keep(lambda g: torch.arange(g.n_edges) - g.receiver_start[g.receiver] < 5)
    return keep(neighbour_graph(positions, species, cell, pbc, cutoff))


def _keep(choose):
    from equipot.data.graph import make_graph

    def thin(graph: Graph) -> Graph:
        kept = choose(graph)
        edges = {name: getattr(graph, name)[kept] for name in ("sender", "receiver", "shift")}
        return make_graph(graph.positions, graph.species, cell=graph.cell, pbc=graph.pbc, structure=graph.structure, **edges)

    return thin


def nan_energy(*args, **kwargs) -> Prediction:
    """A `predict` of a model whose training diverged."""
    result = predict(*args, **kwargs)
    return result._replace(energy=result.energy * np.nan, forces=result.forces * np.nan)
