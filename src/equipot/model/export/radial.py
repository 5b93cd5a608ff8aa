"""The radial functions of a layer as knots for quintic Hermite interpolation, and the error of that.

Knots lie where they are needed: an interval is halved until value and slope in it are right. Where functions have kinks (a ReLU in their
perceptron) halving would go on: then the kink is enclosed in an interval too short to matter, and the sides are interpolated on their own.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from equipot.errors import CannotExpressError
from equipot.model.potential import Potential
from equipot.nn.radial import DirectWeights, LinearWeights, PerceptronWeights, TableWeights
from equipot.nn.slots import DivideByDensity
from equipot.ops.plan import Edges

FEWEST = 16  # intervals to begin with
SHORTEST = 1e-9  # of a cutoff: intervals are not halved further
MOST = 20_000  # knots of a table
_INSIDE = 1.0 - 1e-13  # the last knot, as seen from inside the cutoff
_PLACES = (0.25, 0.5, 0.75)  # in an interval, where its error is measured

Functions = Callable[[np.ndarray, int], list[np.ndarray]]
"""(distances (n,), order) → the functions and their derivatives up to that order ≤ 2, each (n, n_functions)."""


class RadialTables(NamedTuple):
    """R_w(r) of all functions w of a layer, a table per different pair of elements, one behind the other.

    Between knots a and b with h = b − a and s = (r − a)/h: R = f_a H_0(s) + h f'_a H_1(s) + h² f''_a H_2(s) + the same of b, mirrored.
    """

    values: np.ndarray  # (n_knots, 3, n_functions): f, f', f''
    knots: np.ndarray  # (n_knots,) Å, each table's ascending from 0 to its cutoff
    starts: np.ndarray  # (n_tables + 1,) int64: the knots of each table
    table_of: np.ndarray  # (n_elements, n_elements) int64, by the elements of centre and neighbour
    error: float  # of R against max |R| and of R' against max |R'|, the larger, outside of kinks
    n_kinks: int


def tabulate(potential: Potential, index: int, accuracy: float) -> RadialTables:
    """Tables of layer `index` whose error is at most `accuracy`.

    The density normaliser's function of the distance, where there is one, is the last column. Raises UserError where that takes too many knots.
    """
    pairs, table_of, cutoffs = _different_pairs(potential, index)
    found = []
    for pair, cutoff in zip(pairs, cutoffs, strict=True):

        def functions(r: np.ndarray, order: int, pair: tuple[int, int] = pair) -> list[np.ndarray]:
            return _derivatives(potential, index, pair, r, order)

        try:
            found.append(_table(functions, cutoff, accuracy))
        except _TooManyError:
            radial = potential.spec.layers[index].radial
            raise CannotExpressError(
                f"layer {index + 1}: its radial functions ({radial.kind}, activation {radial.activation}) take more than {MOST} knots for a "
                f"relative error of {accuracy:.1e}: give a larger --accuracy"
            ) from None
    knots, values, errors, kinks = zip(*found, strict=True)
    starts = np.cumsum([0, *(len(k) for k in knots)])
    return RadialTables(np.concatenate(values), np.concatenate(knots), starts, table_of, max(errors), max(kinks))


class _TooManyError(Exception):
    pass


def _table(functions: Functions, cutoff: float, accuracy: float) -> tuple[np.ndarray, np.ndarray, float, int]:
    """Knots, their values (n_knots, 3, n_functions), the error outside of kinks and the number of kinks."""
    even = np.linspace(0.0, cutoff, FEWEST + 1)
    values = _at_knots(functions, np.linspace(0.0, cutoff, 8 * FEWEST + 1), cutoff)
    scale = np.maximum(np.abs(values[:, :2]).max(axis=(0, 2)), np.finfo(float).tiny)
    knots, errors = _refine(functions, even, cutoff, accuracy * scale)
    kinks = knots[:-1][(errors > accuracy * scale).any(axis=1)]
    if len(kinks):
        # the chains of halved intervals that lead to the kinks have done their work
        ends = knots[1:][np.isin(knots[:-1], kinks)]
        knots, errors = _refine(functions, np.unique(np.concatenate([even, kinks, ends])), cutoff, accuracy * scale)
        errors = errors[~np.isin(knots[:-1], kinks)]
    return knots, _at_knots(functions, knots, cutoff), float((errors / scale).max(initial=0.0)), len(kinks)


def _refine(functions: Functions, knots: np.ndarray, cutoff: float, allowed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Knots with intervals halved until value and slope are right to `allowed` (2,) or they are too short, and the errors of each (n − 1, 2)."""
    left, right = knots[:-1], knots[1:]
    done: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    n_done = 0
    while len(left):
        errors = _interval_errors(functions, left, right, cutoff)
        bad = (errors > allowed).any(axis=1) & (right - left > SHORTEST * cutoff)
        done.append((left[~bad], right[~bad], errors[~bad]))
        n_done += int((~bad).sum())
        middle = 0.5 * (left + right)[bad]
        left, right = np.concatenate([left[bad], middle]), np.concatenate([middle, right[bad]])
        if n_done + len(left) > MOST:
            raise _TooManyError
    starts, ends, errors = (np.concatenate(parts) for parts in zip(*done, strict=True))
    order = np.argsort(starts)
    return np.append(starts[order], ends[order[-1]]), errors[order]


