"""The same geometry twice: between training and test sets, or within the training set."""

from collections import defaultdict

import numpy as np
from scipy.spatial import cKDTree

from equipot.data.findings import Finding, Part
from equipot.data.frame import Frame

SAME = 1e-3  # Å, by which no atom of two copies may differ
N_PROJECTIONS = 4


def check(parts: list[Part]) -> list[Finding]:
    """Findings on frames that occur twice, however they are wrapped or shifted as a whole; order of atoms and orientation must agree."""
    entries = [(part, frame) for part in parts for frame in part.frames if np.isfinite(frame.positions).all()]
    groups: dict[tuple, list[int]] = defaultdict(list)
    for i, (_, frame) in enumerate(entries):
        groups[(frame.numbers.tobytes(), frame.pbc.tobytes())].append(i)
    pairs = [pair for members in groups.values() for pair in _pairs([entries[i][1] for i in members], members)]
    leaks: dict[tuple[str, str], list[tuple[Frame, Frame]]] = defaultdict(list)
    inside: dict[str, list[tuple[Frame, Frame]]] = defaultdict(list)
    for i, j in sorted(pairs):
        (part_i, frame_i), (part_j, frame_j) = entries[i], entries[j]
        if part_i.is_train and part_j.is_train:
            inside[part_j.file].append((frame_j, frame_i))
        elif part_i.is_train or part_j.is_train:
            trained, other = ((part_i, frame_i), (part_j, frame_j)) if part_i.is_train else ((part_j, frame_j), (part_i, frame_i))
            leaks[(other[0].role, other[0].file)].append((other[1], trained[1]))
    return [_leak(role, file, found) for (role, file), found in leaks.items()] + [_inside(file, found) for file, found in inside.items()]


def _leak(role: str, file: str, found: list[tuple[Frame, Frame]]) -> Finding:
    frames = list({id(frame): frame for frame, _ in found}.values())
    message = (
        f"{len(frames)} frames of the {role} set are also trained on (this one is {found[0][1].source}): its errors come out too small"
    )
    return Finding.of_frames("warning", "leak", message, file, frames)


def _inside(file: str, found: list[tuple[Frame, Frame]]) -> Finding:
    frames = list({id(frame): frame for frame, _ in found}.values())
    different = [
        f for f, first in found if f.energy is not None and first.energy is not None and abs(f.energy - first.energy) > 1e-3 * f.n_atoms
    ]
    said = f"; the energies of {len(different)} differ by more than 1 meV/atom, so one of them is wrong" if different else ""
    message = f"{len(frames)} frames are trained on twice (this one is also {found[0][1].source}){said}"
    return Finding.of_frames("warning", "duplicate", message, file, frames)


def _pairs(frames: list[Frame], members: list[int]) -> list[tuple[int, int]]:
    """Pairs of equal frames among structures of the same atoms, found by a fingerprint that is continuous and then compared."""
    if len(frames) < 2:
        return []
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(N_PROJECTIONS, 2 if frames[0].pbc.any() else 1, frames[0].n_atoms, 3))
    cell_weights = rng.normal(size=(N_PROJECTIONS, 3, 3))
    points = np.array([_fingerprint(f, weights, cell_weights) for f in frames])
    # A coordinate off by SAME moves each projection by SAME times a normal number; six standard deviations in every one of them.
    reach = 6.0 * SAME * np.sqrt(N_PROJECTIONS * (6.0 * frames[0].n_atoms + 9.0))
    candidates = cKDTree(points).query_pairs(reach)
    return [(members[i], members[j]) for i, j in candidates if _same(frames[i], frames[j])]


def _fingerprint(frame: Frame, weights: np.ndarray, cell_weights: np.ndarray) -> np.ndarray:
    """Random projections of positions (relative to the first atom) that do not change when atoms are wrapped."""
    if not frame.pbc.any():
        return np.einsum("pwnc,nc->p", weights, frame.positions - frame.positions[0])
    cell = _full_cell(frame)
    angle = 2.0 * np.pi * np.linalg.solve(cell.T, (frame.positions - frame.positions[0]).T).T
    size = np.linalg.norm(cell, axis=1) / (2.0 * np.pi)
    waves = np.stack([np.cos(angle), np.sin(angle)]) * size
    return np.einsum("pwnc,wnc->p", weights, waves) + np.einsum("pij,ij->p", cell_weights, frame.cell)


def _same(one: Frame, other: Frame) -> bool:
    if np.abs(one.cell - other.cell).max() > SAME and one.pbc.any():
        return False
    moved = (one.positions - one.positions[0]) - (other.positions - other.positions[0])
    if one.pbc.any():
        cell = _full_cell(one)
        fractional = np.linalg.solve(cell.T, moved.T).T
        moved = (fractional - np.where(one.pbc, np.round(fractional), 0.0)) @ cell
    return bool(np.abs(moved).max() < 2 * SAME)


def _full_cell(frame: Frame) -> np.ndarray:
    """The cell with unit vectors where there is none, so that fractional coordinates exist."""
    if abs(np.linalg.det(frame.cell)) > 1e-6:
        return frame.cell
    used = frame.cell[frame.pbc]
    cell = frame.cell.copy()
    cell[~frame.pbc] = np.linalg.svd(used)[2][len(used) :]
    return cell if abs(np.linalg.det(cell)) > 1e-6 else np.eye(3)
