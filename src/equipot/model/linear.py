"""Models that are linear in their parameters: their energies, forces and stresses as rows of a matrix.

E = E_base + Σ_p X_p c_p, where c are the weights of the product basis and X its functions summed over the atoms. Derivatives of the rows are taken in
forward mode: for every centre i and every direction t (a coordinate of an atom, or a strain)

  dB_η/dt = Σ_v,m (∂B_η/∂A_v,m) dA_v,m/dt,

with the tangents dA/dt from forward differentiation of the radial functions and harmonics, and ∂B/∂A from the nodes of the basis, once per centre.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from equipot.data.graph import Graph
from equipot.math.coupled import CoupledBasis
from equipot.model.derivatives import edge_vectors, predict, require_volume
from equipot.model.potential import Potential
from equipot.nn.coupled import CoupledProduct
from equipot.ops import geometry
from equipot.spec import nonlinear_because

VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
"""The components of a stress row: xx yy zz yz xz xy."""


@dataclass(frozen=True)
class Rows:
    """Rows of one structure, float64, a column per parameter."""

    energy: np.ndarray  # (P,) eV
    forces: np.ndarray | None  # (3N, P) eV/Å, atom after atom
    stress: np.ndarray | None  # (6, P) eV/Å³, in the order of `VOIGT`


class LinearModel:
    """A potential that is linear in its parameters, seen as a matrix. Raises ValueError, which says why, for one that is not."""

    def __init__(self, potential: Potential):
        if reason := nonlinear_because(potential.spec):
            raise ValueError(reason)
        self.potential = potential
        self.product: CoupledProduct = potential.layers[0].product
        self.basis: CoupledBasis = self.product.basis
        self.n_functions = self.basis.n_functions
        self.n_blocks = len(potential.spec.elements) if self.product.per_element else 1
        self.n_radial, self.n_harmonics = potential.spec.radial_basis.n, (potential.spec.layers[0].l_max + 1) ** 2

    @property
    def n_columns(self) -> int:
        """P, the number of parameters."""
        return self.n_blocks * self.n_functions

    def set_weights(self, c: np.ndarray) -> None:
        """Put the parameters (P,) into the model."""
        with torch.no_grad():
            self.product.weight.copy_(torch.from_numpy(np.ascontiguousarray(c)).reshape(self.product.weight.shape))

    def weights(self) -> np.ndarray:
        """The parameters (P,) of the model, float64."""
        return self.product.weight.detach().double().reshape(-1).numpy().copy()

    def base(self, graph: Graph, stress: bool):
        """Prediction without the linear part: E0, shift and pair term."""
        kept = self.weights()
        self.set_weights(np.zeros_like(kept))
        try:
            return predict(self.potential, graph, forces=True, stress=stress)
        finally:
            self.set_weights(kept)

    def rows(self, graph: Graph, forces: bool = True, stress: bool = False) -> Rows:
        """The rows of one structure (B = 1). Raises UserError if a stress is asked of a structure without volume."""
        volume = float(require_volume(graph)[0]) if stress else math.nan
        edges = _EdgeTangents(self.potential, graph, forces or stress)
        functions, slopes = self._functions(graph, edges)
        scale = self.potential.scale[graph.species].double().numpy()
        species, blocks = graph.species.numpy(), graph.species.numpy() if self.n_blocks > 1 else np.zeros(graph.n_atoms, dtype=int)
        f = self.n_functions
        energy = np.zeros((self.n_blocks, f))
        np.add.at(energy, blocks, functions * scale[:, None])
        if not (forces or stress):
            return Rows(energy.reshape(-1), None, None)
        # columns × rows: what the sparse products give, added in place
        d_forces, d_stress = np.zeros((self.n_columns, 3 * graph.n_atoms)), np.zeros((self.n_columns, 6))
        for i in range(graph.n_atoms):
            part = slice(blocks[i] * f, (blocks[i] + 1) * f)
            for z in range(len(self.potential.spec.elements)):
                atoms, moved, strained = edges.tangents(i, z, species, stress)
                if not len(atoms):
                    continue
                pattern = self._pattern[z]
                slope = csr_array(
                    (slopes[i, pattern.order] * scale[i], pattern.columns, pattern.starts), shape=(f, self.n_radial * self.n_harmonics)
                )
                d = slope @ moved
                d_forces[part, (3 * atoms[:, None] + np.arange(3)).reshape(-1)] -= d[:, :-3]
                d_forces[part, 3 * i : 3 * i + 3] += d[:, -3:]
                if stress:
                    d_stress[part] += slope @ strained
        return Rows(energy.reshape(-1), d_forces.T if forces else None, d_stress.T / volume if stress else None)

    def _functions(self, graph: Graph, edges: "_EdgeTangents") -> tuple[np.ndarray, np.ndarray]:
        """B_η of every atom (N, f), and its slopes ∂B/∂A in the order of `_pattern` (N, n_entries)."""
        density = edges.density(graph, self.product.irreps_in)
        labels, nodes = self.product.labels(density), self.product.nodes(density)
        return self.product.functions(density).numpy(), torch.cat([part.flatten(1) for part in self._slopes(labels, nodes)], dim=1).numpy()

    def _slopes(self, labels: list[Tensor], nodes: dict[int, Tensor]) -> list[Tensor]:
        """∂B_η/∂A_v,m, (N, n, 2l+1) for each of `_sides`."""
        found = []
        for side in self._sides:
            g_npm = nodes[side.L].index_select(1, side.other) / math.sqrt(2 * side.L + 1)
            if side.pair is None:
                found.append(g_npm)
                continue
            pair = self.basis.pairs[side.pair]
            c = torch.from_numpy(pair.coefficients.copy())
            first, second = torch.from_numpy(pair.first[side.places]), torch.from_numpy(pair.second[side.places])
            found.append(torch.einsum("npm,abm,npb->npa", g_npm, c, labels[pair.l2].index_select(1, second)))
            found.append(torch.einsum("npm,abm,npa->npb", g_npm, c, labels[pair.l1].index_select(1, first)))
        return found

    @cached_property
    def _sides(self) -> list["_Side"]:
        """Left and right nodes of all products, those of one kind together."""
        sides, start = [], 0
        for product in self.basis.products:
            number = start + np.arange(len(product.left))
            for node, other in ((product.left, product.right), (product.right, product.left)):
                sides += self._sides_of(product.L, node, other, number)
            start += len(product.left)
        return sides

    def _sides_of(self, L: int, node: np.ndarray, other: np.ndarray, number: np.ndarray) -> list["_Side"]:
        n_labels = len(self.basis.channels[L]) if self.basis.l_max >= L else 0
        chosen = node < n_labels
        found = [_Side(L, None, node[chosen], torch.from_numpy(other[chosen]), number[chosen])]
        first = n_labels
        for p, pair in enumerate(self.basis.pairs):
            if pair.L == L:
                chosen = (node >= first) & (node < first + len(pair.first))
                found.append(_Side(L, p, node[chosen] - first, torch.from_numpy(other[chosen]), number[chosen]))
                first += len(pair.first)
        return [side for side in found if len(side.places)]

    @cached_property
    def _pattern(self) -> list["_Pattern"]:
        """Where the entries of `_slopes` stand in the sparse matrix ∂B/∂A of each element z of the neighbours: (f, n_radial · n_harmonics)."""
        rows, channels, components = [], [], []

        def entries(number: np.ndarray, l: int, places: np.ndarray) -> None:
            rows.append(np.repeat(number, 2 * l + 1))
            channels.append(np.repeat(self.basis.channels[l][places], 2 * l + 1))
            components.append(np.tile(l * l + np.arange(2 * l + 1), len(number)))

        for side in self._sides:
            if side.pair is None:
                entries(side.number, side.L, side.places)
            else:
                pair = self.basis.pairs[side.pair]
                entries(side.number, pair.l1, pair.first[side.places])
                entries(side.number, pair.l2, pair.second[side.places])
        row, channel, component = (np.concatenate(x) for x in (rows, channels, components))
        column = channel % self.n_radial * self.n_harmonics + component
        patterns = []
        for z in range(len(self.potential.spec.elements)):
            mine = np.flatnonzero(channel // self.n_radial == z)
            order = mine[np.argsort(row[mine], kind="stable")]
            starts = np.concatenate([[0], np.cumsum(np.bincount(row[mine], minlength=self.n_functions))])
            patterns.append(_Pattern(order, column[order].astype(np.int32), starts.astype(np.int32)))
        return patterns


@dataclass(frozen=True)
class _Side:
    """Products of degree L whose one node is a label (`pair` None) or one of a group of pairs; `other` is the other node, `number` the function."""

    L: int
    pair: int | None
    places: np.ndarray  # of the label among those of degree L, or of the pair in its group
    other: Tensor
    number: np.ndarray


@dataclass(frozen=True)
class _Pattern:
    """A sparse matrix without its values: `order` takes them from the slopes."""

    order: np.ndarray
    columns: np.ndarray
    starts: np.ndarray


class _EdgeTangents:
    """Radial functions and harmonics of the edges, and their derivatives along x, y and z by forward differentiation, float64."""

    def __init__(self, potential: Potential, graph: Graph, derivatives: bool):
        self.vectors = edge_vectors(graph)
        self.sender, self.starts = graph.sender.numpy(), graph.receiver_start.numpy()
        l_max = potential.spec.layers[0].l_max
        ends = graph.species[graph.sender], graph.species[graph.receiver]

        def values(vectors: Tensor) -> tuple[Tensor, Tensor]:
            return potential.basis(torch.linalg.vector_norm(vectors, dim=1), *ends), geometry.spherical_harmonics(vectors, l_max)

        self.radial_t, self.harmonics_t = values(self.vectors)
        if derivatives:
            directions = torch.eye(3, dtype=torch.float64)
            slopes = [torch.func.jvp(values, (self.vectors,), (d.expand_as(self.vectors),))[1] for d in directions]
            r, y = self.radial_t.numpy(), self.harmonics_t.numpy()
            dr, dy = (np.stack([s[k].numpy() for s in slopes], axis=2) for k in (0, 1))
            # d(R_n Y_m)/dt of every edge, (E, n · m, 3)
            self.slopes = (dr[:, :, None, :] * y[:, None, :, None] + r[:, :, None, None] * dy[:, None, :, :]).reshape(len(r), -1, 3)

    def density(self, graph: Graph, irreps) -> Tensor:
        """A of every atom, as the layer makes it: flat blocks (2l+1, K), channel (element of the neighbour, radial function)."""
        n, k = graph.n_atoms, self.radial_t.shape[1]
        n_elements = irreps.find(0, 1).mul // k
        place = graph.receiver * n_elements + graph.species[graph.sender]
        a = torch.zeros(n * n_elements, self.harmonics_t.shape[1], k, dtype=torch.float64)
        a.index_add_(0, place, self.harmonics_t[:, :, None] * self.radial_t[:, None, :])
        a = a.reshape(n, n_elements, -1, k).transpose(1, 2).reshape(n, -1, n_elements * k)
        return torch.cat([a[:, b.l**2 : (b.l + 1) ** 2].flatten(1) for b in irreps], dim=1)

    def tangents(self, i: int, z: int, species: np.ndarray, stress: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Neighbours of i of element z, each once (k,); dA/dr of them and of them all, (n · m, 3k + 3); dA/dε (n · m, 6) over their edges."""
        mine = np.arange(self.starts[i], self.starts[i + 1])
        mine = mine[species[self.sender[mine]] == z]
        slopes = self.slopes[mine]
        atoms, first = np.unique(self.sender[mine], return_index=True)  # edges of a centre are sorted by sender
        moved = np.zeros((len(atoms) + 1, *slopes.shape[1:]))
        if len(atoms):
            moved[:-1] = np.add.reduceat(slopes, first)
            moved[-1] = slopes.sum(0)
        strained = None
        if stress:
            r = self.vectors.numpy()[mine]
            strained = np.stack([0.5 * (slopes[:, :, b].T @ r[:, a] + slopes[:, :, a].T @ r[:, b]) for a, b in VOIGT], axis=1)
        return atoms, np.ascontiguousarray(moved.transpose(1, 0, 2)).reshape(slopes.shape[1], -1), strained
