"""The radial functions of a layer as tables of knots for quintic Hermite interpolation, and the error of that."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from equipot.errors import UserError
from equipot.model.potential import Potential
from equipot.nn.radial import DirectWeights, LinearWeights, PerceptronWeights, TableWeights
from equipot.nn.slots import DivideByDensity
from equipot.ops.plan import Edges

FEWEST, MOST = 32, 4096
_INSIDE = 1.0 - 1e-13  # the last knot, as seen from inside the cutoff


class RadialTables(NamedTuple):
    """R_w(r) of all functions w of a layer, a table per different pair of elements.

    Between two knots, s = (r − r_a)/h: R = f_a H_0(s) + h f'_a H_1(s) + h² f''_a H_2(s) + the same of the knot behind, mirrored.
    """

    values: np.ndarray  # (n_tables, n_knots, 3, n_functions): f, h f', h² f''
    cutoffs: np.ndarray  # (n_tables,) Å, of the last knot; the first lies at 0
    table_of: np.ndarray  # (n_elements, n_elements) int64, by the elements of centre and neighbour
    error: float  # of R against max |R| and of R' against max |R'|, the larger


def tabulate(potential: Potential, index: int, accuracy: float, n_knots: int | None) -> RadialTables:
    """Tables of layer `index` with as many knots as it takes (a power of two, plus one) or with `n_knots`.

    The density normaliser's function of the distance, where there is one, is the last column. Raises UserError where `accuracy` is not met.
    """
    keys, table_of, cutoffs = _different_pairs(potential, index)
    tried = [n_knots - 1] if n_knots else [2**k for k in range(FEWEST.bit_length() - 1, MOST.bit_length())]
    for n in tried:
        tables = [_knots(potential, index, pair, cutoff, n) for pair, cutoff in zip(keys, cutoffs, strict=True)]
        error = max(_error(potential, index, pair, cutoff, t) for pair, cutoff, t in zip(keys, cutoffs, tables, strict=True))
        if error <= accuracy or n_knots:
            return RadialTables(np.stack(tables), np.array(cutoffs), table_of, error)
    radial = potential.spec.layers[index].radial
    raise UserError(
        f"layer {index + 1}: radial functions ({radial.kind}, activation {radial.activation}) tabulated with {MOST + 1} knots are off by {error:.1e}, "
        f"more than {accuracy:.1e}: they are not smooth; give a larger --accuracy"
    )


def _different_pairs(potential: Potential, index: int) -> tuple[list[tuple[int, int]], np.ndarray, list[float]]:
    """A pair of elements (centre, neighbour) for each different table, which table each pair has, and the tables' cutoffs."""
    spec, basis, radial = potential.spec, potential.basis, potential.layers[index].radial
    n = len(spec.elements)
    by_sender = isinstance(radial, TableWeights) or (isinstance(radial, PerceptronWeights) and radial.elements != "none")
    by_receiver = by_sender and (radial.both if isinstance(radial, TableWeights) else radial.elements == "both")
    if not isinstance(radial, LinearWeights | DirectWeights | TableWeights | PerceptronWeights):
        raise UserError(f"layer {index + 1}: the native engine does not know radial weights of type {type(radial).__name__}")
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


def _knots(potential: Potential, index: int, pair: tuple[int, int], cutoff: float, n: int) -> np.ndarray:
    """(n + 1, 3, n_functions): f, h f', h² f''."""
    h = cutoff / n
    r = np.arange(n + 1) * h
    r[-1] = cutoff * _INSIDE
    values = _derivatives(potential, index, pair, r, 2)
    return np.stack([values[0], h * values[1], h * h * values[2]], axis=1)


def _error(potential: Potential, index: int, pair: tuple[int, int], cutoff: float, table: np.ndarray) -> float:
    """Largest error of R over max |R| and of R' over max |R'|, at three places in every interval."""
    n = len(table) - 1
    h = cutoff / n
    worst = np.zeros(2)
    largest = np.full(2, np.finfo(float).tiny)
    for s in (0.25, 0.5, 0.75):
        exact = _derivatives(potential, index, pair, (np.arange(n) + s) * h, 1)
        found = interpolate(table, s, h)
        for d in range(2):
            worst[d] = max(worst[d], np.abs(found[d] - exact[d]).max(initial=0.0))
            largest[d] = max(largest[d], np.abs(exact[d]).max(initial=0.0))
    return float((worst / largest).max())


def interpolate(table: np.ndarray, s: float, h: float) -> tuple[np.ndarray, np.ndarray]:
    """R and R' at the fraction s of every interval of length h, each (n_knots − 1, n_functions)."""
    left = np.array([1 - 10 * s**3 + 15 * s**4 - 6 * s**5, s - 6 * s**3 + 8 * s**4 - 3 * s**5, 0.5 * s**2 * (1 - s) ** 3])
    right = np.array([10 * s**3 - 15 * s**4 + 6 * s**5, -4 * s**3 + 7 * s**4 - 3 * s**5, 0.5 * s**3 * (1 - s) ** 2])
    rise = 30 * s**2 * (1 - s) ** 2
    d_left = np.array([-rise, 1 - 18 * s**2 + 32 * s**3 - 15 * s**4, s - 4.5 * s**2 + 6 * s**3 - 2.5 * s**4])
    d_right = np.array([rise, -12 * s**2 + 28 * s**3 - 15 * s**4, 1.5 * s**2 - 4 * s**3 + 2.5 * s**4])
    value = np.einsum("d,ndw->nw", left, table[:-1]) + np.einsum("d,ndw->nw", right, table[1:])
    slope = np.einsum("d,ndw->nw", d_left, table[:-1]) + np.einsum("d,ndw->nw", d_right, table[1:])
    return value, slope / h
