"""Frames chosen for structure, and the pairs of atoms in one."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from equipot.analysis.observables.blocks import block_slices
from equipot.analysis.observables.trajectory import Trajectory
from equipot.analysis.observables.unwrap import completed
from equipot.data.neighbours import find_pairs

R_LEAST, R_MOST = 6.0, 10.0  # Å


class FramePairs(NamedTuple):
    """Ordered pairs of one frame within a reach, by centre."""

    centre: np.ndarray  # (E,) sorted
    neighbour: np.ndarray  # (E,)
    vector: np.ndarray  # (E, 3) Å, from centre to neighbour
    distance: np.ndarray  # (E,) Å


def frame_pairs(trajectory: Trajectory, frame: int, reach: float) -> FramePairs:
    """All pairs within `reach`, with periodic images; found by vesin, in float64 and in any cell."""
    centre, neighbour, vector = find_pairs(trajectory.positions[frame], trajectory.cells[frame], trajectory.pbc, reach)
    order = np.argsort(centre, kind="stable")
    vector = vector[order]
    distance = np.sqrt((vector**2).sum(axis=1))
    keep = distance < reach
    return FramePairs(centre[order][keep], neighbour[order][keep], vector[keep], distance[keep])


def sampled_blocks(trajectory: Trajectory, n_blocks: int, samples: int) -> Iterator[list[int]]:
    """Frame numbers by block: at most `samples` frames in all, evenly chosen."""
    n_frames = len(trajectory)
    chosen = np.unique(np.linspace(0, n_frames - 1, min(samples, n_frames)).round().astype(int))
    for part in block_slices(len(chosen), n_blocks):
        yield [int(i) for i in chosen[part]]


def smallest_width(trajectory: Trajectory) -> float:
    """Å, the least distance of opposite faces of the cell over all frames; infinite where nothing is periodic."""
    if not trajectory.pbc.any():
        return np.inf
    inverse = np.linalg.inv(completed(trajectory.cells, trajectory.pbc))
    widths = 1.0 / np.linalg.norm(inverse, axis=1)  # (T, 3): columns of the inverse are the normals of the faces
    return float(widths[:, trajectory.pbc].min())


def default_reach(trajectory: Trajectory) -> float:
    """Å: half the cell's smallest width, in small cells 6 (images are neighbours too), at most 10."""
    return float(np.clip(smallest_width(trajectory) / 2.0, R_LEAST, R_MOST))
