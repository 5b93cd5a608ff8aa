"""Behaviour of pairs: does every pair of atoms repel at short range, and where does the model guess?"""

from collections.abc import Sequence
from itertools import combinations_with_replacement

import numpy as np
from ase.data import chemical_symbols

from equipot.analysis.checks.context import Context
from equipot.analysis.checks.probes import bond, dimer
from equipot.analysis.checks.registry import Finding, check
from equipot.data.frame import Frame
from equipot.data.neighbours import neighbour_graph
from equipot.model.derivatives import edge_vectors

N_POINTS = 80
SHORTEST, WALL = 0.3, 0.7  # in sums of covalent radii; no bond of the periodic table is shorter than the wall
HOLE = 0.05  # eV
REACH = 4.0  # Å
ATOMS_FOR_DISTANCES = 20_000  # of the user's frames, looked through for the closest pair


@check("dimers", "behaviour", "every pair of elements repels at short range, without holes")
def dimers(context: Context) -> Finding:
    """The curve E(r) − E(atoms) of each pair inside 0.7 of the sum of its covalent radii: how far it falls on the way in, or ends below zero."""
    closest = closest_distances(context.frames) or stated_distances(context.provenance)
    curves, words, worst = {}, [], 0.0
    for first, second in combinations_with_replacement(context.spec.elements, 2):
        name = _pair_name(first, second)
        r, energy = curve(context, first, second)
        depth, top = fall_inwards(r, energy, WALL * bond(first, second))
        missing = -float(energy[0])
        seen = closest.get(name)
        curves[name] = {"r": r.tolist(), "energy": energy.tolist(), "hole": depth, "closest_in_data": seen}
        known = f"; no data below {seen:.2f} Å" if seen else "; no such pair in the data" if closest else ""
        if not depth <= HOLE:
            words.append(f"{name} attracts below {top:.2f} Å (by {depth:.2g} eV{known})")
        elif not missing <= HOLE:
            words.append(f"{name} has no wall ({energy[0]:+.2g} eV at {r[0]:.2f} Å{known})")
        worst = max(worst, depth, missing) if np.isfinite(depth) else np.nan
    message = "; ".join(words) if words else f"all {len(curves)} pairs repel from {WALL} of their covalent radii inwards"
    if not words and closest:
        seen = [f"{name} {closest[name]:.2f} Å" if name in closest else f"{name} not at all" for name in curves]
        message += f"; no data below: {', '.join(seen)}"
    if not closest:
        message += "; below which distance no data lay is not known: give --data"
    return Finding(worst, HOLE, "eV", message, {"curves": curves})


def curve(context: Context, first: int, second: int) -> tuple[np.ndarray, np.ndarray]:
    """r (n,) Å from 0.3 covalent radii to the cutoff and E(r) less that of the two atoms out of reach, eV."""
    r = np.linspace(SHORTEST * bond(first, second), context.spec.cutoff, N_POINTS)
    answers = context.evaluate([dimer(first, second, x) for x in [*r, context.spec.cutoff + 1.0]])
    energies = np.array([a.energy for a in answers])
    return r, energies[:-1] - energies[-1]


def fall_inwards(r: np.ndarray, energy: np.ndarray, wall: float) -> tuple[float, float]:
    """The largest fall of the energy on the way in from `wall` (at the shortest r it still counts), and the distance it falls from."""
    inside = r <= wall
    inwards, distance = energy[inside][::-1], r[inside][::-1]
    if not np.isfinite(inwards).all():
        return np.nan, float(distance[np.argmax(~np.isfinite(inwards))])
    highest = np.maximum.accumulate(inwards)
    worst = int(np.argmax(highest - inwards))
    return float(highest[worst] - inwards[worst]), float(distance[int(np.argmax(inwards[: worst + 1]))])


def closest_distances(frames: Sequence[Frame]) -> dict[str, float]:
    """Å of the closest pair of each two elements in the frames, of pairs within 4 Å; of the first atoms where there are very many."""
    closest: dict[str, float] = {}
    atoms = 0
    for frame in frames:
        atoms += frame.n_atoms
        if atoms > ATOMS_FOR_DISTANCES:
            break
        graph = neighbour_graph(frame.positions, frame.numbers, frame.cell, frame.pbc, REACH)
        first, second = graph.species[graph.receiver].numpy(), graph.species[graph.sender].numpy()
        distances = edge_vectors(graph).norm(dim=1).numpy()
        for a, b in combinations_with_replacement(np.unique(frame.numbers), 2):
            between = distances[(first == a) & (second == b)]
            if between.size:
                name = _pair_name(a, b)
                closest[name] = min(closest.get(name, np.inf), float(between.min()))
    return closest


def stated_distances(provenance: dict) -> dict[str, float]:
    """The closest pairs of the training data as the model file has them, if it does."""
    statistics = provenance.get("statistics")
    found = statistics.get("min_distance") if isinstance(statistics, dict) else None
    return {str(name): float(distance) for name, distance in (found or {}).items()}


def _pair_name(first: int, second: int) -> str:
    return f"{chemical_symbols[first]}-{chemical_symbols[second]}"
