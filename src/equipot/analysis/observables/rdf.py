"""Partial radial distribution functions; of molecules and slabs, how many neighbours stand at a distance."""

from itertools import combinations_with_replacement

import numpy as np

from equipot.analysis.observables.blocks import Blocked
from equipot.analysis.observables.pairs import default_reach, frame_pairs, sampled_blocks, smallest_width
from equipot.analysis.observables.result import Curve, Observable
from equipot.analysis.observables.settings import Settings
from equipot.analysis.observables.trajectory import Trajectory

NOT_BULK = (
    "not periodic in three directions: there is no density to divide by, so these are neighbours per atom and Å, not g(r); "
    "their integral is the coordination number"
)


def rdf(trajectory: Trajectory, settings: Settings) -> Observable:
    """g_ab(r) = ⟨n_ab(r, r + dr)⟩ / (N_a ρ_b (4π/3) ((r + dr)³ − r³)), in the volume of each frame; dn_ab/dr where there is no volume.

    ρ_b = (N_b − δ_ab)/V counts the atoms other than the centre, so that an ideal gas gives 1 for any number of atoms; where r_max is so large
    that an atom meets its own images these are counted, and ρ_b = N_b/V.
    """
    reach = settings.r_max or default_reach(trajectory)
    n_bins = max(4, round(reach / settings.r_bin))
    edges = np.linspace(0.0, reach, n_bins + 1)
    symbols, elements = trajectory.symbols, trajectory.elements
    kind = np.array([elements.index(s) for s in symbols])
    n_kinds = len(elements)
    amounts = np.bincount(kind, minlength=n_kinds).astype(float)
    own_images = reach > smallest_width(trajectory)
    others = np.tile(amounts, (n_kinds, 1)) - (0.0 if own_images else np.eye(n_kinds))
    volumes = trajectory.volumes if trajectory.is_bulk else np.ones(len(trajectory))
    shells = 4.0 * np.pi / 3.0 * np.diff(edges**3) if trajectory.is_bulk else np.diff(edges)
    histograms, weights = [], []
    for frames in sampled_blocks(trajectory, settings.blocks, settings.samples):
        total = np.zeros((n_kinds, n_kinds, n_bins))
        for frame in frames:
            pairs = frame_pairs(trajectory, frame, reach)
            column = np.minimum((pairs.distance / reach * n_bins).astype(int), n_bins - 1)
            slot = (kind[pairs.centre] * n_kinds + kind[pairs.neighbour]) * n_bins + column
            counts = np.bincount(slot, minlength=n_kinds * n_kinds * n_bins).reshape(n_kinds, n_kinds, n_bins)
            total += counts * volumes[frame]
        histograms.append(total / (len(frames) * shells))
        weights.append(len(frames))
    blocked = np.array(histograms)
    middles = (edges[1:] + edges[:-1]) / 2
    curves = []
    for a, b in combinations_with_replacement(range(n_kinds), 2):
        per_pair = amounts[a] * (others[a, b] if trajectory.is_bulk else 1.0)
        if others[a, b] > 0:
            curves.append(Curve(f"{elements[a]}-{elements[b]}", middles, Blocked.of(blocked[:, a, b] / per_pair, np.array(weights))))
    return Observable(
        name="rdf",
        title="Radial distribution functions" if trajectory.is_bulk else "Distances",
        x_label="r, Å",
        y_label="g(r)" if trajectory.is_bulk else "neighbours per atom and Å",
        curves=curves,
        notes=[] if trajectory.is_bulk else [NOT_BULK],
    )
