"""How irreps turn: real Wigner matrices of a rotation matrix, and the action of O(3) on feature rows."""

import numpy as np

from equipot.math.coupling import clebsch_gordan
from equipot.math.irreps import Irreps


def wigner_d(l: int, rotation: np.ndarray) -> np.ndarray:
    """The matrix of a rotation on degree l, in the real basis: Y_l(R r) = D^l(R) Y_l(r).

    D^0 = 1, D^1 = R and D^l = Cᵀ (D^{l−1} ⊗ R) C, C the Clebsch-Gordan coupling of l−1 and 1 to l.

    Args: rotation (3, 3) float64, orthogonal with determinant +1. Returns (2l+1, 2l+1) float64.
    Raises ValueError if `rotation` is not a proper rotation (use `transform_features` for reflections).
    """
    rotation = _orthogonal(rotation)
    if np.linalg.det(rotation) < 0:
        raise ValueError("wigner_d takes a proper rotation (determinant +1); parity belongs to the irrep, see transform_features")
    d = np.ones((1, 1))
    for degree in range(1, l + 1):
        c = clebsch_gordan(degree - 1, 1, degree)
        d = np.einsum("abm,aA,bB,ABM->mM", c, d, rotation, c, optimize=True)
    return d


def representation(l: int, p: int, matrix: np.ndarray) -> np.ndarray:
    """The matrix of an element g of O(3) on the irrep (l, p): D^l(R), times p if g reflects, with g = det(g)·R.

    Args: matrix (3, 3) float64, orthogonal. Returns (2l+1, 2l+1) float64. Raises ValueError if `matrix` is not orthogonal.
    """
    matrix = _orthogonal(matrix)
    if np.linalg.det(matrix) > 0:
        return wigner_d(l, matrix)
    return p * wigner_d(l, -matrix)


def transform_features(x: np.ndarray, irreps: Irreps, matrix: np.ndarray) -> np.ndarray:
    """Feature rows as an observer turned by an element of O(3) sees them: x'[…, m k] = Σ_m' D(g)[m, m'] x[…, m' k] in each block.

    Args: x (…, irreps.dim) in blocks (2l+1, K), channels fastest; matrix (3, 3) orthogonal, of either determinant.
    Returns float64 of the shape of x. Raises ValueError on a wrong width or a matrix that is not orthogonal.
    """
    x = np.asarray(x, dtype=float)
    if x.shape[-1] != irreps.dim:
        raise ValueError(f"features have {x.shape[-1]} columns, irreps {irreps} need {irreps.dim}")
    result = np.empty_like(x)
    for block in irreps:
        rows = x[..., block.start : block.stop].reshape(*x.shape[:-1], block.dim, block.mul)
        result[..., block.start : block.stop] = (representation(block.l, block.p, matrix) @ rows).reshape(*x.shape[:-1], -1)
    return result


def _orthogonal(matrix: np.ndarray) -> np.ndarray:
    matrix = np.asarray(matrix, dtype=float)
    if matrix.shape != (3, 3) or not np.allclose(matrix @ matrix.T, np.eye(3), rtol=0, atol=1e-8):
        raise ValueError(f"expected an orthogonal (3, 3) matrix, got shape {matrix.shape}")
    return matrix
