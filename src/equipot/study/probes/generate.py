"""Frames along a path, made without a reference: what each kind of path does to the atoms."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations_with_replacement

import numpy as np
from ase.data import atomic_numbers, chemical_symbols
from ase.neighborlist import natural_cutoffs, neighbor_list
from scipy.spatial.transform import Rotation

from equipot.analysis.checks.probes import bond, dimer
from equipot.data.frame import Frame
from equipot.data.readers import read_frames
from equipot.errors import UserError
from equipot.study.probes.spec import DimersSpec, GenerateSpec, LineSpec, RotateSpec, StretchSpec, TransferSpec, VolumeSpec

_BOND = 1.2  # sums of covalent radii within which atoms are taken as bonded
_BEYOND = 0.5  # Å past the cutoff, for dimers


@dataclass(frozen=True)
class Path:
    """Frames of one curve and their coordinate.

    `parts`: numbers of the atoms of each of the parts that the far end of the curve separates. `distance`: the short end has to repel.
    """

    name: str
    frames: list[Frame]
    coordinate: np.ndarray
    axis: str
    parts: list[list[int]] = field(default_factory=list)
    distance: bool = False


def generate(spec: GenerateSpec, elements: Sequence[int], cutoff: float) -> list[Path]:
    """The curves of a spec for a model of these elements and this cutoff (Å). Raises UserError for atoms that are not there."""
    made = spec.made
    if isinstance(made, DimersSpec):
        return dimers(made, elements, cutoff)
    frame = _structure(made.frame)
    if isinstance(made, StretchSpec):
        return [stretch(frame, made)]
    if isinstance(made, RotateSpec):
        return [rotate(frame, made)]
    if isinstance(made, TransferSpec):
        return [transfer(frame, made)]
    if isinstance(made, LineSpec):
        return [line(frame, _structure(made.towards), made)]
    assert isinstance(made, VolumeSpec)
    return [volume(frame, made)]


def dimers(spec: DimersSpec, elements: Sequence[int], cutoff: float) -> list[Path]:
    """r from `start` covalent radii to beyond the cutoff, for each pair of elements."""
    if spec.pairs is None:
        pairs = list(combinations_with_replacement(sorted(elements), 2))
    else:
        pairs = [tuple(atomic_numbers.get(s, 0) for s in pair.split("-")) for pair in spec.pairs]
        for text, pair in zip(spec.pairs, pairs, strict=True):
            if not set(pair) <= set(elements):
                known = ", ".join(chemical_symbols[z] for z in elements)
                raise UserError(f"probe dimers: pair {text}: the model knows {known}")
    paths = []
    for a, b in pairs:
        r = np.linspace(spec.start * bond(a, b), spec.stop or cutoff + _BEYOND, spec.n)
        name = f"{chemical_symbols[a]}-{chemical_symbols[b]}"
        parts = [[0], [1]] if r[-1] > cutoff else []
        paths.append(Path(name, [dimer(a, b, x) for x in r], r, "distance, Å", parts, distance=True))
    return paths


def stretch(frame: Frame, spec: StretchSpec) -> Path:
    """The second atom's side of the bond moves along it, rigidly."""
    i, j = spec.bond
    moving = _group(frame, i, j, spec.group)
    axis = _vector(frame, i, j)
    length = np.linalg.norm(axis)
    x = np.linspace(spec.start, spec.stop, spec.n)
    frames = [_moved(frame, moving, axis * (r / length - 1.0), f"bond {i}-{j} at {r:.3f} Å") for r in x]
    rest = [k for k in range(frame.n_atoms) if k not in moving]
    return Path("all", frames, x, f"distance {i}-{j}, Å", [rest, moving], distance=True)


def rotate(frame: Frame, spec: RotateSpec) -> Path:
    """What hangs on the third atom turns about the middle bond until the dihedral has the wanted value."""
    a, b, c, d = spec.dihedral
    moving = _group(frame, b, c, spec.group)
    if d not in moving:
        raise UserError(f"probe rotate: atom {d} is not on atom {c}'s side of the bond {b}-{c}: name the atoms that turn with group")
    if a in moving:
        raise UserError(f"probe rotate: atom {a} would turn along: the bond {b}-{c} is in a ring; name the atoms that turn with group")
    now = frame.atoms().get_dihedral(a, b, c, d)
    axis = _vector(frame, b, c)
    axis = axis / np.linalg.norm(axis)
    x = np.linspace(spec.start, spec.stop, spec.n)
    frames = []
    for angle in x:
        turn = Rotation.from_rotvec(axis * np.deg2rad(angle - now))
        positions = frame.positions.copy()
        positions[moving] = turn.apply(positions[moving] - positions[c]) + positions[c]
        frames.append(_bare(frame, positions, frame.cell, f"dihedral {a}-{b}-{c}-{d} at {angle:.1f}"))
    return Path("all", frames, x, f"dihedral {a}-{b}-{c}-{d}, degrees")


