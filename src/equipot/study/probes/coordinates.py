"""The coordinate of each frame of a curve, and which frames make a curve."""

import re

import ase.geometry
import numpy as np

from equipot.data.frame import Frame
from equipot.errors import UserError
from equipot.study.probes.spec import N_ATOMS, CoordinateSpec

_ITEM = re.compile(r"(?P<field>.+)\[(?P<index>\d+)\]")
_VOIGT = {"xx": (0, 0), "yy": (1, 1), "zz": (2, 2), "yz": (1, 2), "xz": (0, 2), "xy": (0, 1)}


def coordinates(frames: list[Frame], spec: CoordinateSpec) -> np.ndarray:
    """(n,) coordinate of every frame. Raises UserError naming the first frame that has none."""
    if spec.kind == "index":
        return np.arange(len(frames), dtype=np.float64)
    if spec.kind == "strain":
        return _strains(frames, spec)
    return np.array([_one(frame, spec) for frame in frames])


def split_curves(frames: list[Frame], by: str) -> dict[str, list[int]]:
    """Numbers of the frames of each curve by its name, in order of appearance; raises UserError for a field that a frame lacks."""
    curves: dict[str, list[int]] = {}
    for i, frame in enumerate(frames):
        if by == "one":
            name = "all"
        elif by == "composition":
            name = frame.atoms().get_chemical_formula()
        else:
            name = _label(frame, by)
        curves.setdefault(name, []).append(i)
    return curves


def _label(frame: Frame, by: str) -> str:
    """The value of a field, or of `field[i]`, the i-th number of it; numbers to the nearest whole one, so that a curve is not torn by rounding."""
    match = _ITEM.fullmatch(by)
    value = _number(frame, CoordinateSpec(field=match["field"], component=int(match["index"]))) if match else _field(frame, by)
    return f"{by} {value:.0f}" if isinstance(value, float | np.floating) else f"{by} {value}"


def _one(frame: Frame, spec: CoordinateSpec) -> float:
    if spec.kind == "field":
        return _number(frame, spec)
    if spec.kind == "volume":
        if frame.volume == 0.0:
            raise UserError(f"{frame.source}: has no cell, so no volume: take another coordinate")
        return frame.volume / frame.n_atoms
    atoms = getattr(spec, spec.kind)
    if max(atoms) >= frame.n_atoms:
        raise UserError(f"{frame.source}: coordinate {spec.kind} {atoms}: the frame has {frame.n_atoms} atoms, numbered from 0")
    return _internal(frame, atoms)


def _internal(frame: Frame, atoms: list[int]) -> float:
    steps = np.diff(frame.positions[atoms], axis=0)
    vectors = ase.geometry.find_mic(steps, frame.cell, frame.pbc)[0] if frame.pbc.any() else steps
    if len(atoms) == N_ATOMS["distance"]:
        return float(np.linalg.norm(vectors[0]))
    if len(atoms) == N_ATOMS["angle"]:
        return float(ase.geometry.get_angles(-vectors[:1], vectors[1:])[0])
    return float(ase.geometry.get_dihedrals(vectors[:1], vectors[1:2], vectors[2:])[0])


def _number(frame: Frame, spec: CoordinateSpec) -> float:
    value = _field(frame, spec.field)
    try:
        return float(np.ravel(value)[spec.component] if spec.component is not None else value)
    except (TypeError, ValueError, IndexError):
        hint = "" if spec.component is not None else "; of a list, say which with component"
        raise UserError(f"{frame.source}: coordinate field {spec.axis} is {value!r}, not one number{hint}") from None


def _field(frame: Frame, name: str):
    if name == "config_type":
        return frame.config_type
    if name not in frame.info:
        raise UserError(f"{frame.source}: has no field {name!r}; it has {', '.join(sorted(frame.info)) or 'none'}")
    return frame.info[name]


def _strains(frames: list[Frame], spec: CoordinateSpec) -> np.ndarray:
    """Deformation F with cell = cell0 Fᵀ; volume: det F − 1; a component: that of (F + Fᵀ)/2 − 1."""
    if spec.zero >= len(frames):
        raise UserError(f"coordinate strain: there is no frame {spec.zero} among {len(frames)}, numbered from 0")
    for frame in frames:
        if frame.volume == 0.0:
            raise UserError(f"{frame.source}: has no cell, so no strain: take another coordinate")
    deformations = [np.linalg.solve(frames[spec.zero].cell, f.cell).T for f in frames]
    if spec.strain == "volume":
        return np.array([np.linalg.det(f) - 1.0 for f in deformations])
    place = _VOIGT[spec.strain]
    return np.array([((f + f.T) / 2.0 - np.eye(3))[place] for f in deformations])
