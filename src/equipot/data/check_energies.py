"""Energies that cannot come from one level of theory, or do not go with the reference energies."""

from collections import defaultdict

import numpy as np

from equipot.data.findings import Finding, Part
from equipot.data.frame import Frame
from equipot.data.references import References

GAP = 0.05  # eV/atom, the least jump worth a word between frames of one composition; 900 K of heat is 0.1 but has spread
GAP_IN_SPREADS = 8.0  # the jump over the spread on either side of it
DEEPEST, HIGHEST = -10.0, 2.0  # eV/atom; solids and molecules bind by at most 9 (tungsten)


def check(parts: list[Part], references: References | None) -> list[Finding]:
    """Findings on the energies of all frames together."""
    frames = [f for part in parts for f in part.frames if f.energy is not None and np.isfinite(f.energy)]
    return _jumps(frames) + (_off_reference(frames, references) if references else [])


def _jumps(frames: list[Frame]) -> list[Finding]:
    groups: dict[bytes, list[Frame]] = defaultdict(list)
    for frame in frames:
        # Equal compositions per atom compare per atom, so a cell and its supercell fall into one group.
        counts = np.bincount(frame.numbers, minlength=120)
        groups[(counts // np.gcd.reduce(counts)).tobytes()].append(frame)
    return [finding for group in groups.values() if len(group) > 3 for finding in _jump(group)]


def _jump(group: list[Frame]) -> list[Finding]:
    """The widest gap in the energies per atom, where it is far wider than the spread on both sides."""
    energy = np.array([f.energy / f.n_atoms for f in group])
    order = np.argsort(energy, kind="stable")
    gaps = np.diff(energy[order])
    place = int(gaps.argmax())
    below, above = energy[order[: place + 1]], energy[order[place + 1 :]]
    spread = max(below.std(), above.std(), 1e-3)
    if gaps[place] < GAP or gaps[place] < GAP_IN_SPREADS * spread:
        return []
    below_frames, above_frames = [group[i] for i in order[: place + 1]], [group[i] for i in order[place + 1 :]]
    few, many = sorted((below_frames, above_frames), key=len)
    few = sorted(few, key=lambda f: (f.file, f.index or 0))
    message = (
        f"energies jump by {gaps[place]:.3g} eV/atom between {len(few)} frames ({_kinds(few)}) and {len(many)} of the same composition "
        f"({_kinds(many)}), {gaps[place] / spread:.0f} times the spread within either: two levels of theory, or two units?"
    )
    return [Finding.of_frames("warning", "energy-jump", message, few[0].file, [f for f in few if f.file == few[0].file])]


def _kinds(frames: list[Frame]) -> str:
    kinds = sorted({f.config_type for f in frames})
    return "config_type " + ", ".join(kinds[:3]) + (" …" if len(kinds) > 3 else "")


def _off_reference(frames: list[Frame], references: References) -> list[Finding]:
    """Interaction energies no material has: the reference energies are of another level of theory, or in other units."""
    if references.kind not in ("isolated", "given"):
        return []
    known = set(references.energies)
    frames = [f for f in frames if known.issuperset(f.symbols)]
    interaction = np.array([(f.energy - references.of(f)) / f.n_atoms for f in frames])
    wrong = np.flatnonzero((interaction < DEEPEST) | (interaction > HIGHEST))
    if not len(wrong):
        return []
    chosen = [frames[i] for i in wrong]
    same_file = [f for f in chosen if f.file == chosen[0].file]
    message = (
        f"the energy is {interaction[wrong[0]]:.4g} eV/atom from the reference energies ({len(chosen)} of {len(frames)} frames are outside "
        f"{DEEPEST:g} to {HIGHEST:g}): E0 or labels are of another level of theory, or in other units"
    )
    return [Finding.of_frames("warning", "reference-mismatch", message, same_file[0].file, same_file)]
