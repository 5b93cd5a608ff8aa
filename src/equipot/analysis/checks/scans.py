"""Behaviour along simple paths: a stretched bond and a swelling crystal have one minimum, where the data have theirs."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from ase.data import chemical_symbols

from equipot.analysis.checks.context import Context
from equipot.analysis.checks.probes import bond
from equipot.analysis.checks.registry import Finding, NotApplicable, check
from equipot.analysis.checks.symmetry import name_of
from equipot.data.frame import Frame
from equipot.data.neighbours import neighbour_graph

BONDED = 1.25  # sums of covalent radii
N_BONDS, N_POINTS = 4, 41
SHORTEST, BEYOND = 0.75, 0.3  # of the bond; Å past the cutoff
SWELLING = np.linspace(0.88, 1.16, 29)  # of the cell's edges
BARRIER, BARRIER_PER_ATOM = 0.1, 0.01  # eV
NEAR, NEAR_EDGE = 0.12, 0.05  # relative, of bonds and of the cell's edges: how far the minimum may be from where the data are
NEEDS_DATA = "needs real structures: give --data"


@check("bond stretch", "behaviour", "a stretched bond has one minimum")
def bond_stretch(context: Context) -> Finding:
    """Bonds whose cutting parts a molecule in two, one of every pair of elements, from 0.75 of their length to past the cutoff; the two parts stay rigid.

    The value is the height, in eV, of the highest barrier in front of a second minimum, or how far the energy falls below the first one.
    """
    if not context.natural:
        raise NotApplicable(NEEDS_DATA)
    chosen = _bonds([f for f in context.natural if not f.pbc.any()])
    if not chosen:
        raise NotApplicable("no structure of the data is a molecule with a bond that parts it in two")
    found, curves = [], {}
    for frame, first, second, moving in chosen:
        length = float(np.linalg.norm(frame.positions[second] - frame.positions[first]))
        r = np.linspace(SHORTEST * length, context.spec.cutoff + BEYOND, N_POINTS)
        answers = context.evaluate([_stretched(frame, first, second, moving, x) for x in r])
        energy = np.array([a.energy for a in answers])
        name = f"{_symbol(frame, first)}{first}-{_symbol(frame, second)}{second} in {name_of(frame)}"
        depth, where = spurious(r, energy, length)
        curves[name] = {"r": r.tolist(), "energy": (energy - energy.min()).tolist(), "length": length}
        found.append((depth, f"{name} at {where:.2f} Å (bond {length:.2f} Å)"))
    return _finding(found, BARRIER, "eV", f"{len(found)} bonds have one minimum each", curves)


@check("volume", "behaviour", "a crystal that is compressed or swells has one minimum")
def volume(context: Context) -> Finding:
    """Cells scaled evenly from 0.68 to 1.56 of their volume, atoms with them: the same value, per atom."""
    if not context.natural:
        raise NotApplicable(NEEDS_DATA)
    frames = [f for f in context.natural if f.pbc.all() and f.volume > 1e-6]
    if not frames:
        raise NotApplicable("no structure of the data is a crystal")
    found, curves = [], {}
    for frame in frames:
        scaled = [replace(frame, positions=frame.positions * s, cell=frame.cell * s) for s in SWELLING]
        energy = np.array([a.energy for a in context.evaluate(scaled)]) / frame.n_atoms
        depth, where = spurious(SWELLING, energy, 1.0, NEAR_EDGE)
        curves[name_of(frame)] = {"r": (frame.volume * SWELLING**3).tolist(), "energy": (energy - energy.min()).tolist()}
        found.append((depth, f"{name_of(frame)} at {where**3:.2f} of its volume"))
    return _finding(found, BARRIER_PER_ATOM, "eV per atom", f"{len(found)} cells have one minimum each", curves)


def spurious(x: np.ndarray, energy: np.ndarray, rest: float, reach: float = NEAR) -> tuple[float, float]:
    """How deep the deepest minimum is that should not be there, behind its barrier as seen from the one near `rest` (within `reach`), and where.

    The end at small x counts where the energy still falls towards it, that at large x only where it lies below the minimum near `rest`. NaN for
    energies that are not finite.
    """
    if not np.isfinite(energy).all():
        return np.nan, float(x[np.argmax(~np.isfinite(energy))])
    low = np.r_[True, energy[1:] < energy[:-1]] & np.r_[energy[:-1] <= energy[1:], False]
    near = np.abs(x / rest - 1.0) <= reach
    main = int(np.argmin(np.where(near & low if (near & low).any() else near, energy, np.inf)))
    found = [(max(0.0, float(energy[main] - energy[-1])), float(x[-1]))]
    for other in np.flatnonzero(low):
        between = energy[min(main, other) : max(main, other) + 1]
        found.append((float(between.max() - energy[other]) if other != main else 0.0, float(x[other])))
    return max(found)


def _finding(found: list[tuple[float, str]], limit: float, unit: str, good: str, curves: dict) -> Finding:
    depth, words = max(found, key=lambda pair: np.inf if np.isnan(pair[0]) else pair[0])
    message = good if depth <= limit else f"another minimum or an abyss, {depth:.2g} {unit} deep: {words}"
    return Finding(depth, limit, unit, message, {"scans": curves})


def _bonds(frames: Sequence[Frame]) -> list[tuple[Frame, int, int, np.ndarray]]:
    """Frame, the two atoms, and the atoms (indices) on the second one's side: bonds in no ring, the first of each pair of elements."""
    found: dict[tuple[int, int], tuple[Frame, int, int, np.ndarray]] = {}
    for frame in frames:
        neighbours = _neighbours(frame)
        for first in range(frame.n_atoms):
            for second in sorted(neighbours[first]):
                kind = tuple(sorted((int(frame.numbers[first]), int(frame.numbers[second]))))
                if kind in found or len(found) == N_BONDS:
                    continue
                side = _side(neighbours, first, second)
                if side is not None and len(side) <= frame.n_atoms / 2:
                    found[kind] = (frame, first, second, side)
    return list(found.values())


def _neighbours(frame: Frame) -> list[set[int]]:
    reach = max(BONDED * bond(a, b) for a in np.unique(frame.numbers) for b in np.unique(frame.numbers))
    graph = neighbour_graph(frame.positions, frame.numbers, frame.cell, frame.pbc, reach)
    found: list[set[int]] = [set() for _ in range(frame.n_atoms)]
    for i, j in zip(graph.receiver.tolist(), graph.sender.tolist(), strict=True):
        if np.linalg.norm(frame.positions[i] - frame.positions[j]) <= BONDED * bond(frame.numbers[i], frame.numbers[j]):
            found[i].add(j)
    return found


def _side(neighbours: list[set[int]], first: int, second: int) -> np.ndarray | None:
    """The atoms that hang on `second` when its bond to `first` is cut; None where they still hang together."""
    seen, border = {second}, [second]
    while border:
        atom = border.pop()
        for other in neighbours[atom] - seen:
            if (atom, other) != (second, first):
                seen.add(other)
                border.append(other)
    return None if first in seen else np.array(sorted(seen))


def _stretched(frame: Frame, first: int, second: int, moving: np.ndarray, r: float) -> Frame:
    positions = frame.positions.copy()
    vector = positions[second] - positions[first]
    length = np.linalg.norm(vector)
    positions[moving] += vector / length * (r - length)
    return replace(frame, positions=positions)


def _symbol(frame: Frame, atom: int) -> str:
    return chemical_symbols[frame.numbers[atom]]
