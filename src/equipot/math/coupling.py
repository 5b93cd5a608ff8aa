"""Clebsch-Gordan coefficients in the real basis, from Racah's closed formula in exact arithmetic.

Real basis: m = −l…l are the harmonics of `equipot.math.harmonics`, polar axis y, so that l = 1 is (x, y, z). Signs follow from two choices and
nothing else: Condon-Shortley SU(2) coefficients, and the change of basis `real_from_complex` with its factor (−i)^l, which makes every
coupling real, also where l1+l2+l3 is odd. C^1_{11}, for instance, is then a positive multiple of the cross product.
"""

from fractions import Fraction
from functools import cache
from math import factorial, sqrt

import numpy as np

E3NN_044_FLIPPED: frozenset[tuple[int, int, int]] = frozenset(
    [
        *((1, l, l) for l in range(2, 9)),
        *((3, l, l + 2) for l in range(4, 7)),
        *((4, l, l + 1) for l in range(4, 8)),
        *((5, l, l) for l in range(5, 9)),
    ]
)
"""Sorted triples (l1 ≤ l2 ≤ l3 ≤ 8) whose coupling, in every order, has the opposite sign in e3nn 0.4.4 (hence in MACE 0.3 and BOTNet)."""


@cache
def clebsch_gordan(l1: int, l2: int, l3: int) -> np.ndarray:
    """The coupling of degrees l1 and l2 to l3 in the real basis.

    C^{l3 m3}_{l1 m1, l2 m2} = √(2 l3+1) w3j[m1, m2, m3],  Σ w3j² = 1, so that Σ_{m1 m2} C[m1, m2, m3] C[m1, m2, m3'] = δ(m3, m3')
    and D^{l3} (a ⊗ b) = (D^{l1} a) ⊗ (D^{l2} b) for a ⊗ b = Σ C[m1, m2, :] a[m1] b[m2].

    Returns (2l1+1, 2l2+1, 2l3+1) float64, read-only. Signs are those of e3nn 0.6; e3nn 0.4.4 differs on `E3NN_044_FLIPPED`.
    Raises ValueError unless |l1−l2| ≤ l3 ≤ l1+l2. Source: G. Racah, Phys. Rev. 62, 438 (1942).

    >>> clebsch_gordan(1, 1, 0)[:, :, 0].round(4).tolist()
    [[0.5774, 0.0, 0.0], [0.0, 0.5774, 0.0], [0.0, 0.0, 0.5774]]
    """
    if min(l1, l2, l3) < 0 or not abs(l1 - l2) <= l3 <= l1 + l2:
        raise ValueError(f"degrees {l1} and {l2} do not couple to {l3}: expected |l1-l2| <= l3 <= l1+l2")
    q1, q2, q3 = (real_from_complex(l) for l in (l1, l2, l3))
    coupled = np.einsum("aA,bB,cC,abc->ABC", q1, q2, q3.conj(), _complex_clebsch_gordan(l1, l2, l3), optimize=True)
    result = np.ascontiguousarray(coupled.real)
    result[np.abs(result) < 1e-14] = 0.0
    result.setflags(write=False)
    return result


@cache
def real_from_complex(l: int) -> np.ndarray:
    """The unitary Q whose column M writes the real harmonic M in the complex ones m: Y_M = Σ_m conj(Q[m, M]) Y_lm, up to a common phase.

    Q = (−i)^l × {m < 0: (|m| → 1/√2, −|m| → −i/√2);  m = 0: 1;  m > 0: (−1)^m (m → 1/√2, −m → i/√2)}. Returns (2l+1, 2l+1) complex128.
    """
    q = np.zeros((2 * l + 1, 2 * l + 1), dtype=complex)
    q[l, l] = 1.0
    for m in range(1, l + 1):
        q[l - m, l + m] = sqrt(0.5)
        q[l - m, l - m] = -1j * sqrt(0.5)
        q[l + m, l + m] = (-1) ** m * sqrt(0.5)
        q[l + m, l - m] = (-1) ** m * 1j * sqrt(0.5)
    return (-1j) ** l * q


def _complex_clebsch_gordan(l1: int, l2: int, l3: int) -> np.ndarray:
    """⟨l1 m1 l2 m2 | l3 m3⟩ as (2l1+1, 2l2+1, 2l3+1), Condon-Shortley."""
    result = np.zeros((2 * l1 + 1, 2 * l2 + 1, 2 * l3 + 1))
    for m1 in range(-l1, l1 + 1):
        for m2 in range(max(-l2, -l3 - m1), min(l2, l3 - m1) + 1):
            result[l1 + m1, l2 + m2, l3 + m1 + m2] = _racah(l1, m1, l2, m2, l3)
    return result


def _racah(l1: int, m1: int, l2: int, m2: int, l3: int) -> float:
    """⟨l1 m1 l2 m2 | l3 m1+m2⟩ by Racah's formula: an exact rational under one square root."""
    f, m3 = factorial, m1 + m2
    squared = Fraction((2 * l3 + 1) * f(l3 + l1 - l2) * f(l3 - l1 + l2) * f(l1 + l2 - l3), f(l1 + l2 + l3 + 1))
    squared *= f(l3 + m3) * f(l3 - m3) * f(l1 - m1) * f(l1 + m1) * f(l2 - m2) * f(l2 + m2)
    total = Fraction(0)
    for k in range(max(0, l2 - l3 - m1, l1 - l3 + m2), min(l1 + l2 - l3, l1 - m1, l2 + m2) + 1):
        denominator = f(k) * f(l1 + l2 - l3 - k) * f(l1 - m1 - k) * f(l2 + m2 - k) * f(l3 - l2 + m1 + k) * f(l3 - l1 - m2 + k)
        total += Fraction((-1) ** k, denominator)
    magnitude = sqrt(squared * total * total)
    return magnitude if total > 0 else -magnitude
