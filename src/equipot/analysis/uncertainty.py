"""Does a model know what it does not know? Stated standard deviations against the errors made, and against the question whether data are foreign.

Everything takes predictions as `train.evaluation` gives them: per frame energy, forces and, of an ensemble or a calibrated last layer, energy_std (eV) and
forces_std (n,) eV/Å. Figures are plain data for plotly: name, title, data, layout, caption.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.special import erf
from scipy.stats import rankdata

from equipot.analysis.palette import GREY, colour
from equipot.data.frame import Frame
from equipot.errors import UserError

LEVELS = np.linspace(0.0, 1.0, 21)
MOST_BINS, FEWEST_PER_BIN = 12, 8
QUANTITIES = {"energy": "energy, meV/atom", "forces": "force component, meV/Å"}
Set = tuple[Sequence[Frame], Sequence[dict[str, Any]]]


def deviations(frames: Sequence[Frame], predictions: Sequence[dict[str, Any]], quantity: str) -> tuple[np.ndarray, np.ndarray]:
    """Errors and stated standard deviations (n,) each of "energy" (meV per atom, a value per frame) or "forces" (meV/Å, a value per component).

    An atom's force deviation is shared evenly by its components. Only what has both a label and a deviation; both empty where nothing has.
    """
    errors, sigmas = [np.empty(0)], [np.empty(0)]
    for frame, found in zip(frames, predictions, strict=True):
        if quantity == "energy" and frame.energy is not None and found.get("energy_std") is not None:
            errors.append(np.array([found["energy"] - frame.energy]) * 1000.0 / frame.n_atoms)
            sigmas.append(np.array([found["energy_std"]]) * 1000.0 / frame.n_atoms)
        if quantity == "forces" and frame.forces is not None and found.get("forces_std") is not None:
            errors.append(1000.0 * (np.asarray(found["forces"]) - frame.forces).ravel())
            sigmas.append(np.repeat(1000.0 * np.asarray(found["forces_std"]) / np.sqrt(3.0), 3))
    return np.concatenate(errors), np.concatenate(sigmas)


def scores(frames: Sequence[Frame], predictions: Sequence[dict[str, Any]], quantity: str) -> np.ndarray:
    """(frames,) one number each for how unsure the model is: energy_std per atom (meV), or the root mean square of forces_std (meV/Å). No labels needed."""
    if quantity == "energy":
        found = [1000.0 * p["energy_std"] / f.n_atoms for f, p in zip(frames, predictions, strict=True) if p.get("energy_std") is not None]
    else:
        found = [1000.0 * np.sqrt(np.mean(np.square(p["forces_std"]))) for p in predictions if p.get("forces_std") is not None]
    return np.array(found, dtype=float)


def calibration(errors: np.ndarray, sigmas: np.ndarray) -> dict[str, Any]:
    """Expected against observed: the part of all errors that lie inside the interval which should hold a part p of them, were they Gaussian.

    expected, observed (lists over `LEVELS`); miscalibration, their mean distance; ratio, the root mean square of error/σ: 1 where the size of σ is
    right, above 1 where the model is too sure.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(errors == 0.0, 0.0, np.abs(errors) / sigmas)
    inside = np.sort(erf(z / np.sqrt(2.0)))
    observed = np.searchsorted(inside, LEVELS, side="right") / len(inside)
    observed[-1] = 1.0
    return {
        "expected": LEVELS.tolist(),
        "observed": observed.tolist(),
        "miscalibration": float(np.mean(np.abs(observed - LEVELS))),
        "ratio": float(np.sqrt(np.mean(z**2))),
    }


