"""Reference energies E0 of the elements: isolated atoms, given values, a least-squares fit, or the mean energy per atom."""

import logging
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from equipot.data.elements import SAME_ENERGY, composition_matrix, isolated_energies
from equipot.data.frame import Frame, elements_of, to_numbers
from equipot.errors import UserError

log = logging.getLogger("equipot.data")

Kind = Literal["isolated", "given", "least-squares", "mean"]
LEAST_SQUARES = "least-squares"
COSTS = (
    "the model's energy of separated atoms means nothing: no right dissociation limit, no atomisation energies, and E0 is comparable "
    "neither with other models nor with other data; give isolated-atom frames or reference_energies where that matters"
)


@dataclass(frozen=True)
class References:
    """E0 (eV) by symbol, how it was found, and what that means in one line."""

    energies: dict[str, float]
    kind: Kind
    message: str

    def as_array(self, elements: list[str] | list[int]) -> np.ndarray:
        """(n_elements,) float64 eV; raises UserError for an element without E0."""
        by_number = {to_numbers([s])[0]: e for s, e in self.energies.items()}
        numbers = to_numbers(elements)
        missing = [str(e) for e, z in zip(elements, numbers, strict=True) if z not in by_number]
        if missing:
            raise UserError(f"no reference energy of {', '.join(missing)}: there are {', '.join(self.energies)}")
        return np.array([by_number[z] for z in numbers])

    def of(self, frame: Frame) -> float:
        """Σ E0 (eV) of a frame's atoms; raises UserError for an element without E0."""
        numbers, counts = np.unique(frame.numbers, return_counts=True)
        return float(counts @ self.as_array([int(z) for z in numbers]))


def reference_energies(frames: list[Frame], isolated: list[Frame] | None = None, given: dict[str, Any] | str | None = None) -> References:
    """E0 of every element in `frames`: from `isolated` frames, else `given` by symbol (eV), else by least squares with a warning.

    `given` may be "least-squares", which asks for the fit even for elements without an isolated atom. Where there is one composition only
    (water, Li27P12S44) nothing tells the elements apart and the mean energy per atom is every element's E0. Raises UserError where some elements
    have an E0 and others have none, or no frame has an energy.
    """
    elements = elements_of(frames)
    free = isolated_energies(isolated or [])
    stated = _stated(given)
    energies = {**stated, **free}
    missing = [e for e in elements if e not in energies]
    if given == LEAST_SQUARES and missing:
        free, energies = {}, {}
    if not energies:
        return _fitted(frames, elements, asked=given == LEAST_SQUARES)
    if missing:
        found = ", ".join(energies)
        raise UserError(
            f"no reference energy of {', '.join(missing)} (there are {found}): add an isolated-atom frame or reference_energies of it"
        )
    return References({e: energies[e] for e in elements}, "isolated" if free else "given", _said(elements, free, stated))


def _stated(given: dict[str, Any] | str | None) -> dict[str, float]:
    if isinstance(given, str) and given != LEAST_SQUARES:
        raise UserError(f"reference_energies: {given!r} is neither {LEAST_SQUARES!r} nor a table such as {{H: -13.6, O: -2041.8}}")
    stated = {}
    for symbol, value in given.items() if isinstance(given, dict) else ():
        to_numbers([symbol])
        if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
            raise UserError(f"reference_energies: {symbol}: {value!r} is not an energy in eV")
        stated[str(symbol).capitalize()] = float(value)
    return stated


def _said(elements: list[str], free: dict[str, float], stated: dict[str, float]) -> str:
    parts = []
    if free:
        parts.append(f"E0 of {', '.join(e for e in elements if e in free)} from isolated atoms")
    if any(e not in free for e in elements):
        parts.append(f"E0 of {', '.join(e for e in elements if e not in free)} as given")
    different = [e for e in elements if e in free and e in stated and abs(free[e] - stated[e]) > SAME_ENERGY]
    if different:
        parts.append(f"given values of {', '.join(different)} differ from the isolated atoms and are not used")
        log.warning(parts[-1])
    return "; ".join(parts)


def _fitted(frames: list[Frame], elements: list[str], asked: bool) -> References:
    labelled = [f for f in frames if f.energy is not None]
    if not labelled:
        raise UserError(
            "no frame has an energy, so reference energies cannot be fitted: name the energy in keys, or give reference_energies"
        )
    counts = composition_matrix(labelled, elements)
    energy = np.array([f.energy for f in labelled])
    mean = float(energy.sum() / counts.sum())
    rank = int(np.linalg.matrix_rank(counts))
    if 1 == rank < len(elements):
        why = "all frames have one composition, which does not tell the elements apart, so E0 is the mean energy per atom"
        energies, kind, figure = np.full(len(elements), mean), "mean", f"{mean:.6g} eV for {', '.join(elements)}"
    else:
        # About the mean, so that what the compositions leave open stays at the mean energy per atom.
        energies = mean + np.linalg.lstsq(counts, energy - mean * counts.sum(axis=1), rcond=None)[0]
        residual = float(np.sqrt(np.mean(((energy - counts @ energies) / counts.sum(axis=1)) ** 2)))
        why = "E0 is fitted to the compositions by least squares" + (
            "" if asked else ", because there are no isolated atoms and none is given"
        )
        why += (
            "" if rank == len(elements) else f"; the compositions fix {rank} combinations of {len(elements)} elements, the rest is the mean"
        )
        kind, figure = "least-squares", f"residual {residual:.4g} eV/atom"
    result = References(dict(zip(elements, map(float, energies), strict=True)), kind, f"{why} ({figure}): {COSTS}")
    log.warning(result.message)
    return result
