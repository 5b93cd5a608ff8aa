"""Functions of edge vectors and distances in plain torch: twice differentiable, finite everywhere, the reference for faster versions.

Axes: e edges, m components, n radial functions. Lengths in Å. `cutoff` is a float or an (E,) tensor. Everything accepts E = 0, r = 0 and r ≥ cutoff
and gives finite values, gradients and second gradients there.
"""

import math
from functools import cache

import numpy as np
import torch
from torch import Tensor

from equipot.math.harmonics import harmonic_norm
from equipot.math.radial import AGNESI_A, AGNESI_P, AGNESI_Q

_CONTACT = 0.02  # Å; closer than any physical distance: below it sin(wr)/r is its power series, which needs no division


def spherical_harmonics(vectors: Tensor, l_max: int) -> Tensor:
    """Real harmonics of the directions, component-normalised: Σ_m Y_lm² = 2l+1, polar axis y, l = 1 is √3 (x, y, z).

    Y_lm = N_lm P_l^(|m|)(y) × {Im (z+ix)^|m| for m < 0, 1 for m = 0, Re (z+ix)^m for m > 0} with n = v/|v| = (x, y, z); see
    `equipot.math.harmonics`. The factors are two small matrix products: powers of y, and real and imaginary parts of (z+ix)^m.

    Args: vectors (E, 3). Returns (E, (l_max+1)²), degree after degree; a zero vector counts as n = 0: finite, with a finite gradient.
    """
    squared = (vectors * vectors).sum(dim=1, keepdim=True)
    direction = vectors * torch.where(squared > 0, squared, 1.0).rsqrt()
    if l_max <= 1:
        degrees = [torch.ones_like(squared), math.sqrt(3.0) * direction]
        return torch.cat(degrees[: l_max + 1], dim=1)
    x, y, z = direction.t().contiguous().unbind(0)  # rows of length E: what follows is contiguous
    powers, waves = [torch.ones_like(y), y], [torch.ones_like(y), z, x]
    for _ in range(2, l_max + 1):
        cosine, sine = waves[-2:]
        powers.append(powers[-1] * y)
        waves += [z * cosine - x * sine, z * sine + x * cosine]
    legendre, select = _harmonic_factors(l_max, vectors.dtype, vectors.device)
    return ((legendre @ torch.stack(powers)) * (select @ torch.stack(waves))).t().contiguous()


