"""Isolated atoms among the frames, and the composition of the others."""

import numpy as np
from ase.data import chemical_symbols

from equipot.data.frame import Frame, elements_of, to_numbers
from equipot.errors import UserError

SAME_ENERGY = 1e-3  # eV, by which two energies of the same isolated atom may differ


def is_isolated_atom(frame: Frame) -> bool:
    """Whether a frame is a free atom: called so by `config_type` (isolated_atom, IsolatedAtom … in any case), or one atom without periodicity.

    Raises UserError where the name says so and the frame has several atoms.
    """
    named = frame.config_type.lower().replace("_", "").replace("-", "").replace(" ", "") == "isolatedatom"
    if named and frame.n_atoms != 1:
        raise UserError(
            f"{frame.file}, frame {frame.index}: config_type {frame.config_type!r} on {frame.n_atoms} atoms; rename it or remove the frame"
        )
    return named or (frame.n_atoms == 1 and not frame.pbc.any())


def separate_isolated(frames: list[Frame]) -> tuple[list[Frame], list[Frame]]:
    """The frames to train on, and the isolated atoms among them, both in order."""
    flags = [is_isolated_atom(f) for f in frames]
    return [f for f, flag in zip(frames, flags, strict=True) if not flag], [f for f, flag in zip(frames, flags, strict=True) if flag]


def isolated_energies(frames: list[Frame]) -> dict[str, float]:
    """Energy (eV) of each isolated atom by symbol; raises UserError for one without an energy or two that disagree."""
    found: dict[str, Frame] = {}
    for frame in sorted(frames, key=lambda f: int(f.numbers[0])):
        symbol, where = chemical_symbols[frame.numbers[0]], f"{frame.file}, frame {frame.index}"
        if frame.energy is None:
            raise UserError(f"{where}: an isolated {symbol} atom without an energy; give it one, or remove the frame")
        first = found.setdefault(symbol, frame)
        if abs(frame.energy - first.energy) > SAME_ENERGY:
            difference = abs(frame.energy - first.energy)
            raise UserError(f"{where}: an isolated {symbol} atom whose energy differs by {difference:.4g} eV from {first.source}; keep one")
    return {symbol: frame.energy for symbol, frame in found.items()}


def composition_matrix(frames: list[Frame], elements: list[str] | list[int] | None = None) -> np.ndarray:
    """(n_frames, n_elements) float64, how many atoms of each element a frame has; elements by atomic number unless given."""
    numbers = to_numbers(elements if elements is not None else elements_of(frames))
    return np.array([[np.count_nonzero(f.numbers == z) for z in numbers] for f in frames], dtype=np.float64).reshape(
        len(frames), len(numbers)
    )
