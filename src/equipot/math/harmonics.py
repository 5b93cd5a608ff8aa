"""Real spherical harmonics of directions and their gradients in closed form.

With n = v/|v| = (x, y, z) and polar axis y, Y_lm = N_lm P_l^(|m|)(y) × {Im (z+ix)^|m| for m < 0, 1 for m = 0, Re (z+ix)^m for m > 0}, P_l^(m)
the m-th derivative of the Legendre polynomial and N_lm² = (2l+1)(2 − δ_m0)(l−|m|)!/(l+|m|)!, so that Σ_m Y_lm² = 2l+1 (component normalisation).
No Condon-Shortley sign. Index of (l, m): l² + l + m; l = 1 is √3 (x, y, z).
"""

from math import factorial, sqrt

import numpy as np


def real_harmonics(l_max: int, v: np.ndarray) -> np.ndarray:
    """Y_lm(v/|v|) for l ≤ l_max, component-normalised.

    Args: v (…, 3) of any non-zero length. Returns (…, (l_max+1)²) float64; a zero vector gives the values at n = 0: finite, directionless.
    """
    n, _ = _normalise(v)
    legendre = _legendre_derivatives(l_max, n[..., 1])
    powers = _complex_powers(l_max, n)
    columns = [harmonic_norm(l, m) * legendre[l][abs(m)] * _azimuthal(powers, m) for l in range(l_max + 1) for m in range(-l, l + 1)]
    return np.stack(columns, axis=-1)


def real_harmonics_gradient(l_max: int, v: np.ndarray) -> np.ndarray:
    """∂Y_lm(v/|v|)/∂v = (1 − n nᵀ) ∇Y_lm(n) / |v|.

    Args: v (…, 3) of non-zero length. Returns (…, (l_max+1)², 3) float64.
    """
    n, length = _normalise(v)
    legendre = _legendre_derivatives(l_max, n[..., 1])
    powers = _complex_powers(l_max, n)
    rows = [_polynomial_gradient(l, m, legendre[l], powers) for l in range(l_max + 1) for m in range(-l, l + 1)]
    gradient = np.stack(rows, axis=-2)
    along = np.einsum("...Ma,...a->...M", gradient, n)
    return (gradient - along[..., None] * n[..., None, :]) / length[..., None, None]


def _polynomial_gradient(l: int, m: int, legendre: list[np.ndarray], powers: list[np.ndarray]) -> np.ndarray:
    """Gradient (…, 3) of N P_l^(|m|)(y) · Re or Im (z+ix)^|m| as a polynomial in three free variables."""
    a = abs(m)
    lower = a * powers[a - 1] if a else np.zeros_like(powers[0])  # d/dz of (z+ix)^a; d/dx is i times it
    d_z, d_x = (lower.imag, lower.real) if m < 0 else (lower.real, -lower.imag)
    d_y = legendre[a + 1] * _azimuthal(powers, m)
    return harmonic_norm(l, m) * np.stack([legendre[a] * d_x, d_y, legendre[a] * d_z], axis=-1)


def _normalise(v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    v = np.asarray(v, dtype=float)
    length = np.sqrt((v * v).sum(-1))
    length = np.where(length > 0, length, 1.0)
    return v / length[..., None], length


def harmonic_norm(l: int, m: int) -> float:
    """N_lm of the component normalisation: √((2l+1)(2 − δ_m0)(l−|m|)!/(l+|m|)!)."""
    return sqrt((2 * l + 1) * (2 if m else 1) * factorial(l - abs(m)) / factorial(l + abs(m)))


def _azimuthal(powers: list[np.ndarray], m: int) -> np.ndarray:
    return powers[-m].imag if m < 0 else powers[m].real


def _complex_powers(l_max: int, n: np.ndarray) -> list[np.ndarray]:
    """(z + ix)^m for m = 0 … l_max."""
    w = n[..., 2] + 1j * n[..., 0]
    powers = [np.ones_like(w)]
    for _ in range(l_max):
        powers.append(powers[-1] * w)
    return powers


def _legendre_derivatives(l_max: int, y: np.ndarray) -> list[list[np.ndarray]]:
    """result[l][m] = d^m P_l/dy^m for m ≤ l+1, by (l−m) P_l^(m) = (2l−1) y P_{l−1}^(m) − (l+m−1) P_{l−2}^(m)."""
    zero, one = np.zeros_like(y), np.ones_like(y)
    table = [[one, zero]]
    for l in range(1, l_max + 1):
        row = []
        for m in range(l):
            below = table[l - 2][m] if m <= l - 2 else zero
            row.append(((2 * l - 1) * y * table[l - 1][m] - (l + m - 1) * below) / (l - m))
        top = (2 * l - 1) * table[l - 1][l - 1]
        table.append([*row, top, zero])
    return table
