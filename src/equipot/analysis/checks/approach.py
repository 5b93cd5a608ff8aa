"""Law of continuity: two atoms that approach each other meet no step, from the cutoff to contact."""

from dataclasses import dataclass

import numpy as np

from equipot.analysis.checks.context import Context
from equipot.analysis.checks.probes import dimer, pair_cutoffs
from equipot.analysis.checks.registry import Finding, check
from equipot.analysis.checks.symmetry import RELATIVE, largest_of
from equipot.spec import smoothness

NEAREST = 0.02  # Å
N_INTERVALS, N_HALVINGS = 32, 12
JUMP = 1e-4
DIRECTION = np.array([0.48, 0.6, 0.64])


@check("continuity", "law", "energy and force of two atoms are continuous from the cutoff to contact")
def continuity(context: Context) -> Finding:
    """The curve E(r), F(r) of every pair of elements is cut into intervals, and the one over which it changes most is halved again and again.

    What is left after 12 halvings, within some 1e-5 of the distance, are jumps: of the energy beyond −F dr, and of the force; those of a smooth
    curve vanish. Relative to the force there, at least the model's scale.
    """
    elements = context.spec.elements
    pairs = [(a, b) for i, a in enumerate(elements) for b in elements[i:]]
    grids = [np.geomspace(NEAREST, _reach(context, a, b), N_INTERVALS + 1) for a, b in pairs]
    curves = _evaluate(context, [(*pair, r) for pair, grid in zip(pairs, grids, strict=True) for r in grid]).reshape(len(pairs), -1, 2)
    parts = zip(pairs, grids, curves, strict=True)
    searches = [_Search(*pair, kind, grid, curve) for pair, grid, curve in parts for kind in ("energy", "force")]
    for _ in range(N_HALVINGS):
        middles = _evaluate(context, [(s.first, s.second, s.middle()) for s in searches])
        for search, found in zip(searches, middles, strict=True):
            search.halve(found)
    value, words = largest_of([search.verdict(context) for search in searches])
    return Finding(value, JUMP, RELATIVE, f"largest jump: {words} ({len(pairs)} pairs from {NEAREST} Å on)")


@dataclass
class _Search:
    """The interval over which the energy, or the force, of a pair changes most; `curve` (n, 2) holds energy, eV, and force along r, eV/Å."""

    first: int
    second: int
    kind: str
    r: np.ndarray
    curve: np.ndarray

    def jumps(self) -> np.ndarray:
        """What changes over each interval beyond what the forces at its ends explain; not a number counts as most."""
        energy, force = self.curve.T
        jumps = np.diff(energy) + 0.5 * np.diff(self.r) * (force[1:] + force[:-1]) if self.kind == "energy" else np.diff(force)
        return np.nan_to_num(np.abs(jumps), nan=np.inf)

    def middle(self) -> float:
        """The middle of the worst interval, to which the others are forgotten."""
        worst = int(np.argmax(self.jumps()))
        self.r, self.curve = self.r[worst : worst + 2], self.curve[worst : worst + 2]
        return float(self.r.mean())

    def halve(self, found: np.ndarray) -> None:
        self.r, self.curve = np.insert(self.r, 1, self.r.mean()), np.insert(self.curve, 1, found, axis=0)

    def verdict(self, context: Context) -> tuple[float, str]:
        """The jump relative to the force there, and in words."""
        energy, force = np.abs(self.curve).max(axis=0)
        steps = self.jumps()
        jump = float(steps.max())
        if self.kind == "force" and np.isfinite(steps).all():
            jump = float(abs(np.diff(self.curve[:, 1], n=2)[0]))  # a slope changes the force by as much over either half
        scale = max(force, 1e-3 * float(context.potential.scale.abs().mean()), 1e-8, 1e-6 * energy)
        where = dimer(self.first, self.second, float(self.r[0])).source
        return jump / scale, f"{self.kind} by {jump:.1e} {'eV' if self.kind == 'energy' else 'eV/Å'} in {where}"


def _evaluate(context: Context, points: list[tuple[int, int, float]]) -> np.ndarray:
    """(n, 2) energy, eV, and force along the axis, eV/Å, of pairs at a distance."""
    axis = DIRECTION / np.linalg.norm(DIRECTION)
    answers = context.evaluate([dimer(first, second, r, DIRECTION) for first, second, r in points])
    return np.array([(a.energy, a.forces[1] @ axis) for a in answers])


def _reach(context: Context, first: int, second: int) -> float:
    """As far as the model promises to be continuous: past every cutoff, or of a form that jumps there to just before it."""
    spec = context.spec
    if smoothness(spec) != "jump":
        return spec.cutoff + 0.1
    return 0.999 * pair_cutoffs(spec, first, second)[0]
