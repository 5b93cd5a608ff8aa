"""Radial families, cutoff envelopes and the distance transform, with first and second derivatives in closed form.

These are numpy float64 oracles: the torch versions of `equipot.ops.geometry` are compared with them. Every function takes distances r (…,) in Å and
`derivative` = 0, 1 or 2, the order of d/dr, and raises ValueError for another order.
"""

from math import factorial, pi

import numpy as np

AGNESI_A, AGNESI_Q, AGNESI_P = 1.0805, 0.9183, 4.5791
"""MACE's constants of the Agnesi transform, which has its steepest part near r0."""


def bessel(r: np.ndarray, cutoff: float, n: int, prefactor: float, derivative: int = 0) -> np.ndarray:
    """b_k(r) = c sin(kπr/r_c)/r, k = 1 … n, c the prefactor: √(2/r_c) normalises it on [0, r_c]. Smooth down to b_k(0) = c kπ/r_c.

    Returns (…, n). Source: Gasteiger et al., arXiv:2003.03123.
    """
    w = pi * np.arange(1, n + 1) / cutoff
    x = np.asarray(r, dtype=float)[..., None] * w
    return prefactor * w ** (derivative + 1) * _sinc(x, derivative)


def gaussian(r: np.ndarray, cutoff: float, n: int, derivative: int = 0) -> np.ndarray:
    """g_k(r) = exp(−(r−c_k)²/(2s²)), n ≥ 2 centres c_k evenly from 0 to r_c, s their spacing. Returns (…, n)."""
    _check_order(derivative)
    width = cutoff / (n - 1)
    t = (np.asarray(r, dtype=float)[..., None] - np.linspace(0.0, cutoff, n)) / width
    return np.exp(-0.5 * t * t) * [1.0, -t / width, (t * t - 1.0) / width**2][derivative]


def chebyshev(r: np.ndarray, cutoff: float, n: int, derivative: int = 0) -> np.ndarray:
    """T_k(2r/r_c − 1), k = 0 … n−1, Chebyshev polynomials of the first kind. Returns (…, n)."""
    _check_order(derivative)
    x = 2.0 * np.asarray(r, dtype=float) / cutoff - 1.0
    unit = np.polynomial.Chebyshev
    columns = [unit.basis(k).deriv(derivative)(x) if derivative else unit.basis(k)(x) for k in range(n)]
    return np.stack(columns, axis=-1) * (2.0 / cutoff) ** derivative


def polynomial_envelope(r: np.ndarray, cutoff: float, p: int, derivative: int = 0) -> np.ndarray:
    """u = 1 − (p+1)(p+2)/2 x^p + p(p+2) x^{p+1} − p(p+1)/2 x^{p+2}, x = r/r_c < 1, else 0.

    u, u' and u'' vanish at r_c for every p; they equal 1, 0, 0 at r = 0 for p ≥ 3. Returns (…,). Source: arXiv:2003.03123.
    """
    _check_order(derivative)
    x = np.asarray(r, dtype=float) / cutoff
    inner = np.where(x < 1.0, x, 0.0)
    b = p * (p + 1) * (p + 2) / 2.0
    if derivative == 0:
        value = 1.0 - b / p * inner**p + 2.0 * b / (p + 1) * inner ** (p + 1) - b / (p + 2) * inner ** (p + 2)
    elif derivative == 1:
        value = -b * inner ** (p - 1) * (1.0 - inner) ** 2 / cutoff
    else:
        value = -b * ((p - 1) * inner ** max(p - 2, 0) * (1.0 - inner) ** 2 - 2.0 * inner ** (p - 1) * (1.0 - inner)) / cutoff**2
    return np.where(x < 1.0, value, 0.0)


