"""One probe of one model: the curve predicted beside the reference, and what is measured of it."""

import csv
import io
from dataclasses import dataclass, replace
from pathlib import Path as File

import numpy as np

from equipot.data.frame import species_index
from equipot.data.labels import Keys
from equipot.data.readers import read_frames
from equipot.data.units import Units
from equipot.errors import UserError
from equipot.model import Potential, load_model
from equipot.study.probes import measures
from equipot.study.probes.coordinates import coordinates, split_curves
from equipot.study.probes.generate import Path, generate
from equipot.study.probes.spec import ProbeSpec
from equipot.train.evaluation import evaluate_frames
from equipot.whole_file import write_whole

COLUMNS = ("coordinate", "prediction", "reference", "zero", "forces_rmse", "curve", "axis")
UNITS = {
    "energy_mae": "eV",
    "energy_rmse": "eV",
    "energy_max": "eV",
    "shape_rmse": "eV",
    "range_error": "eV",
    "forces_mae": "eV/Å",
    "forces_rmse": "eV/Å",
    "curvature_rmse": "eV/x²",
    "spurious_minima": "",
    "missed_minima": "",
    "roughness": "",
    "reference_roughness": "",
    "wrong_force_sign": "",
    "short_range_force": "eV/x",
    "limit_error": "eV",
}


@dataclass(frozen=True)
class Curve:
    """A path with energies (n,) eV of the model and, where there are any, of the reference; `zero`: what plots count from, eV."""

    path: Path
    predicted: np.ndarray
    reference: np.ndarray | None
    zero: float
    limit: float | None = None  # energy of the separated parts, each alone
    force_errors: list[np.ndarray | None] | None = None  # (atoms, 3) of each frame, eV/Å


def evaluate_probe(spec: ProbeSpec, model_path: str | File, out_folder: str | File) -> dict[str, tuple[float, str]]:
    """Measures by name, with units, of the model's curves; the curves go to `probe-NAME.csv` in the folder, NAME being the
    probe's or, without one, the folder's.

    energy_*, forces_*: errors against the labels, where there are any; shape_rmse: of the energy less its mean error per curve; range_error:
    of the highest less the lowest energy; spurious_minima, missed_minima, roughness, curvature_rmse, wrong_force_sign: see `measures`, summed
    (minima) or averaged over the curves; short_range_force: lowest −dE/dx at the short end; limit_error: largest |E − Σ E(parts alone)| at the
    far end of what separates, E0 for a single atom. "x" in a unit is the coordinate's. Raises UserError for frames, coordinates or elements that do not fit.
    """
    potential = load_model(model_path)
    curves = predict_curves(load_paths(spec, potential), potential)
    folder = File(out_folder)
    write_curves(curves, folder / f"probe-{spec.name or folder.resolve().name}.csv")
    return {name: (value, UNITS[name]) for name, value in measure(curves).items()}


def load_paths(spec: ProbeSpec, potential: Potential) -> list[Path]:
    """The curves of a probe, each in the order of its coordinate."""
    if spec.generate is not None:
        return generate(spec.generate, potential.spec.elements, potential.spec.cutoff)
    return labelled_paths(spec)


def check_frames(spec: ProbeSpec) -> None:
    """Raises UserError where the frames of a probe, or their coordinates, cannot be had: before anything runs."""
    if spec.generate is None:
        labelled_paths(spec)
        return
    for file in spec.files():
        read_frames(file)


def labelled_paths(spec: ProbeSpec) -> list[Path]:
    """The curves of a file. Raises UserError where frames or coordinates are missing."""
    frames = read_frames(spec.files(), Keys(**spec.keys.model_dump()), Units(**spec.units.model_dump()))
    paths = []
    for name, members in split_curves(frames, spec.curves).items():
        chosen = [frames[i] for i in members]
        if len({f.energy is None for f in chosen}) > 1:
            raise UserError(f"{chosen[0].file}: some frames of the curve {name} have an energy and some have none")
        x = coordinates(chosen, spec.coordinate)
        order = np.argsort(x, kind="stable")
        paths.append(Path(name, [chosen[i] for i in order], x[order], spec.coordinate.axis, distance=spec.coordinate.kind == "distance"))
    return paths


