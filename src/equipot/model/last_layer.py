"""How sure one model is of an energy: the last layer as a Gaussian process, calibrated on data that were not trained on."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from equipot.data.graph import Graph
from equipot.errors import UserError
from equipot.model.derivatives import edge_vectors
from equipot.model.potential import Potential
from equipot.ops.reference import segment_sum

STEP = 1e-4  # Å, of the derivative along a displacement
REGULARISERS = tuple(10.0 ** (0.5 * n) for n in range(-20, 5))  # relative to the mean eigenvalue
LEAST = 1e-12  # of the largest eigenvalue: below it there is only rounding


@dataclass(frozen=True)
class LastLayer:
    """σ(E) = |f L| with f = Σ_i ∂E_i/∂w, the derivative of a structure's energy with respect to the last weights w; eV.

    factor: L (F, F) float64, so that L Lᵀ = α² (C + ς²)⁻¹; facts: plain data on how it was made (`calibrate`).
    """

    factor: Tensor
    facts: dict[str, Any] = field(default_factory=dict)

    def energy_std(self, potential: Potential, graph: Graph) -> Tensor:
        """(B,) float64, eV."""
        return torch.linalg.vector_norm(structure_features(potential, graph) @ self.factor.to(potential.e0.device), dim=1)


def structure_features(potential: Potential, graph: Graph, displacements: Tensor | None = None) -> Tensor:
    """(B, F) ∂E/∂w of every structure, float64; no gradients. `displacements` (N, 3) Å are added to the positions, the edges staying the same."""
    if displacements is not None:
        graph = graph._replace(positions=graph.positions + displacements)
    with torch.no_grad():
        return segment_sum(potential.last_features(graph, edge_vectors(graph)), graph.structure, graph.n_structures)


def information(potential: Potential, graphs: Iterable[Graph], energy: float, forces: float, n_probes: int = 2, seed: int = 0) -> Tensor:
    """C (F, F): what training structures say of the last weights, per unit variance of a loss w_E (ΔE/N)² + w_F |ΔF|²/3N.

    C = Σ_structures w_E f fᵀ/N² + (w_F/3N) Σ_iα g_iα g_iαᵀ, g_iα = ∂F_iα/∂w = −∂f/∂r_iα. The sum over atoms and components is estimated from random signs
    v, E[(g·v)(g·v)ᵀ] = Σ g gᵀ, as a mean over `n_probes`; g·v is a difference of f along v. `potential` should be float64. `energy` and
    `forces` are w_E and w_F. Source of the form: Bigi, Chong, Ceriotti, Grasselli, Mach. Learn.: Sci. Technol. 5, 045018 (2024).
    """
    generator = torch.Generator().manual_seed(seed)
    total = None
    for graph in graphs:
        sizes = torch.bincount(graph.structure, minlength=graph.n_structures).double()[:, None]
        rows = [energy**0.5 * structure_features(potential, graph) / sizes]
        for _ in range(n_probes if forces else 0):
            v = STEP * (2.0 * torch.randint(0, 2, graph.positions.shape, generator=generator).double() - 1.0)
            slope = (structure_features(potential, graph, v) - structure_features(potential, graph, -v)) / (2.0 * STEP)
            rows.append(slope * (forces / n_probes / 3.0 / sizes) ** 0.5)
        columns = torch.cat(rows)
        total = columns.T @ columns + (0.0 if total is None else total)
    if total is None:
        raise UserError("there are no structures to learn the last layer's covariance from")
    return total


def calibrate(covariance: Tensor, features: Tensor, errors: Tensor, regulariser: float | None = None) -> LastLayer:
    """Scale α and regulariser ς² by maximal likelihood of `errors` (V,) eV of structures with features (V, F) under N(0, σ²).

    σ² = α² fᵀ (C + ς²)⁻¹ f; for every ς² of a grid α² = ⟨ΔE²/σ₀²⟩ is exact, and the least negative log-likelihood decides. `regulariser`: ς² over the
    mean eigenvalue of C, instead of the grid. Raises UserError where the errors cannot say.
    """
    if features.shape[1] == 0:
        raise UserError("this model has no last layer with weights: it has no readout")
    if len(errors) < 5 or not bool(errors.abs().max() > 0):
        raise UserError(f"{len(errors)} structures with an energy are too few to calibrate on (or all errors are zero): give at least 5")
    values, vectors = torch.linalg.eigh(covariance)
    mean = float(values.clamp(min=0.0).mean())
    if not mean > 0.0:
        raise UserError("the last layer's features do not change over the training structures: nothing to learn an uncertainty from")
    squares = (features @ vectors) ** 2
    candidates = []
    for relative in REGULARISERS if regulariser is None else (regulariser,):
        inverse = 1.0 / (values.clamp(min=LEAST * float(values.max())) + relative * mean)
        variance = squares @ inverse
        ratio = errors**2 / variance
        if not torch.isfinite(ratio).all():
            continue
        scale = float(ratio.mean())
        likelihood = 0.5 * float((scale * variance).log().mean()) + 0.5
        candidates.append((likelihood, relative, scale, inverse))
    if not candidates:
        raise UserError("no regulariser gives finite uncertainties on the validation structures")
    likelihood, relative, scale, inverse = min(candidates, key=lambda c: c[0])
    facts = {"kind": "last layer", "n_features": features.shape[1], "regulariser": relative, "scale": scale**0.5, "nll": likelihood}
    return LastLayer(vectors * (scale * inverse).sqrt(), facts | {"n_validation": len(errors)})
