"""The folder of results: one JSON file with everything, a CSV file per observable, and pictures."""

import csv
import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from equipot import __version__
from equipot.analysis.files import write_json
from equipot.analysis.observables.observe import Observed
from equipot.analysis.observables.result import Curve, Observable
from equipot.analysis.observables.settings import Settings
from equipot.analysis.observables.trajectory import Trajectory
from equipot.errors import UserError
from equipot.whole_file import write_whole

JSON = "observables.json"
FORMAT = 1
MOST_POINTS = 2000  # of a curve in JSON; CSV files hold all


def require_out(folder: Path) -> None:
    """Raises UserError, before any work, where results cannot be written; an earlier folder of results may be overwritten."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file; give the name of a folder")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / JSON).is_file():
        raise UserError(f"{folder}: a folder with other things in it; give a new or an empty one")
    if not folder.parent.is_dir():
        raise UserError(f"{folder}: there is no folder {folder.parent}; create it first")


def write(
    folder: Path,
    observed: Observed,
    trajectory: Trajectory,
    reference: Trajectory | None,
    settings: Settings,
    progress: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Writes the folder and returns what is in its JSON file; files of an earlier analysis there are removed first."""
    folder.mkdir(exist_ok=True)
    _clear(folder)
    tables = {
        f"{name}{end}{side}.csv": text
        for side, observables in (("", observed.observables), (".reference", observed.reference))
        for name, observable in observables.items()
        for text, end in _tables(observable)
    }
    draw, lacking = _drawing()
    pictures = {f"{name}.png": name for name, observable in observed.observables.items() if observable.curves} if draw else {}
    missing = observed.missing | ({"pictures": lacking} if lacking else {})
    content = to_json(observed, trajectory, reference, settings) | {"missing": missing, "files": [*tables, *pictures]}
    write_json(folder / JSON, content)  # first: it makes the folder ours, and names what an interrupted run may leave
    for file, text in tables.items():
        write_whole(folder / file, text.encode())
    for file, name in pictures.items():
        progress(f"drawing {file}")
        write_whole(folder / file, draw(observed.observables[name], observed.reference.get(name)))
    return content


def to_json(observed: Observed, trajectory: Trajectory, reference: Trajectory | None, settings: Settings) -> dict[str, Any]:
    """All results as plain data."""
    return {
        "format": FORMAT,
        "equipot": __version__,
        "trajectory": facts(trajectory),
        "reference": None if reference is None else facts(reference),
        "settings": settings.to_dict(),
        "observables": {
            name: _plain(observable) | {"reference": _curves(observed.reference[name]) if name in observed.reference else []}
            | {"reference_values": [vars(v) for v in observed.reference[name].values] if name in observed.reference else []}
            for name, observable in observed.observables.items()
        },
        "overlaps": [vars(o) | {"within_noise": o.within_noise} for o in observed.overlaps],
        "differences": [vars(d) | {"within_noise": d.within_noise} for d in observed.differences],
        "missing": observed.missing,
        "reference_missing": observed.reference_missing,
        "notes": observed.notes,
    }  # fmt: skip


def facts(trajectory: Trajectory) -> dict[str, Any]:
    """What a trajectory is, in figures."""
    interval = trajectory.interval
    return {
        "name": trajectory.name,
        "frames": len(trajectory),
        "atoms": len(trajectory.numbers),
        "elements": {e: int((trajectory.symbols == e).sum()) for e in trajectory.elements},
        "interval_fs": interval,
        "length_ps": None if interval is None else (len(trajectory) - 1) * interval * 1e-3,
        "volume_A3": float(trajectory.volumes.mean()) if trajectory.is_bulk else None,
        "velocities": trajectory.velocities is not None,
    }


def read_folder(folder: str | Path) -> dict[str, Any]:
    """The content of a results' folder; raises UserError where there is none."""
    file = Path(folder) / JSON
    if not file.is_file():
        raise UserError(f"{folder}: no {JSON} in it; equipot observe writes one")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError):
        raise UserError(f"{file}: damaged: not JSON") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(f"{file}: not written by this version of equipot observe; run it again")
    return content


def _plain(observable: Observable) -> dict[str, Any]:
    return {
        "title": observable.title,
        "x": observable.x_label,
        "y": observable.y_label,
        "together": observable.together,
        "ticks": observable.ticks,
        "curves": _curves(observable),
        "values": [vars(v) for v in observable.values],
        "notes": observable.notes,
        "data": observable.data,
    }


def _curves(observable: Observable) -> list[dict[str, Any]]:
    found = []
    for curve in observable.curves:
        step = max(1, math.ceil(len(curve.x) / MOST_POINTS))
        known = np.isfinite(curve.error).any()
        columns = {"x": curve.x, "y": curve.y, **({"error": curve.error} if known else {})}
        found.append({"name": curve.name} | {key: _short(column[::step]) for key, column in columns.items()})
    return found


def _short(values: np.ndarray) -> list[float]:
    return [float(f"{v:.7g}") for v in values]


def _tables(observable: Observable) -> list[tuple[str, str]]:
    """CSV text and the end of its file's name: one table where all curves have one axis, else one each."""
    curves = observable.curves
    if not curves:
        return []
    if all(len(c.x) == len(curves[0].x) and np.allclose(c.x, curves[0].x) for c in curves):
        return [(_csv(observable.x_label, curves), "")]
    return [(_csv(observable.x_label, [c]), f".{c.name}") for c in curves]


def _csv(x_label: str, curves: list[Curve]) -> str:
    header, columns = [x_label or "x"], [curves[0].x]
    for curve in curves:
        header.append(curve.name)
        columns.append(curve.y)
        if np.isfinite(curve.error).any():
            header.append(f"{curve.name} error")
            columns.append(curve.error)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([f"{v:.10g}" for v in row] for row in np.array(columns).T)
    return text.getvalue()


def _drawing() -> tuple[Callable[..., bytes] | None, str]:
    """What draws, or why nothing is drawn."""
    try:
        from equipot.analysis.observables.pictures import draw
    except ImportError:
        return None, 'drawing needs matplotlib: pip install "equipot[observe]"'
    return draw, ""


def _clear(folder: Path) -> None:
    """Removes what an earlier analysis wrote, so that no picture of it stays beside the new ones."""
    if not (folder / JSON).is_file():
        return
    try:
        files = json.loads((folder / JSON).read_text(encoding="utf-8")).get("files", [])
    except (ValueError, UnicodeDecodeError, AttributeError):
        files = []
    (folder / JSON).unlink()
    for file in files:
        if isinstance(file, str) and Path(file).name == file:
            (folder / file).unlink(missing_ok=True)