def predict_curves(paths: list[Path], potential: Potential) -> list[Curve]:
    """The model's energies along every curve."""
    found = evaluate_frames(potential, [f for p in paths for f in p.frames]).predictions
    curves = []
    for path in paths:
        mine, found = found[: len(path.frames)], found[len(path.frames) :]
        predicted = np.array([p["energy"] for p in mine])
        if not np.isfinite(predicted).all():
            raise UserError(f"{path.frames[int(np.argmin(np.isfinite(predicted)))].source}: the model's energy is not finite")
        labelled = path.frames[0].energy is not None
        reference = np.array([f.energy for f in path.frames]) if labelled else None
        errors = [None if f.forces is None else p["forces"] - f.forces for f, p in zip(path.frames, mine, strict=True)]
        limit = _parts_alone(path, potential) if path.parts else None
        zero = float(reference.min()) if labelled else float(predicted.min()) if limit is None else limit
        curves.append(Curve(path, predicted, reference, zero, limit, errors))
    return curves


def _parts_alone(path: Path, potential: Potential) -> float:
    """Σ E of the separated parts, each computed alone; of a single atom its E0, which is not the model's to decide."""
    last, atoms = path.frames[-1], [part[0] for part in path.parts if len(part) == 1]
    e0 = potential.e0[species_index(last.numbers[atoms], list(potential.spec.elements), last.source)] if atoms else potential.e0[:0]
    alone = [replace(last, numbers=last.numbers[part], positions=last.positions[part]) for part in path.parts if len(part) > 1]
    groups = evaluate_frames(potential, alone).predictions if alone else []
    return float(e0.sum()) + float(sum(p["energy"] for p in groups))


def measure(curves: list[Curve]) -> dict[str, float]:
    """All that can be measured of these curves; see `evaluate_probe`."""
    found: dict[str, float] = {}
    if errors := [c.predicted - c.reference for c in curves if c.reference is not None]:
        found |= _errors("energy", np.concatenate(errors))
        found["energy_max"] = float(max(np.abs(e).max() for e in errors))
        found["shape_rmse"] = float(np.sqrt(np.mean(np.concatenate([e - e.mean() for e in errors]) ** 2)))
        found["range_error"] = float(np.mean([abs(np.ptp(c.predicted) - np.ptp(c.reference)) for c in curves if c.reference is not None]))
    if forces := [e.ravel() for c in curves for e in c.force_errors or [] if e is not None]:
        found |= _errors("forces", np.concatenate(forces))
    shapes = [_shape(c) for c in curves]
    for name, gather in (
        ("spurious_minima", np.sum),
        ("missed_minima", np.sum),
        ("roughness", np.mean),
        ("reference_roughness", np.mean),
        ("curvature_rmse", np.mean),
        ("wrong_force_sign", np.mean),
        ("short_range_force", np.min),
    ):
        if values := [s[name] for s in shapes if name in s]:
            found[name] = float(gather(values))
    if limits := [abs(c.predicted[-1] - c.limit) for c in curves if c.limit is not None]:
        found["limit_error"] = float(max(limits))
    return found


def _shape(curve: Curve) -> dict[str, float]:
    x, predicted, reference = measures.tidy(curve.path.coordinate, curve.predicted, curve.reference)
    if len(x) < 3:
        return {}
    spurious, missed = measures.unmatched_minima(x, predicted, reference)
    found: dict[str, float] = {"spurious_minima": spurious}
    if len(x) >= 5:
        found["roughness"] = measures.roughness(x, predicted)
    if reference is not None:
        found["missed_minima"] = missed
        found["curvature_rmse"] = measures.curvature_error(x, predicted, reference)
        if len(x) >= 5:
            found["reference_roughness"] = measures.roughness(x, reference)
    if reference is not None or curve.path.distance:
        found["wrong_force_sign"] = measures.wrong_signs(x, predicted, reference)
    if curve.path.distance:
        found["short_range_force"] = float(measures.inner_force(x, predicted).min())
    return found


def _errors(name: str, errors: np.ndarray) -> dict[str, float]:
    return {f"{name}_mae": float(np.abs(errors).mean()), f"{name}_rmse": float(np.sqrt(np.mean(errors**2)))}


def write_curves(curves: list[Curve], file: File) -> None:
    """The curves as CSV with `COLUMNS`: energies in eV; what there is none of is empty."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(COLUMNS)
    for c in curves:
        for i, x in enumerate(c.path.coordinate):
            reference = "" if c.reference is None else f"{c.reference[i]:.12g}"
            error = c.force_errors[i] if c.force_errors else None
            force = "" if error is None else f"{float(np.sqrt(np.mean(error**2))):.6g}"
            rows.writerow([f"{x:.9g}", f"{c.predicted[i]:.12g}", reference, f"{c.zero:.12g}", force, c.path.name, c.path.axis])
    write_whole(file, text.getvalue().encode())