def transfer(frame: Frame, spec: TransferSpec) -> Path:
    """The hydrogen goes straight to the mirror of its place in the plane halfway between donor and acceptor; coordinate 0 to 1."""
    _check(frame, [spec.donor, spec.hydrogen, spec.acceptor])
    between = _vector(frame, spec.donor, spec.acceptor)
    normal = between / np.linalg.norm(between)
    from_middle = _vector(frame, spec.donor, spec.hydrogen) - between / 2.0
    step = -2.0 * (from_middle @ normal) * normal
    x = np.linspace(0.0, 1.0, spec.n)
    frames = [_moved(frame, [spec.hydrogen], t * step, f"transfer at {t:.3f}") for t in x]
    return Path("all", frames, x, f"proton transfer {spec.donor}-{spec.hydrogen}-{spec.acceptor}")


def line(frame: Frame, towards: Frame, spec: LineSpec) -> Path:
    """positions + x · (positions of the other − positions)."""
    if not np.array_equal(frame.numbers, towards.numbers):
        raise UserError(f"probe line: {frame.source} and {towards.source} have other atoms, or another order of them")
    step = towards.positions - frame.positions
    x = np.linspace(spec.start, spec.stop, spec.n)
    frames = [_bare(frame, frame.positions + t * step, frame.cell, f"line at {t:.3f}") for t in x]
    return Path("all", frames, x, "displacement")


def volume(frame: Frame, spec: VolumeSpec) -> Path:
    """Cell and positions scaled by the cube root of the ratio of volumes."""
    if not frame.has_stress_volume:
        raise UserError(f"{frame.source}: energy against volume needs a periodic cell")
    ratios = np.linspace(spec.start, spec.stop, spec.n)
    scales = np.cbrt(ratios)
    frames = [_bare(frame, frame.positions * s, frame.cell * s, f"volume {r:.3f}") for s, r in zip(scales, ratios, strict=True)]
    return Path("all", frames, ratios * frame.volume / frame.n_atoms, "volume, Å³ per atom")


def _structure(file: str) -> Frame:
    return read_frames(file)[0]


def _check(frame: Frame, atoms: Sequence[int]) -> None:
    for atom in atoms:
        if atom >= frame.n_atoms:
            raise UserError(f"{frame.source}: there is no atom {atom}; the frame has {frame.n_atoms}, numbered from 0")


def _group(frame: Frame, i: int, j: int, given: list[int] | None) -> list[int]:
    """The atoms that move with j: those given, or those bonded to it directly or by others, the bond to i cut."""
    _check(frame, [i, j, *(given or [])])
    if given is not None:
        return sorted(set(given))
    atoms = frame.atoms()
    first, second = neighbor_list("ij", atoms, [_BOND * c for c in natural_cutoffs(atoms)])
    cut = {(i, j), (j, i)}
    bonds = [(a, b) for a, b in zip(first.tolist(), second.tolist(), strict=True) if (a, b) not in cut]
    side, grown = {j}, True
    while grown:
        new = {b for a, b in bonds if a in side} - side
        grown = bool(new)
        side |= new
    if i in side:
        raise UserError(
            f"{frame.source}: atoms {i} and {j} are linked otherwise than by their bond (a ring): name the atoms that move with group"
        )
    return sorted(side)


def _vector(frame: Frame, i: int, j: int) -> np.ndarray:
    _check(frame, [i, j])
    return frame.atoms().get_distance(i, j, mic=bool(frame.pbc.any()), vector=True)


def _moved(frame: Frame, moving: list[int], step: np.ndarray, source: str) -> Frame:
    positions = frame.positions.copy()
    positions[moving] += step
    return _bare(frame, positions, frame.cell, source)


def _bare(frame: Frame, positions: np.ndarray, cell: np.ndarray, source: str) -> Frame:
    """A frame without labels: those of the structure it started from are not its own."""
    return replace(frame, positions=positions, cell=cell, energy=None, forces=None, stress=None, source=source)
