"""The one place where derivatives of the energy are taken."""

from typing import NamedTuple

import torch
from torch import Tensor

from equipot.data.graph import Graph
from equipot.errors import UserError
from equipot.model.potential import Potential
from equipot.ops.reference import segment_sum


class Prediction(NamedTuple):
    """Energy, forces and stress of a batch, float64."""

    energy: Tensor  # (B,) eV
    site_energy: Tensor  # (N,) eV
    layer_energy: Tensor  # (T, N) eV, contribution of each layer's readout to its atom
    forces: Tensor | None  # (N, 3) eV/Å
    stress: Tensor | None  # (B, 3, 3) eV/Å³


def edge_vectors(graph: Graph) -> Tensor:
    """r_e = positions[sender] − positions[receiver] + shift @ cell, (E, 3) float64, Å."""
    cells = graph.cell[graph.structure[graph.receiver]]
    return graph.positions[graph.sender] - graph.positions[graph.receiver] + torch.einsum("ei,eij->ej", graph.shift, cells)


def predict(potential: Potential, graph: Graph, forces: bool = True, stress: bool = False, create_graph: bool = False) -> Prediction:
    """Energy, and with it forces and stress, from one backward pass to the edge vectors.

    f_e = ∂E/∂r_e; F_i = Σ_{e: receiver = i} f_e − Σ_{e: sender = i} f_e; σ = (1/V) Σ_e r_e ⊗ f_e, symmetrised. `create_graph` keeps the graph
    for training. Raises UserError if a stress is asked of a structure without a full periodic cell.
    """
    if stress:
        volumes = require_volume(graph)
    derivative = forces or stress
    vectors = edge_vectors(graph)
    if derivative:
        vectors = vectors.detach().requires_grad_(True)
    with torch.set_grad_enabled(derivative or torch.is_grad_enabled()):
        sites = potential(graph, vectors)
        energy = segment_sum(sites.total, graph.structure, graph.n_structures)
        whole = energy.sum()
    if not derivative:
        return Prediction(energy, sites.total, sites.layers, None, None)
    if graph.n_edges == 0 or not sites.total.requires_grad:
        pull = torch.zeros_like(vectors)
    else:
        (pull,) = torch.autograd.grad(whole, vectors, create_graph=create_graph)
    result_forces = segment_sum(pull, graph.receiver, graph.n_atoms) - segment_sum(pull, graph.sender, graph.n_atoms) if forces else None
    result_stress = None
    if stress:
        virials = segment_sum(vectors.detach()[:, :, None] * pull[:, None, :], graph.structure[graph.receiver], graph.n_structures)
        result_stress = 0.5 * (virials + virials.transpose(1, 2)) / volumes[:, None, None]
    if not create_graph:
        energy, sites = energy.detach(), type(sites)(*(t.detach() for t in sites))
    return Prediction(energy, sites.total, sites.layers, result_forces, result_stress)


def require_volume(graph: Graph) -> Tensor:
    """|det cell| of every structure, (B,) Å³; raises UserError where there is no volume."""
    volumes = torch.linalg.det(graph.cell).abs()
    bad = torch.nonzero(~(graph.pbc.all(1) & (volumes > 1e-9))).squeeze(1)
    if len(bad):
        raise UserError(
            f"stress needs a cell that is periodic in all three directions; structure {int(bad[0])} of the batch is a molecule, a slab or has no cell: "
            "leave stress out, or give it a full periodic cell"
        )
    return volumes
