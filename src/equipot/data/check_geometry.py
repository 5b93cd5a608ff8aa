"""Atoms that overlap, forces that do not sum to zero, cells that do not go with the periodicity."""

import numpy as np
from ase.data import chemical_symbols, covalent_radii

from equipot.data.findings import Finding, Part
from equipot.data.frame import Frame
from equipot.data.neighbours import find_pairs

OVERLAP = 0.3  # Å, closer than any two nuclei of a usable structure
CLOSE = 0.6  # of the sum of covalent radii; hydrogen molecules and 1200 K trajectories stay above
NET_FORCE = 0.01  # eV/Å


def check(part: Part) -> list[Finding]:
    """Findings on the geometries and net forces of one file."""
    impossible = [f for f in part.frames if not f.has_lattice]
    usable = [f for f in part.frames if f.has_lattice and np.isfinite(f.positions).all()]
    return _periodicity(part, impossible) + _overlaps(part, usable) + _net_forces(part)


def _periodicity(part: Part, impossible: list[Frame]) -> list[Finding]:
    findings = []
    if impossible:
        message = "periodic, but without lattice vectors in these directions: give the cell, or set pbc to F"
        findings.append(Finding.of_frames("error", "periodic-without-cell", message, part.file, impossible))
    boxed = [f for f in part.frames if not f.pbc.any() and np.any(f.cell)]
    if boxed:
        message = "a cell without periodicity: it is treated as a molecule in vacuum; set pbc if it is a crystal or a liquid"
        findings.append(Finding.of_frames("warning", "cell-without-periodicity", message, part.file, boxed))
    return findings


def _overlaps(part: Part, frames: list[Frame]) -> list[Finding]:
    overlapping: list[tuple[float, Frame, str]] = []
    close: list[tuple[float, Frame, str]] = []
    for frame in frames:
        pair = _closest(frame)
        if pair is not None:
            (overlapping if pair[0] < OVERLAP else close).append((pair[0], frame, pair[1]))
    findings = []
    for found, level, code, what in (
        (overlapping, "error", "overlapping-atoms", "remove the frame"),
        (close, "warning", "close-atoms", "well inside their covalent radii; check that lengths are in Å"),
    ):
        if found:
            distance, worst, pair = min(found, key=lambda entry: entry[0])
            message = f"atoms {pair} are {distance:.3f} Å apart: {what}"
            findings.append(Finding.of_frames(level, code, message, part.file, [f for _, f, _ in found], worst))
    return findings


def _closest(frame: Frame) -> tuple[float, str] | None:
    """The closest pair that is too close, as its distance and a name."""
    radii = covalent_radii[frame.numbers]
    receiver, sender, vector = find_pairs(frame.positions, frame.cell, frame.pbc, max(OVERLAP, 2 * CLOSE * radii.max()))
    if not len(vector):
        return None
    length = np.linalg.norm(vector, axis=1)
    bad = np.flatnonzero((length < CLOSE * (radii[receiver] + radii[sender])) | (length < OVERLAP))
    if not len(bad):
        return None
    worst = bad[np.argmin(length[bad])]
    ends = sorted((int(receiver[worst]), int(sender[worst])))
    return float(length[worst]), " and ".join(f"{i} ({chemical_symbols[frame.numbers[i]]})" for i in ends)


def _net_forces(part: Part) -> list[Finding]:
    labelled = [f for f in part.frames if f.forces is not None and np.isfinite(f.forces).all()]
    net = np.array([np.linalg.norm(f.forces.sum(axis=0)) for f in labelled])
    if not (net > NET_FORCE).any():
        return []
    worst = labelled[int(net.argmax())]
    mean = f"mean {net.mean():.3g} over {len(net)} frames"
    message = f"forces sum to {net.max():.3g} eV/Å, not zero ({mean}): a floor under the force error that no model can reach below"
    frames = [f for f, size in zip(labelled, net, strict=True) if size > NET_FORCE]
    return [Finding.of_frames("warning", "net-force", message, part.file, frames, worst)]
