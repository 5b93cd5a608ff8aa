"""Laws of derivatives: forces and stress are what the energy says, by finite differences in float64."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from equipot.analysis.checks.context import Context
from equipot.analysis.checks.registry import Finding, check
from equipot.analysis.checks.symmetry import RELATIVE, largest, largest_of, name_of
from equipot.data.frame import Frame
from equipot.spec import smoothness

# Å; without unit for strain. The first is too long where the energy is steep, and where a form is less than C2 and an atom might cross the cutoff
STEPS = (2e-3, 3e-4, 1e-4)
STENCIL = ((-2, 1 / 12), (-1, -2 / 3), (1, 2 / 3), (2, -1 / 12))  # d/dx to fourth order
TOLERANCE = 1e-5
N_DIRECTIONS = 4
LARGE = 40  # atoms


@check("forces", "law", "force = −∇E by finite differences")
def forces(context: Context) -> Finding:
    """F·d against −dE along d, for single coordinates and for random displacements d of all atoms."""
    rng = context.random("forces")
    found = []
    for frame, answer in zip(context.structures, context.answers, strict=True):
        for direction in _directions(frame, rng):
            exact = -float(np.sum(answer.forces * direction))
            deviation = _deviation(
                context, exact, lambda x, f=frame, d=direction: replace(f, positions=f.positions + x * d), context.scale(answer)
            )
            words = f"by {deviation:.1e} eV/Å of {answer.force_scale:.2g} eV/Å in {name_of(frame)}"
            found.append((deviation / context.scale(answer), words))
    value, words = largest_of(found)
    return Finding(value, TOLERANCE, RELATIVE, f"differ at most {words} ({len(found)} directions)")


@check("stress", "law", "stress = (1/V) dE/dε by finite differences")
def stress(context: Context) -> Finding:
    """V σ : ε against dE/dε for the six strains, of large cells for two random ones; positions and cell are strained alike."""
    rng, found = context.random("stress"), []
    for frame in context.crystals:
        (answer,) = context.evaluate([frame], stress=True)
        strains = _six_strains() if frame.n_atoms <= LARGE else [_random_strain(rng) for _ in range(2)]
        scale = context.scale(answer) * frame.n_atoms
        deviations = [
            _deviation(context, frame.volume * float(np.sum(answer.stress * e)), lambda x, f=frame, e=e: _strained(f, x * e), scale)
            for e in strains
        ]
        deviation = largest(np.array(deviations)) / frame.volume
        words = f"by {deviation:.1e} eV/Å³ of {largest(answer.stress):.2g} eV/Å³ in {name_of(frame)}"
        found.append((deviation * frame.volume / frame.n_atoms / context.scale(answer), words))
    value, words = largest_of(found)
    return Finding(value, TOLERANCE, RELATIVE, f"differ at most {words}")


def _six_strains() -> list[np.ndarray]:
    """The symmetric strains of a single component, or of two equal ones of half the size."""
    strains = []
    for a in range(3):
        for b in range(a, 3):
            strain = np.zeros((3, 3))
            strain[a, b] += 0.5
            strain[b, a] += 0.5
            strains.append(strain)
    return strains


def _random_strain(rng: np.random.Generator) -> np.ndarray:
    strain = rng.normal(size=(3, 3))
    return (strain + strain.T) / np.linalg.norm(strain + strain.T)


def _strained(frame: Frame, strain: np.ndarray) -> Frame:
    deformation = np.eye(3) + strain
    return replace(frame, positions=frame.positions @ deformation, cell=frame.cell @ deformation)


def _deviation(context: Context, exact: float, at: Callable[[float], Frame], scale: float) -> float:
    """How far dE/dx is from `exact`: the least of several steps, as a wrong derivative is wrong for all of them, and a large step only where E is steep."""
    deviation = np.nan
    for step in STEPS if smoothness(context.spec) == "C2" else STEPS[1:]:
        deviation = np.fmin(deviation, abs(_slope(context, at, step) - exact))
        if deviation <= 0.1 * TOLERANCE * scale:
            break
    return float(deviation)


def _slope(context: Context, at: Callable[[float], Frame], step: float) -> float:
    """dE/dx at x = 0 of the structures at(x)."""
    answers = context.evaluate([at(s * step) for s, _ in STENCIL])
    return sum(weight * answer.energy for (_, weight), answer in zip(STENCIL, answers, strict=True)) / step


def _directions(frame: Frame, rng: np.random.Generator) -> list[np.ndarray]:
    """Half of them one coordinate of one atom, half all atoms at once; each of unit length."""
    chosen = []
    for index in range(N_DIRECTIONS if frame.n_atoms <= LARGE else 2):
        direction = rng.normal(size=(frame.n_atoms, 3))
        if index % 2 == 0:
            single = np.zeros(direction.size)
            single[rng.integers(direction.size)] = 1.0
            direction = single.reshape(-1, 3)
        chosen.append(direction / np.linalg.norm(direction))
    return chosen