def error_against_uncertainty(errors: np.ndarray, sigmas: np.ndarray) -> dict[str, Any]:
    """Root mean square errors in bins of equally many values by σ (sigma, rmse, n), and the rank correlation of |error| with σ (spearman)."""
    order = np.argsort(sigmas, kind="stable")
    n_bins = int(np.clip(len(order) // FEWEST_PER_BIN, 1, MOST_BINS))
    bins = np.array_split(order, n_bins)
    return {
        "sigma": [float(np.sqrt(np.mean(sigmas[b] ** 2))) for b in bins],
        "rmse": [float(np.sqrt(np.mean(errors[b] ** 2))) for b in bins],
        "n": [len(b) for b in bins],
        "spearman": _rank_correlation(np.abs(errors), sigmas),
    }


def auroc(known: np.ndarray, foreign: np.ndarray) -> float:
    """Probability that a foreign structure has the larger score than a known one, ties counting half: 1 tells them apart, ½ is chance.

    The area under the curve of true against false alarms. Raises UserError where either is empty.
    """
    if not len(known) or not len(foreign):
        raise UserError("telling known from foreign structures needs some of each")
    ranks = rankdata(np.concatenate([known, foreign]))[len(known) :]
    return float((ranks.sum() - len(foreign) * (len(foreign) + 1) / 2) / (len(known) * len(foreign)))


def alarms(known: np.ndarray, foreign: np.ndarray) -> dict[str, list[float]]:
    """False and true alarms (parts of known and foreign structures above a threshold) for every threshold, from none to all."""
    thresholds = np.concatenate([[np.inf], np.sort(np.unique(np.concatenate([known, foreign])))[::-1]])
    pick = np.unique(np.linspace(0, len(thresholds) - 1, 200).astype(int))
    return {
        "false": [float(np.mean(known >= t)) for t in thresholds[pick]],
        "true": [float(np.mean(foreign >= t)) for t in thresholds[pick]],
    }


def assess(sets: Mapping[str, Set]) -> dict[str, Any]:
    """All of it as plain data: {quantity: {"sets": {name: measures}, "detection": {name: measures}}} for the quantities with deviations.

    The first set is what counts as known: `detection` says how well each other one is told apart from it. Empty for predictions without deviations.
    """
    found: dict[str, Any] = {}
    for quantity in QUANTITIES:
        each = {name: deviations(*pair, quantity) for name, pair in sets.items()}
        measures = {name: calibration(*pair) | error_against_uncertainty(*pair) for name, pair in each.items() if len(pair[0])}
        by_structure = {name: s for name, pair in sets.items() if len(s := scores(*pair, quantity))}
        detection = {}
        if by_structure:
            known, *foreign = by_structure
            for name in foreign:
                pair = by_structure[known], by_structure[name]
                detection[name] = {"known": known, "auroc": auroc(*pair)} | alarms(*pair)
        if measures or detection:
            found[quantity] = {"sets": measures, "detection": detection}
    return found


def figures(sets: Mapping[str, Set]) -> list[dict[str, Any]]:
    """Calibration, error against uncertainty and alarms as plotly data, for those who show them; empty for predictions without deviations."""
    found = []
    for quantity, parts in assess(sets).items():
        names = list(parts["sets"])
        if names:
            found += [_calibration_figure(quantity, parts["sets"], names), _error_figure(quantity, parts["sets"], names)]
        if parts["detection"]:
            found.append(_detection_figure(quantity, parts["detection"]))
    return found


def words(assessment: Mapping[str, Any]) -> list[str]:
    """The main numbers in a sentence for each set and quantity."""
    lines = []
    for quantity, parts in assessment.items():
        for name, m in parts["sets"].items():
            sure = "too sure" if m["ratio"] > 1.25 else "too unsure" if m["ratio"] < 0.8 else "of the right size"
            lines.append(
                f"{name}, {quantity}: errors are {m['ratio']:.2g} of the stated deviations ({sure}), rank correlation {m['spearman']:.2f}"
            )
        for name, d in parts["detection"].items():
            lines.append(f"{name} told apart from {d['known']} by the deviation of the {quantity}: AUROC {d['auroc']:.3f}")
    return lines


def _rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    a, b = rankdata(a), rankdata(b)
    if len(a) < 2 or a.std() == 0.0 or b.std() == 0.0:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])


def _calibration_figure(quantity: str, sets: Mapping[str, Any], names: list[str]) -> dict[str, Any]:
    data = [_line(i, name, sets[name]["expected"], sets[name]["observed"]) for i, name in enumerate(names)]
    ratios = ", ".join(f"{name} {sets[name]['ratio']:.2g}" for name in names)
    caption = f"Above the dotted line the model is less sure than it might be, below it too sure. Root mean square of error over deviation: {ratios}."
    return _figure(f"calibration-{quantity}", f"Calibration: {QUANTITIES[quantity].split(',')[0]}", [_diagonal(0.0, 1.0), *data],
                   "part of the errors expected inside", "part found inside", caption)  # fmt: skip


def _error_figure(quantity: str, sets: Mapping[str, Any], names: list[str]) -> dict[str, Any]:
    data = [_line(i, name, sets[name]["sigma"], sets[name]["rmse"], "lines+markers") for i, name in enumerate(names)]
    values = np.array([v for name in names for v in sets[name]["sigma"] + sets[name]["rmse"]])
    values = values[values > 0]
    ends = (float(values.min()), float(values.max())) if len(values) else (0.1, 1.0)
    ranks = ", ".join(f"{name} {sets[name]['spearman']:.2f}" for name in names)
    caption = f"Bins of equally many values. On the dotted line errors are as large as stated. Rank correlation: {ranks}."
    figure = _figure(f"error-uncertainty-{quantity}", f"Error against uncertainty: {QUANTITIES[quantity]}", [_diagonal(*ends), *data],
                     "stated deviation", "root mean square error", caption)  # fmt: skip
    for axis in ("xaxis", "yaxis"):
        figure["layout"][axis]["type"] = "log"
    return figure


def _detection_figure(quantity: str, detection: Mapping[str, Any]) -> dict[str, Any]:
    data = [_line(i, f"{name} ({d['auroc']:.3f})", d["false"], d["true"]) for i, (name, d) in enumerate(detection.items())]
    known = next(iter(detection.values()))["known"]
    caption = (
        f"Structures told apart from those of {known} by the deviation alone; in brackets the area under the curve (½: chance, 1: all)."
    )
    return _figure(f"alarms-{quantity}", f"Foreign structures found by the deviation of the {quantity}", [_diagonal(0.0, 1.0), *data],
                   f"false alarms ({known})", "true alarms", caption)  # fmt: skip


def _line(index: int, name: str, x: list[float], y: list[float], mode: str = "lines") -> dict[str, Any]:
    style = {"color": colour(index), "width": 1.8}
    return {"type": "scatter", "mode": mode, "name": name, "x": _short(x), "y": _short(y), "line": style}


def _diagonal(low: float, high: float) -> dict[str, Any]:
    style = {"color": GREY, "width": 1, "dash": "dot"}
    return {"type": "scatter", "mode": "lines", "x": [low, high], "y": [low, high], "line": style, "showlegend": False, "hoverinfo": "skip"}


def _figure(name: str, title: str, data: list[dict[str, Any]], x: str, y: str, caption: str) -> dict[str, Any]:
    layout = {"xaxis": {"title": {"text": x}}, "yaxis": {"title": {"text": y}}}
    return {"name": name, "title": title, "data": data, "layout": layout, "caption": caption}


def _short(values: Sequence[float]) -> list[float]:
    return [float(f"{v:.4g}") for v in values]
