"""What is wrong with a set of frames, found before any training: errors, warnings and the labels counted."""

from collections.abc import Mapping, Sequence

from equipot.data import check_duplicates, check_energies, check_geometry, check_labels, check_stress
from equipot.data.elements import is_isolated_atom
from equipot.data.findings import Finding, LabelCount, Part, Report
from equipot.data.frame import Frame, elements_of
from equipot.data.references import References
from equipot.errors import UserError

LABELS = ("energy", "forces", "stress")


def preflight(
    train: Sequence[Frame],
    validation: Sequence[Frame] = (),
    tests: Mapping[str, Sequence[Frame]] | None = None,
    requested: set[str] | Sequence[str] = ("energy", "forces"),
    references: References | None = None,
) -> Report:
    """Everything worth knowing of frames before they are trained on; `requested` are the labels the loss asks for.

    Each finding is an error, a warning or a note and names its file and frame. Isolated atoms among the frames need no labels but the
    energy and are left out of the checks on structures. Raises UserError for a label that does not exist; call `raise_errors` of the
    report to stop where there are errors.
    """
    for label in requested:
        if label not in LABELS:
            raise UserError(f"{label!r} is not a label; there are {', '.join(LABELS)}")
    asked = [label for label in LABELS if label in requested]
    parts = _by_file("train", train) + _by_file("validation", validation)
    for name, frames in (tests or {}).items():
        parts += _by_file("test" if name in ("", "test") else f"test {name}", frames)
    findings: list[Finding] = []
    if not any(part.frames for part in parts if part.is_train):
        findings.append(
            Finding("error", "no-frames", "no structures to train on (isolated atoms do not count)", parts[0].file if parts else "")
        )
    trained = {part.file: {n for n in LABELS if any(getattr(f, n) is not None for f in part.frames)} for part in parts if part.is_train}
    for part in parts:
        findings += check_labels.check(part, asked, trained.get(part.file, ()))
        findings += check_geometry.check(part)
    findings += _unknown_elements(parts)
    findings += check_duplicates.check(parts)
    findings += check_energies.check(parts, references)
    findings += check_stress.check(parts, "stress" in asked)
    if references is not None and references.kind in ("least-squares", "mean"):
        findings.append(Finding("warning", "no-isolated-atoms", references.message))
    order = {"error": 0, "warning": 1, "note": 2}
    return Report(sorted(findings, key=lambda f: order[f.level]), [_count(part) for part in parts])


def _by_file(role: str, frames: Sequence[Frame]) -> list[Part]:
    files: dict[str, Part] = {}
    for frame in frames:
        part = files.setdefault(frame.file, Part(role, frame.file, [], []))
        (part.isolated if is_isolated_atom(frame) else part.frames).append(frame)
    return list(files.values())


def _unknown_elements(parts: list[Part]) -> list[Finding]:
    known = set(elements_of([f for part in parts if part.is_train for f in part.frames]))
    if not known:
        return []
    findings = []
    for part in parts:
        for element in elements_of(part.frames):
            if element not in known:
                frames = [f for f in part.frames if element in f.symbols]
                message = f"{element} is in the {part.role} set and in no training structure: add some, or leave these frames out"
                findings.append(Finding.of_frames("error", "unknown-element", message, part.file, frames))
    return findings


def _count(part: Part) -> LabelCount:
    config_types: dict[str, int] = {}
    for frame in part.frames:
        config_types[frame.config_type] = config_types.get(frame.config_type, 0) + 1
    labels = {label: sum(getattr(f, label) is not None for f in part.frames) for label in LABELS}
    n_atoms = sum(f.n_atoms for f in part.frames)
    elements = elements_of(part.frames + part.isolated)
    return LabelCount(part.file, part.role, len(part.frames), n_atoms, labels, len(part.isolated), config_types, elements)
