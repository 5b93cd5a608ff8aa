"""What a report needs and a run folder does not hold: predictions for parity plots, and the checks."""

import json
from collections.abc import Callable

from equipot.analysis.checks import Context, iterate_checks, summary
from equipot.analysis.files import write_json
from equipot.analysis.report.content import CHECKS, MODEL, Content, PredictedSet
from equipot.data.elements import separate_isolated
from equipot.data.frame import Frame
from equipot.data.labels import Keys
from equipot.data.readers import read_frames
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
    """Training and validation frames as split.json records them, and the test sets of the configuration."""
    data = content.config.get("data") or {}
    how = Keys(**(data.get("keys") or {})), Units(**(data.get("units") or {}))
    split = content.path / "split.json"
    sets: dict[str, list[Frame]] = {}
    try:
        recorded = json.loads(split.read_text(encoding="utf-8")) if split.is_file() else {}
        files = [data.get("train"), data.get("validation") if isinstance(data.get("validation"), str) else None]
        by_source = {f.source: f for name in files if name for f in separate_isolated(read_frames(name, *how))[0]} if recorded else {}
        for part in ("train", "validation"):
            if found := [by_source[s] for s in recorded.get(part, []) if s in by_source]:
                sets[part] = found
        tests = data.get("test") or {}
        for name, file in tests.items() if isinstance(tests, dict) else [("test", tests)]:
            sets[name] = read_frames(file, *how)
    except UserError as error:
        content.missing.append(f"Parity plots of further sets: {error}.")
    return sets


def _checks_are_current(content: Content) -> bool:
    file = content.path / CHECKS
    return bool(content.checks) and (not file.is_file() or file.stat().st_mtime >= (content.path / MODEL).stat().st_mtime)


def _run_checks(content: Content, frames: list[Frame], announce: Announce) -> None:
    context = Context(content.potential, frames, content.provenance)
    results = list(iterate_checks(context, announce=lambda c: announce(f"checking: {c.title}")))
    content.checks = [r.to_dict() for r in results]
    write_json(content.path / CHECKS, summary(results, str(content.path / MODEL)))
