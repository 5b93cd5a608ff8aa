"""The sign and scale of stress, checked by energies where the data holds strained copies of a structure."""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from equipot.data.findings import Finding, Part
from equipot.data.frame import Frame

MOST_FRAMES = 60  # of one kind compared with each other
LARGEST_STRAIN = 0.15
SMALLEST_STRAIN = 1e-3
NEAR = 0.35  # Å, by which atoms of copies may be moved beyond the strain
LEAST_WORK = 5e-3  # eV, below which a pair of copies says nothing
CLEAR = 0.7  # mean agreement of signs (-1 to 1) above which the sign is seen


@dataclass(frozen=True)
class Copy:
    """Two strained copies: what the stress says the energy changes by, and what it changes by less the work of the forces (eV)."""

    first: Frame
    second: Frame
    predicted: float
    actual: float


def check(parts: list[Part], requested: bool) -> list[Finding]:
    """Findings on stresses whose energies say otherwise: dE = V σ:dε."""
    findings = []
    for part in parts:
        copies = [c for c in strained_copies(part.frames) if abs(c.actual) > LEAST_WORK]
        if len(copies) >= 2:
            findings += _judge(part, copies, requested)
    return findings


def _judge(part: Part, copies: list[Copy], requested: bool) -> list[Finding]:
    # Signs, not sizes: a few large strains must not decide, nor a unit that is wrong as well.
    agreement = float(np.mean([np.sign(c.predicted * c.actual) for c in copies]))
    ratio = float(np.median(np.abs([c.actual for c in copies]) / np.maximum(np.abs([c.predicted for c in copies]), 1e-12)))
    level = "error" if requested and not part.is_test else "warning"
    worst = min(copies, key=lambda c: c.predicted * c.actual)
    frames = list({id(f): f for c in copies for f in (c.first, c.second)}.values())
    seen = f"seen on {len(copies)} pairs of strained copies, e.g. frames {worst.first.index} and {worst.second.index}"
    if agreement < -CLEAR:
        message = f"stress has the opposite sign of dE/d(strain) ({seen}): it must be tensile positive; a virial is −V σ"
        return [Finding.of_frames(level, "stress-sign", message, part.file, frames, worst.first)]
    if agreement > CLEAR and not 0.5 < ratio < 2.0:
        message = f"energies change {ratio:.3g} times as much with strain as the stress says ({seen}): declare its unit"
        return [Finding.of_frames(level, "stress-scale", message, part.file, frames, worst.first)]
    if agreement > CLEAR:
        message = f"stress agrees with dE/d(strain) in sign and size ({len(copies)} pairs of strained copies, ratio {ratio:.3g})"
        return [Finding.of_frames("note", "stress-verified", message, part.file, frames)]
    return []


def strained_copies(frames: list[Frame]) -> list[Copy]:
    """Pairs of frames that are, but for small displacements, homogeneous strains of each other, both with energy and stress."""
    groups: dict[tuple, list[Frame]] = defaultdict(list)
    for frame in frames:
        labelled = frame.stress is not None and frame.energy is not None and frame.has_stress_volume and frame.pbc.all()
        if labelled and np.isfinite(frame.stress).all() and np.isfinite(frame.positions).all():
            groups[(frame.n_atoms, frame.numbers.tobytes())].append(frame)
    return [copy for group in groups.values() for copy in _copies(_thinned(group))]


def _thinned(group: list[Frame]) -> list[Frame]:
    if len(group) <= MOST_FRAMES:
        return group
    return [group[i] for i in np.linspace(0, len(group) - 1, MOST_FRAMES).astype(int)]


def _copies(group: list[Frame]) -> list[Copy]:
    fractional = [np.linalg.solve(f.cell.T, f.positions.T).T for f in group]
    found = []
    for i in range(len(group)):
        for j in range(i + 1, len(group)):
            strain = np.linalg.solve(group[i].cell, group[j].cell) - np.eye(3)
            if SMALLEST_STRAIN < np.abs(strain).max() < LARGEST_STRAIN:
                copy = _copy(group[i], group[j], fractional[j] - fractional[i], strain)
                found += [copy] if copy else []
    return found


def _copy(first: Frame, second: Frame, moved: np.ndarray, strain: np.ndarray) -> Copy | None:
    moved = moved - moved[0]
    moved = moved - np.round(moved)
    displacement = (moved - moved.mean(axis=0)) @ (0.5 * (first.cell + second.cell))
    if np.abs(displacement).max() > NEAR:
        return None
    symmetric = 0.5 * (strain + strain.T)
    # dE = V σ:dε − F·du, both as the mean over the two ends.
    predicted = 0.5 * sum(f.volume * float(np.sum(f.stress * symmetric)) for f in (first, second))
    force = sum(0.5 * f.forces for f in (first, second)) if first.forces is not None and second.forces is not None else None
    work = 0.0 if force is None else -float(np.sum(force * displacement))
    return Copy(first, second, predicted, second.energy - first.energy - work)
