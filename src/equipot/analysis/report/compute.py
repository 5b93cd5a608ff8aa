"""What a report needs and a run folder does not hold: predictions for parity plots, and the checks."""

import json
from collections.abc import Callable
from typing import Any

from equipot.analysis.checks import Context, iterate_checks, summary
from equipot.analysis.files import write_json
from equipot.analysis.report.content import CHECKS, MODEL, Content, PredictedSet
from equipot.data.elements import separate_isolated
from equipot.data.frame import Frame
from equipot.data.labels import Keys
from equipot.data.readers import read_frames
from equipot.data.split import INDEX_SUFFIXES
from equipot.data.units import Units
from equipot.errors import UserError
from equipot.train.evaluation import evaluate_frames

MOST_ATOMS = 6000  # per set, for parity plots
Announce = Callable[[str], None]


def complete(content: Content, announce: Announce = lambda _: None) -> None:
    """Add to a run's content the predictions of its sets and, if there are none yet, its checks (kept in check.json).

    What cannot be done (data that have moved away) is noted in `content.missing`, not raised.
    """
    if content.potential is None or not content.config:
        return
    sets = _read_sets(content)
    computed = []
    for name, frames in sets.items():
        chosen = thin(frames)
        announce(f"predicting {name}: {len(chosen)} structures")
        found = evaluate_frames(content.potential, chosen)
        computed.append(PredictedSet(name, chosen, found.predictions, len(frames)))
    content.sets = computed + content.sets
    if not _checks_are_current(content):
        probes = next((sets[name] for name in ("validation", "train", *sets) if sets.get(name)), [])
        _run_checks(content, probes, announce)


def thin(frames: list[Frame]) -> list[Frame]:
    """All frames, or an even choice of about `MOST_ATOMS` atoms."""
    step = -(-sum(f.n_atoms for f in frames) // MOST_ATOMS)
    return frames[:: max(1, step)]


def _read_sets(content: Content) -> dict[str, list[Frame]]:
    """Training and validation frames as split.json records them, and the test sets of the configuration; of each what can be read."""
    data = content.config.get("data") or {}
    how = Keys(**(data.get("keys") or {})), Units(**(data.get("units") or {}))
    split = content.path / "split.json"

    def read(name: str, files: str | list[str]) -> list[Frame]:
        try:
            return read_frames(files, *how)
        except UserError as error:
            content.missing.append(f"Parity plots of the {name} set: {error}.")
            return []

    recorded = json.loads(split.read_text(encoding="utf-8")) if split.is_file() else {}
    files = {"train": data.get("train"), "validation": _structures_of(data.get("validation"))} if recorded else {}
    by_source = {f.source: f for name, given in files.items() if given for f in separate_isolated(read(name, given))[0]}
    tests = data.get("test") or {}
    sets = {part: [by_source[s] for s in recorded.get(part, []) if s in by_source] for part in ("train", "validation")}
    sets |= {name: read(name, given) for name, given in (tests if isinstance(tests, dict) else {"test": tests}).items()}
    return {name: frames for name, frames in sets.items() if frames}


def _structures_of(validation: Any) -> str | None:
    """The validation set's own file; None where it is a part of the training set."""
    return validation if isinstance(validation, str) and not validation.endswith(INDEX_SUFFIXES) else None


def _checks_are_current(content: Content) -> bool:
    file = content.path / CHECKS
    return bool(content.checks) and (not file.is_file() or file.stat().st_mtime >= (content.path / MODEL).stat().st_mtime)


def _run_checks(content: Content, frames: list[Frame], announce: Announce) -> None:
    context = Context(content.potential, frames, content.provenance)
    results = list(iterate_checks(context, announce=lambda c: announce(f"checking: {c.title}")))
    content.checks = [r.to_dict() for r in results]
    write_json(content.path / CHECKS, summary(results, str(content.path / MODEL)))
