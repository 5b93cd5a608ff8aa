"""Laws of locality: what is beyond the cutoff does not matter, what enters it does so smoothly, and energies add up."""

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
from ase.data import chemical_symbols

from equipot.analysis.checks.context import Answer, Context
from equipot.analysis.checks.probes import CLOSEST, bond, dimer, pair_cutoffs, supercell, together, unit_vector
from equipot.analysis.checks.registry import Finding, check
from equipot.analysis.checks.symmetry import RELATIVE, TOLERANCE, largest, largest_of
from equipot.data.frame import Frame
from equipot.spec import smoothness

NEAR = 1e-7  # Å from the cutoff, where energy and force are compared
SLOPE_STEP = 1e-5  # Å, for the slope of the force on either side
JUMP, SLOPE_JUMP = 1e-5, 1e-2  # allowed, of the RMS force (per Å for the slope)
N_CROSSINGS = 2  # per pair of elements, at most


@check("cutoff", "law", "energy and force are continuous when an atom crosses the cutoff")
def cutoff(context: Context) -> Finding:
    """An atom is put on either side of the cutoff of another one, in the company of a molecule: the cutoff of their elements, in either direction.

    E and F must not jump by more than their own slope explains (class C1); where the model says C2, the slope of the force must not
    jump either. A model that says it jumps is measured and not blamed.
    """
    says = smoothness(context.spec)
    crossings = _crossings(context)
    if not crossings:
        return Finding(np.nan, JUMP, RELATIVE, "no atom could be put at the cutoff of another one alone")
    found = []
    for crossing in crossings:
        energy, force, slope = crossing.jumps(context)
        found.append((energy, f"energy jumps by {energy:.1e} of RMS force times 1 Å{crossing.name}"))
        found.append((force, f"force jumps by {force:.1e} of RMS force{crossing.name}"))
        if says == "C2":
            found.append((slope * JUMP / SLOPE_JUMP, f"slope of the force jumps by {slope:.1e} of RMS force per Å{crossing.name}"))
    value, words = largest_of(found)
    if says == "jump":
        return Finding(value, np.inf, RELATIVE, f"the model's form is known to jump at the cutoff; largest: {words}")
    return Finding(value, JUMP, RELATIVE, f"class {says} as stated; largest: {words} ({len(crossings)} crossings)")


@dataclass(frozen=True)
class _Crossing:
    """A molecule and an atom that moves along `direction`; at `at` Å it is exactly at the cutoff of its partner."""

    frame: Frame
    mover: int
    partner: int
    direction: np.ndarray
    at: float
    name: str

    def moved(self, beyond: float) -> Frame:
        positions = self.frame.positions.copy()
        positions[self.mover] = positions[self.partner] + (self.at + beyond) * self.direction
        return replace(self.frame, positions=positions)

    def jumps(self, context: Context) -> tuple[float, float, float]:
        """Jumps of energy (over 1 Å), force and slope of the force, beyond what their own slopes explain, relative to the RMS force."""
        offsets = [-NEAR - SLOPE_STEP, -NEAR, NEAR, NEAR + SLOPE_STEP]
        far_in, inside, outside, far_out = context.evaluate([self.moved(x) for x in offsets], by_pair=True)
        scale = max(context.scale(inside), context.scale(outside))
        pull = float(inside.forces[self.mover] @ self.direction)
        energy = abs(outside.energy - inside.energy + 2 * NEAR * pull) / max(scale, 1e-6 * abs(inside.energy))
        before, after = (inside.forces - far_in.forces) / SLOPE_STEP, (far_out.forces - outside.forces) / SLOPE_STEP
        force = largest(outside.forces - inside.forces - NEAR * (before + after))
        return energy, force / scale, largest(after - before) / scale


def _crossings(context: Context) -> list[_Crossing]:
    """For every ordered pair of elements present, crossings where no other pair is at the cutoff and no atoms overlap."""
    rng, found = context.random("cutoff"), []
    count: Counter[tuple[int, int, float]] = Counter()
    for frame in context.molecules:
        for partner in rng.permutation(frame.n_atoms):
            for mover_z in context.spec.elements:
                pair = (int(frame.numbers[partner]), int(mover_z))
                for at in pair_cutoffs(context.spec, *pair):
                    if count[*pair, at] < N_CROSSINGS and (crossing := _make_crossing(context, frame, int(partner), int(mover_z), at, rng)):
                        count[*pair, at] += 1
                        found.append(crossing)
    return found


def _make_crossing(context: Context, frame: Frame, partner: int, mover_z: int, at: float, rng: np.random.Generator) -> _Crossing | None:
    grown = replace(frame, numbers=np.append(frame.numbers, mover_z), positions=np.vstack([frame.positions, np.zeros(3)]))
    kinds = [int(z) for z in np.delete(frame.numbers, partner)]
    for _ in range(20):
        direction = unit_vector(rng)
        here = frame.positions[partner] + at * direction
        others = np.linalg.norm(np.delete(frame.positions, partner, axis=0) - here, axis=1)
        room = all(d > CLOSEST * bond(z, mover_z) for d, z in zip(others, kinds, strict=True))
        alone = all(abs(d - r) > 1e-3 for d, z in zip(others, kinds, strict=True) for r in pair_cutoffs(context.spec, z, mover_z))
        if room and alone:
            name = f" where {chemical_symbols[mover_z]} meets {chemical_symbols[frame.numbers[partner]]}"
            crossing = _Crossing(grown, frame.n_atoms, partner, direction, at, name)
            return crossing if _one_pair_enters(context, crossing) else None
    return None


