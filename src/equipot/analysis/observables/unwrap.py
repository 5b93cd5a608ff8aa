"""Paths of atoms through periodic boundaries, without the drift of the whole."""

from typing import NamedTuple

import numpy as np

from equipot.analysis.observables.trajectory import Trajectory

_FAR = 0.35  # of the cell in one step: near half of it, which image an atom went to is a guess


class Paths(NamedTuple):
    """Unwrapped positions."""

    positions: np.ndarray  # (T, n, 3) Å, relative to the centre of mass of all atoms
    drift: float  # Å, how far the centre of mass had moved
    too_far: bool  # frames so far apart that the paths are a guess


def unwrapped(trajectory: Trajectory) -> Paths:
    """Continuous paths: r(t+1) = r(t) + the shortest image of the step between wrapped positions, in the cell at t+1.

    The same for wrapped and unwrapped frames, and right at varying cells, where images of positions far from the origin would breathe with the
    cell: J. T. Bullerjahn et al., J. Chem. Theory Comput. 19, 3406 (2023). The mass-weighted mean displacement of all atoms is taken off.
    """
    positions, furthest = trajectory.positions, 0.0
    if trajectory.pbc.any() and len(trajectory) > 1:
        cells = completed(trajectory.cells, trajectory.pbc)
        inverse = np.linalg.inv(cells)
        images = np.floor(positions @ inverse) * trajectory.pbc
        wrapped = positions - images @ cells
        steps = np.diff(wrapped, axis=0)
        crossed = np.round(steps @ inverse[1:]) * trajectory.pbc
        steps -= crossed @ cells[1:]
        furthest = float(np.abs((steps @ inverse[1:]) * trajectory.pbc).max())
        positions = np.concatenate([wrapped[:1], wrapped[:1] + np.cumsum(steps, axis=0)])
    weights = trajectory.masses / trajectory.masses.sum()
    centre = np.einsum("a,tai->ti", weights, positions)
    drift = float(np.linalg.norm(centre - centre[0], axis=1).max())
    return Paths(positions - centre[:, None], drift, furthest > _FAR)


def completed(cells: np.ndarray, pbc: np.ndarray) -> np.ndarray:
    """Cells (T, 3, 3) whose vectors along directions that are not periodic are replaced by unit normals of the others."""
    if pbc.all():
        return cells
    full = cells.copy()
    for cell in full:
        used = cell[pbc]
        cell[~pbc] = np.linalg.svd(used)[2][len(used) :]
    return full
