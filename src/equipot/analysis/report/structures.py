"""Structures for the 3D view: the worst frames of an evaluation, and a simulation's path."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms

from equipot.analysis.report.blocks import Scene
from equipot.data.frame import Frame

MOST_ATOMS = 3000  # of one structure: browsers on phones draw so many
MOST_COORDINATES = 40_000  # atoms times frames of one film


def frame_scene(label: str, frame: Frame, prediction: dict[str, Any]) -> Scene | None:
    """A frame with the errors of its forces (n, 3) and both forces as arrows; None where it is too large to draw."""
    if frame.n_atoms > MOST_ATOMS:
        return None
    error = 1000.0 * np.linalg.norm(prediction["forces"] - frame.forces, axis=1)
    turn = np.eye(3) if frame.pbc.any() else broad_side(frame.positions)
    return Scene(
        label=label,
        symbols=frame.symbols,
        positions=_rows(frame.positions @ turn),
        cell=_cell(frame.cell, frame.pbc),
        error=[round(float(e), 1) for e in error],
        arrows={"reference": _rows(frame.forces @ turn), "predicted": _rows(prediction["forces"] @ turn)},
    )


def broad_side(positions: np.ndarray) -> np.ndarray:
    """The rotation (3, 3), applied from the right, that lays a molecule along x and shows its broad side: its principal axes, right-handed."""
    _, axes = np.linalg.eigh(np.cov(np.nan_to_num(positions), rowvar=False) if len(positions) > 1 else np.eye(3))
    axes = axes[:, ::-1]
    return axes * [1.0, 1.0, np.sign(np.linalg.det(axes))]


def film(frames: Sequence[Atoms], labels: Sequence[str]) -> list[Scene]:
    """Structures of a simulation, an even choice where there are many atoms; empty where one alone is too large."""
    if not frames or max(len(a) for a in frames) > MOST_ATOMS:
        return []
    step = -(-sum(len(a) for a in frames) // MOST_COORDINATES)
    return [_atoms_scene(label, atoms) for label, atoms in list(zip(labels, frames, strict=True))[:: max(1, step)]]


def _atoms_scene(label: str, atoms: Atoms) -> Scene:
    return Scene(label, atoms.get_chemical_symbols(), _rows(atoms.get_positions(wrap=bool(atoms.pbc.all()))), _cell(atoms.cell, atoms.pbc))


def _rows(vectors: np.ndarray) -> list[list[float]]:
    """Three decimals: the page is no archive. What is not finite is drawn at the origin; its frame says what it is."""
    return np.round(np.nan_to_num(np.asarray(vectors, dtype=float), posinf=0.0, neginf=0.0), 3).tolist()


def _cell(cell: np.ndarray, pbc: np.ndarray) -> list[list[float]] | None:
    cell = np.asarray(cell, dtype=float)
    return _rows(cell) if np.asarray(pbc).any() and abs(np.linalg.det(cell)) > 1e-6 else None
