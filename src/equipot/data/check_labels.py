"""Labels that are missing, not finite or zero throughout, and stress where it has no meaning."""

from collections.abc import Collection

import numpy as np

from equipot.data.findings import Finding, Part
from equipot.data.frame import Frame
from equipot.data.neighbours import find_pairs

SYMMETRY_REACH = 6.0  # Å, to which an environment is looked at for the symmetry that makes its force zero
SYMMETRIC = 1e-2  # on unit vectors summed with smooth weights


def check(part: Part, requested: list[str], trained: Collection[str] = ()) -> list[Finding]:
    """Findings on the labels of one file; `trained` are the labels that training structures of the same file have."""
    findings = []
    if not part.frames:
        return findings
    for label in ("energy", "forces", "stress"):
        findings += _not_finite(part, label)
        findings += _zero(part, label, label in requested)
    for label in requested:
        findings += _missing(part, label, label in trained)
    if "stress" in requested:
        findings += _without_volume(part, "stress" in trained)
    return findings


def _missing(part: Part, label: str, trained: bool) -> list[Finding]:
    missing = [f for f in part.frames if getattr(f, label) is None]
    if not missing:
        return []
    if len(missing) < len(part.frames):
        message = f"{len(missing)} of {len(part.frames)} frames have no {label} and do not count in its loss"
        return [Finding.of_frames("warning", f"some-{label}-missing", message, part.file, missing)]
    if label == "stress" and not any(f.has_stress_volume for f in part.frames) and not trained:
        return []  # said by _without_volume
    if part.is_test:
        return [Finding.of_frames("warning", f"{label}-missing", f"no frame has {label}: its error is not measured", part.file, missing)]
    if part.role == "validation" and trained:
        message = f"no frame kept for validation has {label}, others of the file have: its error is not measured; keep more frames"
        return [Finding.of_frames("warning", f"{label}-missing", message, part.file, missing)]
    message = f"no frame has {label}, which the loss asks for: name it in keys, leave the file out, or take {label} out of the loss"
    return [Finding.of_frames("error", f"{label}-missing", message, part.file, missing)]


def _not_finite(part: Part, label: str) -> list[Finding]:
    bad = [f for f in part.frames if getattr(f, label) is not None and not np.isfinite(getattr(f, label)).all()]
    if not bad:
        return []
    message = f"{label} is NaN or infinite: remove the frame or the label"
    return [Finding.of_frames("error", f"{label}-not-finite", message, part.file, bad)]


def _zero(part: Part, label: str, asked: bool) -> list[Finding]:
    """All zero throughout a file, but for forces that symmetry makes zero in every frame of it."""
    labelled = [f for f in part.frames if getattr(f, label) is not None]
    if not labelled or any(np.any(getattr(f, label)) for f in labelled):
        return []
    if label == "forces":
        wrong = [f for f in labelled if not _zero_by_symmetry(f)]
        if not wrong:
            return [Finding.of_frames("note", "forces-zero", "forces are zero by symmetry in every frame", part.file, labelled)]
        labelled = wrong
    level = "error" if asked and not part.is_test else "warning"
    message = f"{label} is zero throughout the file: a placeholder, not a label; remove it, or name the right one in keys"
    return [Finding.of_frames(level, f"{label}-zero", message, part.file, labelled)]


def _zero_by_symmetry(frame: Frame) -> bool:
    """Whether each atom's neighbours, weighted by distance and element, pull evenly from all sides."""
    if not frame.pbc.any() or not frame.has_lattice:
        return frame.n_atoms == 1
    receiver, sender, vector = find_pairs(frame.positions, frame.cell, frame.pbc, SYMMETRY_REACH)
    length = np.linalg.norm(vector, axis=1)
    envelope = (1.0 - (length / SYMMETRY_REACH) ** 2) ** 2
    for power in (1, 3):
        weight = frame.numbers[sender] * envelope / np.maximum(length, 0.1) ** power
        pull, total = np.zeros((frame.n_atoms, 3)), np.zeros(frame.n_atoms)
        np.add.at(pull, receiver, weight[:, None] * vector / length[:, None])
        np.add.at(total, receiver, weight)
        if (np.linalg.norm(pull, axis=1) > SYMMETRIC * np.maximum(total, 1e-12)).any():
            return False
    return True


def _without_volume(part: Part, trained: bool) -> list[Finding]:
    """Stress asked of structures that have none."""
    wrong = [f for f in part.frames if f.stress is not None and not f.has_stress_volume]
    if not any(f.stress is not None for f in part.frames):
        wrong = [] if any(f.has_stress_volume for f in part.frames) or trained else part.frames
    if not wrong:
        return []
    what = "a molecule without periodicity" if not wrong[0].pbc.any() else "a slab without a full cell of three vectors"
    message = f"stress is asked of {what}: it has no volume; give cell and pbc, or take stress out of the loss"
    return [Finding.of_frames("warning" if part.is_test else "error", "stress-without-volume", message, part.file, wrong)]
