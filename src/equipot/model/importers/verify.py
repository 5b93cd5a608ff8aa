"""An imported model against the results that its bundle carries."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

from equipot.data.graph import Graph
from equipot.errors import UserError
from equipot.model.derivatives import predict
from equipot.model.importers.bundle import Bundle, ReferenceFrame
from equipot.model.potential import Potential

TOLERANCES = {"energy": 1e-8, "forces": 1e-8, "stress": 1e-10}
"""eV, eV/Å, eV/Å³."""


class Deviation(NamedTuple):
    """Largest absolute differences of one frame; None where the bundle says nothing."""

    energy: float  # eV
    forces: float  # eV/Å
    stress: float | None  # eV/Å³
    n_edges: int | None  # ours less theirs


def deviations(potential: Potential, frames: list[ReferenceFrame], neighbours: Callable[..., Graph]) -> list[Deviation]:
    """Ours against theirs, frame by frame. `neighbours`: `equipot.data.neighbours.neighbour_graph` or one of its signature."""
    return [_deviation(potential, frame, neighbours) for frame in frames]


def _deviation(potential: Potential, frame: ReferenceFrame, neighbours: Callable[..., Graph]) -> Deviation:
    species = np.searchsorted(potential.spec.elements, frame.numbers)
    pair_cutoff = potential.spec.pair_cutoff
    shorter = None if pair_cutoff is None else torch.tensor(pair_cutoff, dtype=torch.float64)
    graph = neighbours(frame.positions, species, frame.cell, frame.pbc, potential.spec.cutoff, shorter)
    ours = predict(potential, graph, forces=True, stress=frame.stress is not None)
    return Deviation(
        energy=abs(float(ours.energy) - frame.energy),
        forces=float(np.abs(ours.forces.numpy() - frame.forces).max(initial=0.0)),
        stress=None if frame.stress is None else float(np.abs(ours.stress[0].numpy() - frame.stress).max()),
        n_edges=None if frame.n_edges is None else graph.n_edges - frame.n_edges,
    )


def require_agreement(bundle: Bundle, found: list[Deviation]) -> None:
    """Raises UserError if a frame disagrees: something of the original program is not understood, so the model is not what it claims to be."""
    for index, deviation in enumerate(found):
        for name, tolerance in TOLERANCES.items():
            value: float | None = getattr(deviation, name)
            if value is not None and not value <= tolerance:
                raise UserError(
                    f"{bundle.path}: frame {index}: the {name} differs from the original program's by {value:.1e}: not imported"
                )


def largest(found: list[Deviation]) -> dict[str, float]:
    """The largest deviation of each kind."""
    values = {name: [getattr(d, name) for d in found if getattr(d, name) is not None] for name in TOLERANCES}
    return {name: max(v) for name, v in values.items() if v}