def cosine_envelope(r: np.ndarray, cutoff: float, derivative: int = 0) -> np.ndarray:
    """u = (1 + cos(πr/r_c))/2 for r < r_c, else 0: u and u' vanish at r_c, u'' jumps by −π²/(2r_c²). Returns (…,)."""
    _check_order(derivative)
    r = np.asarray(r, dtype=float)
    w = pi / cutoff
    value = [0.5 * (1.0 + np.cos(w * r)), -0.5 * w * np.sin(w * r), -0.5 * w * w * np.cos(w * r)][derivative]
    return np.where(r < cutoff, value, 0.0)


def agnesi(
    r: np.ndarray, r0: np.ndarray | float, a: float = AGNESI_A, q: float = AGNESI_Q, p: float = AGNESI_P, derivative: int = 0
) -> np.ndarray:
    """y(r) = 1/(1 + a x^q/(1 + x^{q−p})), x = r/r0, from 1 at contact towards 0; written with a x^p/(1 + x^{p−q}), finite at r = 0.

    Args: r (…,) and r0 broadcastable to it, Å, half the sum of the two covalent radii. Returns (…,), dimensionless.
    Source: MACE's `AgnesiTransform` (mace-torch 0.3); Witt et al., J. Chem. Phys. 159, 164101 (2023).
    """
    _check_order(derivative)
    r0 = np.asarray(r0, dtype=float)
    x = np.asarray(r, dtype=float) / r0
    s = p - q
    bottom, d_bottom = 1.0 + x**s, s * x ** (s - 1)
    g = a * x**p / bottom
    y = 1.0 / (1.0 + g)
    if derivative == 0:
        return y
    slope = a * (p * x ** (p - 1) * bottom - x**p * d_bottom) / bottom**2
    if derivative == 1:
        return -(y**2) * slope / r0
    numerator = p * (p - 1) * x ** (p - 2) * bottom - x**p * s * (s - 1) * x ** (s - 2)
    curvature = a * numerator / bottom**2 - 2.0 * slope * d_bottom / bottom
    return (2.0 * y**3 * slope**2 - y**2 * curvature) / r0**2


def soft(r: np.ndarray, r0: np.ndarray | float, derivative: int = 0) -> np.ndarray:
    """y(r) = p + (r − p) · ½(1 + tanh(4 (r − m)/(q − p))), p = ¾ r0, q = 4/3 r0, m their mean: p where atoms overlap, r where they do not.

    Args: r (…,) and r0 broadcastable to it, Å, the sum of the two covalent radii. Returns (…,), Å. Source: MACE's `SoftTransform` (mace-torch 0.3).
    """
    _check_order(derivative)
    low, high = 0.75 * np.asarray(r0, dtype=float), 4.0 / 3.0 * np.asarray(r0, dtype=float)
    steep = 4.0 / (high - low)
    t = np.tanh(steep * (np.asarray(r, dtype=float) - 0.5 * (low + high)))
    bell = 0.5 * steep * (1.0 - t * t)
    if derivative == 0:
        return low + (r - low) * 0.5 * (1.0 + t)
    if derivative == 1:
        return 0.5 * (1.0 + t) + (r - low) * bell
    return 2.0 * bell - 2.0 * (r - low) * bell * steep * t


def _sinc(x: np.ndarray, derivative: int) -> np.ndarray:
    """The derivative of sin(x)/x of order 0, 1 or 2, accurate at every x ≥ 0: its power series below 1."""
    _check_order(derivative)
    series = np.zeros_like(x)
    for k in range(10, -1, -1):
        power = 2 * k - derivative
        if power >= 0:
            falling = np.prod([2 * k - d for d in range(derivative)]) if derivative else 1.0
            series = series + (-1) ** k / factorial(2 * k + 1) * falling * x**power
    t = np.where(x < 1.0, 1.0, x)
    value = np.sin(t) / t
    if derivative >= 1:
        slope = (np.cos(t) - value) / t
        value = slope if derivative == 1 else -value - 2.0 * slope / t
    return np.where(x < 1.0, series, value)


def _check_order(derivative: int) -> None:
    if derivative not in (0, 1, 2):
        raise ValueError(f"derivative {derivative!r}: expected 0, 1 or 2")
