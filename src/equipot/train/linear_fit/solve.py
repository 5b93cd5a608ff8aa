"""Solvers of a least-squares problem whose rows come in chunks: memory is bounded by the square of the number of columns."""

import numpy as np
import scipy.linalg as sl
from scipy.linalg.blas import dsymv, dsyrk

from equipot.errors import UserError

TRIANGLE_COLUMNS = 1500
"""Up to so many columns the rows are reduced by orthogonal transformations, which loses no digits; above by normal equations, four times as fast."""
MAX_COLUMNS = 25_000
MAX_ARD_COLUMNS = 1500


class Triangle:
    """The triangular factor R of [X y]: |X c − y| = |R [c, −1]|, updated by Householder transformations."""

    def __init__(self, n: int):
        self.n, self.rows = n, 0
        self.r = np.zeros((0, n + 1))

    def add(self, x: np.ndarray, y: np.ndarray) -> None:
        """Take rows in."""
        self.rows += len(y)
        (self.r,) = sl.qr(np.vstack([self.r, np.column_stack([x, y])]), mode="r", overwrite_a=True, check_finite=False)
        self.r = self.r[: self.n + 1]

    @property
    def diagonal(self) -> np.ndarray:
        """Σ X² of every column."""
        return (self.r[:, : self.n] ** 2).sum(0)

    def solve(self, ridge: np.ndarray) -> np.ndarray:
        """The c that minimises |X c − y|² + Σ ridge c²; columns with neither rows nor ridge get zero."""
        a = np.vstack([self.r[:, : self.n], np.diag(np.sqrt(ridge))])
        b = np.concatenate([self.r[:, self.n], np.zeros(self.n)])
        size = np.sqrt((a**2).sum(0))
        used = size > 0
        c = np.zeros(self.n)
        q, r, order = sl.qr(a[:, used] / size[used], mode="economic", pivoting=True, check_finite=False)
        rank = int((np.abs(np.diag(r)) > 1e-14 * abs(r[0, 0])).sum()) if used.any() else 0
        found = np.zeros(int(used.sum()))
        found[order[:rank]] = sl.solve_triangular(r[:rank, :rank], (q.T @ b)[:rank])
        c[used] = found / size[used]
        return c

    def loss(self, c: np.ndarray) -> float:
        """|X c − y|²."""
        return float(((self.r @ np.append(c, -1.0)) ** 2).sum())


class NormalEquations:
    """XᵀX, Xᵀy and |y|²."""

    def __init__(self, n: int):
        self.n, self.rows = n, 0
        self.g = np.zeros((n, n), order="F")
        self.h, self.yy = np.zeros(n), 0.0

    def add(self, x: np.ndarray, y: np.ndarray) -> None:
        """Take rows in."""
        self.rows += len(y)
        self.g = dsyrk(1.0, np.asarray(x, order="C").T, beta=1.0, c=self.g, overwrite_c=1)
        self.h += x.T @ y
        self.yy += float(y @ y)

    @property
    def diagonal(self) -> np.ndarray:
        """Σ X² of every column."""
        return np.diag(self.g).copy()

    def solve(self, ridge: np.ndarray) -> np.ndarray:
        """The same as of `Triangle`; raises UserError where the ridge is too small for double precision."""
        a = self.g.copy(order="F")
        diagonal = np.diag(self.g) + ridge
        diagonal[diagonal == 0.0] = 1.0  # a column of zeros: its right-hand side is zero too
        a[np.diag_indices_from(a)] = diagonal
        size = 1.0 / np.sqrt(diagonal)
        a *= size
        a *= size[:, None]
        try:
            factor = sl.cholesky(a, lower=False, overwrite_a=True, check_finite=False)
        except sl.LinAlgError:
            raise UserError(
                "train.least_squares.regularisation is too small: the normal equations are singular in double precision; raise it"
            ) from None
        return size * sl.cho_solve((factor, False), size * self.h, check_finite=False)

    def loss(self, c: np.ndarray) -> float:
        """|X c − y|², with the digits that the difference leaves."""
        return max(0.0, float(c @ dsymv(1.0, self.g, c) - 2.0 * c @ self.h + self.yy))


def accumulator(n: int) -> Triangle | NormalEquations:
    """What takes rows of n columns in. Raises UserError for more columns than can be solved for."""
    if n > MAX_COLUMNS:
        raise UserError(
            f"the basis has {n:,} functions in all, more than the {MAX_COLUMNS:,} that least squares solves for: lower model.degrees"
        )
    return Triangle(n) if n <= TRIANGLE_COLUMNS else NormalEquations(n)


def ard(triangle: Triangle) -> np.ndarray:
    """Automatic relevance determination: a Gaussian prior with a width of its own for every column, from the evidence; most columns get zero.

    scikit-learn sees the triangle in place of the rows, the same problem in as many rows as columns: the Gamma prior of the noise is told how many
    rows there really are. Columns are brought to unit size, the labels to unit variance.
    """
    from sklearn.linear_model import ARDRegression

    n, rows = triangle.n, max(triangle.rows, triangle.n + 1)
    size = np.sqrt(triangle.diagonal / rows)
    y_size = np.sqrt((triangle.r[:, n] ** 2).sum() / rows) or 1.0
    used = size > 1e-12 * size.max()
    missing = rows - len(triangle.r)
    model = ARDRegression(fit_intercept=False, alpha_1=0.5 * missing + 1e-6)
    model.fit(triangle.r[:, :n][:, used] / size[used], triangle.r[:, n] / y_size)
    c = np.zeros(n)
    c[used] = model.coef_ * y_size / size[used]
    return c