def _at_knots(functions: Functions, knots: np.ndarray, cutoff: float) -> np.ndarray:
    """(n, 3, n_functions): values, slopes and curvatures, at the cutoff as seen from inside."""
    return np.stack(functions(np.minimum(knots, cutoff * _INSIDE), 2), axis=1)


def _interval_errors(functions: Functions, left: np.ndarray, right: np.ndarray, cutoff: float) -> np.ndarray:
    """The largest errors of value and slope of interpolation in the intervals, (n, 2)."""
    ends = _at_knots(functions, left, cutoff), _at_knots(functions, right, cutoff)
    h = right - left
    errors = np.zeros((len(h), 2))
    for s in _PLACES:
        exact = functions(left + s * h, 1)
        for d, found in enumerate(interpolate(*ends, s, h)):
            errors[:, d] = np.maximum(errors[:, d], np.abs(found - exact[d]).max(axis=1, initial=0.0))
    return errors


def interpolate(a: np.ndarray, b: np.ndarray, s: float, h: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """R and R' at the fraction s of intervals of lengths h (n,), from values (n, 3, n_functions) at both ends; each (n, n_functions)."""
    q = 1.0 - s
    left = np.array([q**3 * (1 + 3 * s + 6 * s**2), s * q**3 * (1 + 3 * s), 0.5 * s**2 * q**3])
    right = np.array([s**3 * (1 + 3 * q + 6 * q**2), -q * s**3 * (1 + 3 * q), 0.5 * q**2 * s**3])
    rise = 30 * s**2 * q**2
    d_left = np.array([-rise, q**2 * (1 + 2 * s - 15 * s**2), 0.5 * s * q**2 * (2 - 5 * s)])
    d_right = np.array([rise, s**2 * (1 + 2 * q - 15 * q**2), -0.5 * q * s**2 * (2 - 5 * q)])
    powers = np.stack([np.ones_like(h), h, h * h], axis=1)
    a, b = a * powers[:, :, None], b * powers[:, :, None]
    value = np.einsum("d,ndw->nw", left, a) + np.einsum("d,ndw->nw", right, b)
    slope = np.einsum("d,ndw->nw", d_left, a) + np.einsum("d,ndw->nw", d_right, b)
    return value, slope / h[:, None]


def _different_pairs(potential: Potential, index: int) -> tuple[list[tuple[int, int]], np.ndarray, list[float]]:
    """A pair of elements (centre, neighbour) for each different table, which table each pair has, and the tables' cutoffs."""
    spec, basis, radial = potential.spec, potential.basis, potential.layers[index].radial
    if not isinstance(radial, LinearWeights | DirectWeights | TableWeights | PerceptronWeights):
        raise CannotExpressError(f"layer {index + 1}: the native engine does not know radial weights of type {type(radial).__name__}")
    n = len(spec.elements)
    by_sender = isinstance(radial, TableWeights) or (isinstance(radial, PerceptronWeights) and radial.elements != "none")
    by_receiver = by_sender and (radial.both if isinstance(radial, TableWeights) else radial.elements == "both")
    found: dict[tuple, int] = {}
    pairs: list[tuple[int, int]] = []
    cutoffs: list[float] = []
    table_of = np.zeros((n, n), dtype=np.int64)
    for i in range(n):
        for j in range(n):
            transform = None if basis.transform_radius is None else float(basis.transform_radius[j, i])
            cutoff = spec.cutoff if spec.pair_cutoff is None else spec.pair_cutoff[i][j]
            key = (transform, cutoff, j if by_sender else None, i if by_receiver else None)
            if key not in found:
                found[key] = len(pairs)
                pairs.append((i, j))
                cutoffs.append(cutoff)
            table_of[i, j] = found[key]
    return pairs, table_of, cutoffs


def _functions(potential: Potential, index: int, pair: tuple[int, int], r: Tensor) -> Tensor:
    """(n, n_functions) at distances r (n,) between a centre and a neighbour of these elements."""
    layer, n = potential.layers[index], r.shape[0]
    each = torch.arange(n)
    species = torch.tensor(pair)
    zero, one = torch.zeros(n, dtype=torch.int64), torch.ones(n, dtype=torch.int64)
    # as many edges from atom 1 to atom 0 as distances; what is not read is empty
    none = each[:0]
    edges = Edges(one, zero, none, none, none, each, torch.stack([each, each], dim=1))
    basis = potential.basis(r, species[one], species[zero])
    values = layer.radial(basis, species, edges)
    if isinstance(layer.after, DivideByDensity):
        values = torch.cat([values, torch.tanh(layer.after.mlp(basis) ** 2)], dim=1)
    return values


def _derivatives(potential: Potential, index: int, pair: tuple[int, int], r: np.ndarray, order: int) -> list[np.ndarray]:
    """The functions and their derivatives up to `order` ≤ 2, each (n, n_functions).

    d/dr of every function at once: the derivative, with respect to v, of d/dr Σ v R.
    """
    distance = torch.from_numpy(r.copy()).requires_grad_(True)
    values = [_functions(potential, index, pair, distance)]
    for _ in range(order):
        v = torch.ones_like(values[-1]).requires_grad_(True)
        (slope,) = torch.autograd.grad((v * values[-1]).sum(), distance, create_graph=True)
        (derivative,) = torch.autograd.grad(slope.sum(), v, create_graph=True)
        values.append(derivative)
    return [v.detach().numpy() for v in values]
