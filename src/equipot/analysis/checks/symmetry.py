"""Laws of symmetry: turning, mirroring, moving, renumbering or wrapping a structure changes nothing that it should not."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from equipot.analysis.checks.context import Answer, Context
from equipot.analysis.checks.registry import Finding, check
from equipot.data.frame import Frame

TOLERANCE = 1e-8  # of the RMS force; float64 rounding is some 1e-13
RELATIVE = "of RMS force"
Moved = tuple[Frame, Callable[[np.ndarray], np.ndarray], np.ndarray]  # structure, where forces should have gone, how stress turns


@check("rotation", "law", "energy stays, forces and stress turn with the structure")
def rotation(context: Context) -> Finding:
    """E(Rr) = E(r), F(Rr) = R F(r), σ → R σ Rᵀ for random proper rotations R."""
    rng = context.random("rotation")
    return _compare(context, lambda frame: _turned(frame, _random_rotation(rng)))


@check("reflection", "law", "energy stays, forces and stress mirror with the structure")
def reflection(context: Context) -> Finding:
    """The same for improper rotations."""
    rng = context.random("reflection")
    return _compare(context, lambda frame: _turned(frame, -_random_rotation(rng)))


@check("translation", "law", "moving the whole structure changes nothing")
def translation(context: Context) -> Finding:
    """E and F are unchanged by a random common displacement of some 10 Å."""
    rng = context.random("translation")
    return _compare(context, lambda frame: (replace(frame, positions=frame.positions + rng.normal(0.0, 10.0, 3)), _same, np.eye(3)))


@check("permutation", "law", "renumbering the atoms renumbers the forces")
def permutation(context: Context) -> Finding:
    """E is unchanged, F follows its atoms."""
    rng = context.random("permutation")

    def permuted(frame: Frame) -> Moved:
        order = rng.permutation(frame.n_atoms)
        return replace(frame, numbers=frame.numbers[order], positions=frame.positions[order]), lambda forces: forces[order], np.eye(3)

    return _compare(context, permuted)


@check("wrapping", "law", "atoms may lie in any periodic image")
def wrapping(context: Context) -> Finding:
    """Each atom moved by its own random lattice vector."""
    rng = context.random("wrapping")

    def unwrapped(frame: Frame) -> Moved:
        lattice = rng.integers(-2, 3, (frame.n_atoms, 3)) @ frame.cell
        return replace(frame, positions=frame.positions + lattice), _same, np.eye(3)

    return _compare(context, unwrapped, periodic_only=True)


def _compare(context: Context, move: Callable[[Frame], Moved], periodic_only: bool = False) -> Finding:
    """Worst deviation over the structures, each measured against its own forces."""
    worst = _Worst()
    pairs = list(zip(context.structures, context.answers, strict=True))
    for frame, before in pairs:
        if periodic_only and not frame.pbc.all():
            continue
        moved, forces_of, turn = move(frame)
        (after,) = context.evaluate([moved], stress=before.stress is not None)
        worst.add(frame, *deviations(context, frame, before, after, forces_of, turn))
    return worst.finding()


def deviations(
    context: Context, frame: Frame, before: Answer, after: Answer, forces_of: Callable[[np.ndarray], np.ndarray], turn: np.ndarray
) -> tuple[float, str]:
    """The worst relative deviation of energy, forces and stress, and which it was, in words."""
    scale = context.scale(before)
    energy = abs(after.energy - before.energy)
    forces = largest(after.forces - forces_of(before.forces) @ turn.T)
    found = [(energy / context.energy_scale(before), f"energy by {energy:.1e} eV"), (forces / scale, f"forces by {forces:.1e} eV/Å")]
    if before.stress is not None:
        stress = largest(after.stress - turn @ before.stress @ turn.T) * frame.volume / frame.n_atoms  # eV per atom
        found.append((stress / scale, f"stress times volume by {stress:.1e} eV per atom"))
    return largest_of(found)


def largest_of(found: list[tuple[float, str]]) -> tuple[float, str]:
    """The worst; a value that is not a number is worse than any."""
    return max(found, key=lambda pair: np.inf if np.isnan(pair[0]) else pair[0])


def largest(array: np.ndarray) -> float:
    """The largest modulus; NaN if there is any."""
    return float(np.max(np.abs(array))) if array.size else 0.0


def name_of(frame: Frame) -> str:
    """Where a structure is from: file#number without the folder."""
    return frame.source.rpartition("/")[2] or "a structure"


class _Worst:
    """The worst deviation among several structures."""

    def __init__(self) -> None:
        self.found: list[tuple[float, str]] = []

    def add(self, frame: Frame, value: float, words: str) -> None:
        self.found.append((value, f"{words} in {name_of(frame)}"))

    def finding(self) -> Finding:
        value, words = largest_of(self.found)
        return Finding(value, TOLERANCE, RELATIVE, f"largest change: {words} ({len(self.found)} structure{'s' * (len(self.found) > 1)})")


def _turned(frame: Frame, turn: np.ndarray) -> Moved:
    return replace(frame, positions=frame.positions @ turn.T, cell=frame.cell @ turn.T), _same, turn


def _same(forces: np.ndarray) -> np.ndarray:
    return forces


def _random_rotation(rng: np.random.Generator) -> np.ndarray:
    """A proper rotation, uniform over SO(3)."""
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return q * np.linalg.det(q)
