"""Coordination numbers: how many atoms stand within bonding distance."""

import numpy as np

from equipot.analysis.observables.blocks import Blocked
from equipot.analysis.observables.pairs import frame_pairs, sampled_blocks
from equipot.analysis.observables.result import CannotObserveError, Curve, Observable, Value
from equipot.analysis.observables.settings import Settings
from equipot.analysis.observables.trajectory import Trajectory

NO_BONDS = "no radial distribution function has a first minimum that would say which atoms are neighbours: give bonds, --bond A-B=LENGTH"
MOST = 24  # neighbours shown in a distribution


def coordination(trajectory: Trajectory, settings: Settings, bonds: dict[tuple[str, str], float]) -> Observable:
    """n_ab = ⟨number of atoms b within the bond length of an atom a⟩, and how often an atom has each number.

    Curves are P(n) over n = 0, 1, …; raises CannotObserveError where no pair has a bond length.
    """
    ordered = [(a, b) for a in trajectory.elements for b in trajectory.elements if tuple(sorted((a, b))) in bonds]
    if not ordered:
        raise CannotObserveError(NO_BONDS)
    symbols, reach = trajectory.symbols, max(bonds.values())
    shares: dict[tuple[str, str], list[np.ndarray]] = {pair: [] for pair in ordered}
    means: dict[tuple[str, str], list[float]] = {pair: [] for pair in ordered}
    weights = []
    for frames in sampled_blocks(trajectory, settings.blocks, settings.samples):
        numbers: dict[tuple[str, str], list[np.ndarray]] = {pair: [] for pair in ordered}
        for frame in frames:
            pairs = frame_pairs(trajectory, frame, reach)
            for a, b in ordered:
                inside = (symbols[pairs.neighbour] == b) & (pairs.distance < bonds[tuple(sorted((a, b)))])
                numbers[a, b].append(np.bincount(pairs.centre[inside], minlength=len(symbols))[symbols == a])
        for pair in ordered:
            together = np.concatenate(numbers[pair])
            means[pair].append(float(together.mean()))
            shares[pair].append(np.bincount(np.minimum(together, MOST), minlength=MOST + 1) / len(together))
        weights.append(len(frames))
    weight = np.array(weights, dtype=float)
    highest = min(MOST, 1 + max(int(np.flatnonzero(np.array(s).sum(axis=0))[-1]) for s in shares.values()))
    curves = [
        Curve(f"{a}-{b}", np.arange(highest + 1.0), Blocked.of(np.array(s)[:, : highest + 1], weight)) for (a, b), s in shares.items()
    ]
    values = [
        Value.of(f"n({a}-{b})", Blocked.of(np.array(m), weight), f"within {bonds[tuple(sorted((a, b)))]:.2f} Å")
        for (a, b), m in means.items()
    ]
    without = sorted(
        {"-".join(sorted((a, b))) for a in trajectory.elements for b in trajectory.elements} - {"-".join(pair) for pair in bonds}
    )
    notes = [f"no bonding distance of {', '.join(without)}: g(r) has no clear first minimum; give one with --bond"] if without else []
    return Observable("coordination", "Coordination numbers", "neighbours", "share of atoms", curves, values, notes)