@cache
def _harmonic_factors(l_max: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """N_lm P_l^(|m|) as coefficients of y^0 … y^l_max, ((l_max+1)², l_max+1), and which wave each (l, m) takes, ((l_max+1)², 2 l_max+1)."""
    n = (l_max + 1) ** 2
    legendre, select = np.zeros((n, l_max + 1)), np.zeros((n, 2 * l_max + 1))
    for l in range(l_max + 1):
        polynomial = np.polynomial.Legendre.basis(l).convert(kind=np.polynomial.Polynomial)
        for m in range(-l, l + 1):
            coefficients = harmonic_norm(l, m) * polynomial.deriv(abs(m)).coef
            legendre[l * l + l + m, : len(coefficients)] = coefficients
            select[l * l + l + m, 2 * m - 1 if m > 0 else -2 * m] = 1.0
    return torch.tensor(legendre, dtype=dtype, device=device), torch.tensor(select, dtype=dtype, device=device)


def bessel_basis(r: Tensor, frequencies: Tensor, prefactor: float) -> Tensor:
    """b_k(r) = c sin(w_k r)/r, continued smoothly to c w_k at r = 0.

    Args: r (E,); frequencies w (n,) in 1/Å, may require a gradient; prefactor c. Returns (E, n).
    """
    close = r < _CONTACT
    inverse = torch.where(close, 0.0, 1.0 / torch.where(close, 1.0, r))
    ratio = torch.sin(r.unsqueeze(1) * frequencies) * inverse.unsqueeze(1)
    # where close, the power series Σ_k (−1)^k w^{2k+1} r^{2k}/(2k+1)!; elsewhere its powers of r are zero
    t = torch.where(close, r * r, 0.0)
    powers = torch.stack([close.to(r.dtype), t, t * t, t * t * t, t * t * t * t], dim=1)
    exponents, coefficients = _sine_series(r.dtype, r.device)
    return prefactor * torch.addmm(ratio, powers, coefficients * frequencies**exponents)


@cache
def _sine_series(dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Exponents 2k+1 and coefficients (−1)^k/(2k+1)! for k = 0 … 4, each (5, 1)."""
    exponents = [1, 3, 5, 7, 9]
    coefficients = [(-1) ** k / math.factorial(2 * k + 1) for k in range(5)]
    return torch.tensor(exponents, dtype=dtype, device=device)[:, None], torch.tensor(coefficients, dtype=dtype, device=device)[:, None]


def gaussian_basis(r: Tensor, centres: Tensor, width: float) -> Tensor:
    """g_k(r) = exp(−(r−c_k)²/(2s²)). Args: r (E,), centres c (n,), width s in Å. Returns (E, n)."""
    return torch.exp(-0.5 * ((r.unsqueeze(1) - centres) / width) ** 2)


def chebyshev_basis(r: Tensor, n: int, cutoff: float | Tensor) -> Tensor:
    """T_k(2r/r_c − 1), k = 0 … n−1, by T_{k+1} = 2x T_k − T_{k−1}. Args: r (E,). Returns (E, n)."""
    x = 2.0 * r / cutoff - 1.0
    columns = [torch.ones_like(x), x]
    while len(columns) < n:
        columns.append(2.0 * x * columns[-1] - columns[-2])
    return torch.stack(columns[:n], dim=1)


def soft_transform(r: Tensor, r0: Tensor) -> Tensor:
    """y(r) = p + (r − p) · ½(1 + tanh(4 (r − m)/(q − p))), p = ¾ r0, q = 4/3 r0, m their mean: constant where atoms overlap, then r itself.

    Args: r (E,); r0 (E,) Å, the sum of the covalent radii of the pair. Returns (E,), Å.
    """
    low, high = 0.75 * r0, 4.0 / 3.0 * r0
    return low + (r - low) * 0.5 * (1.0 + torch.tanh(4.0 / (high - low) * (r - 0.5 * (low + high))))


def polynomial_envelope(r: Tensor, cutoff: float | Tensor, p: int) -> Tensor:
    """u = 1 − (p+1)(p+2)/2 x^p + p(p+2) x^{p+1} − p(p+1)/2 x^{p+2}, x = r/r_c < 1, else 0: u, u', u'' vanish at r_c. Returns (E,)."""
    inside = r < cutoff
    x = torch.where(inside, r / cutoff, 0.0)
    u = 1.0 - x**p * ((p + 1) * (p + 2) / 2 - x * (p * (p + 2) - p * (p + 1) / 2 * x))
    return torch.where(inside, u, 0.0)


def cosine_envelope(r: Tensor, cutoff: float | Tensor) -> Tensor:
    """u = (1 + cos(πr/r_c))/2 for r < r_c, else 0: u and u' vanish at r_c. Returns (E,)."""
    return torch.where(r < cutoff, 0.5 * (1.0 + torch.cos(math.pi * r / cutoff)), 0.0)


def agnesi_transform(r: Tensor, r0: Tensor, a: float = AGNESI_A, q: float = AGNESI_Q, p: float = AGNESI_P) -> Tensor:
    """y(r) = 1/(1 + a x^q/(1 + x^{q−p})), x = r/r0: the distance that radial functions then take, 1 at contact and 0 far away.

    Written with a x^p/(1 + x^{p−q}), equal and finite at r = 0. Args: r (E,); r0 (E,) Å, half the sum of the covalent radii of the pair. Returns (E,).
    """
    x = r / r0
    return 1.0 / (1.0 + a * x**p / (1.0 + x ** (p - q)))