def _one_pair_enters(context: Context, crossing: _Crossing) -> bool:
    """The graph sees the atom on one side and not on the other; a longer list than the cutoff is another law's business."""
    inside, outside = (context.graph(crossing.moved(x), by_pair=True).n_edges for x in (-NEAR, NEAR))
    return inside != outside


@check("contact", "law", "energy and force are finite however close two atoms come")
def contact(context: Context) -> Finding:
    """Every pair of elements at 0.5 to 0.01 Å: the count of values that are not finite."""
    elements = context.spec.elements
    pairs = [(a, b) for i, a in enumerate(elements) for b in elements[i:]]
    frames = [dimer(a, b, r, (0.6, 0.0, 0.8)) for a, b in pairs for r in (0.5, 0.2, 0.1, 0.05, 0.01)]
    answers = context.evaluate(frames)
    bad = [f.source for f, a in zip(frames, answers, strict=True) if not np.isfinite([a.energy, *a.forces.ravel()]).all()]
    message = f"not finite: {', '.join(bad[:4])}" if bad else f"finite for {len(pairs)} pairs down to 0.01 Å"
    return Finding(len(bad), 0, "pairs", message)


@check("isolated atom", "law", "an atom alone has exactly E0 and no force")
def isolated_atom(context: Context) -> Finding:
    """E(atom) = E0; a model declared `isolated_atom: free` states its offset instead."""
    elements = context.spec.elements
    atoms = [Frame(np.array([z]), np.full((1, 3), 0.7), np.zeros((3, 3)), np.zeros(3, dtype=bool)) for z in elements]
    answers = context.evaluate(atoms)
    offsets = np.array([a.energy for a in answers]) - context.potential.e0.double().cpu().numpy()
    force = max(largest(a.forces) for a in answers)
    details = {"offset": {chemical_symbols[z]: float(o) for z, o in zip(elements, offsets, strict=True)}}
    if context.spec.isolated_atom == "free":
        words = ", ".join(f"{name} {offset:+.4f}" for name, offset in details["offset"].items())
        return Finding(force, 1e-8, "eV/Å", f"the model's form leaves atoms alone an energy: E − E0 in eV: {words}", details)
    value = max(largest(offsets), force)
    return Finding(value, 1e-8, "eV", f"largest |E − E0| {largest(offsets):.1e} eV for {', '.join(details['offset'])}", details)


@check("extensivity", "law", "two structures far apart have the sum of their energies")
def extensivity(context: Context) -> Finding:
    """E(A + B) = E(A) + E(B) and the forces of each alone, for a copy of itself and for another molecule."""
    molecules = context.molecules
    alone = context.evaluate(molecules)
    found = []
    for i, first in enumerate(molecules):
        for j in {i, (i + 1) % len(molecules)}:
            (both,) = context.evaluate([together(first, molecules[j], 2.0 * context.spec.cutoff)])
            found.append(_compare_sum(context, [alone[i], alone[j]], both))
    value, words = largest_of(found)
    return Finding(value, TOLERANCE, RELATIVE, f"largest change: {words} ({len(found)} pairs)")


@check("supercell", "law", "a repeated cell has n times the energy and the same stress")
def supercell_law(context: Context) -> Finding:
    """Cell × 2 along each direction in turn, and along two at once."""
    found = []
    frame = min([*context.crystals, context.random_crystal], key=lambda f: f.n_atoms)
    (one,) = context.evaluate([frame], stress=True)
    for repeats in ((2, 1, 1), (1, 2, 1), (1, 1, 2), (2, 1, 3)):
        big = supercell(frame, repeats)
        (many,) = context.evaluate([big], stress=True)
        found.append(_compare_sum(context, [one] * (big.n_atoms // frame.n_atoms), many))
        stress = largest(many.stress - one.stress) * frame.volume / frame.n_atoms
        found.append((stress / context.scale(one), f"stress times volume by {stress:.1e} eV per atom"))
    value, words = largest_of(found)
    return Finding(value, TOLERANCE, RELATIVE, f"largest change: {words} ({len(found) // 2} supercells)")


def _compare_sum(context: Context, parts: list[Answer], whole: Answer) -> tuple[float, str]:
    energy = abs(whole.energy - sum(p.energy for p in parts))
    forces = largest(whole.forces - np.concatenate([p.forces for p in parts]))
    e_scale, f_scale = sum(context.energy_scale(p) for p in parts), max(context.scale(p) for p in parts)
    return largest_of([(energy / e_scale, f"energy by {energy:.1e} eV"), (forces / f_scale, f"forces by {forces:.1e} eV/Å")])
