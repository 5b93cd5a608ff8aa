"""Writes the Triton kernels of `symmetric_product` for one plan: forward, backward, double backward, from one polynomial.

One program of one warp computes 32·C channels of one atom. The couplings are taken group by group, a group being the couplings of one order to
one irrep whose factors are from the same blocks of A, so that few values are alive at a time:

    pairs p = A_i A_j,  monomials t = p A_k,  couplings v_mη = Σ C t,  results b_m += W_η v_mη

and the derivatives of a group are its reverse and the tangent of that (see `polynomial`). Gradients of the weights are written per atom and summed
per element by `segments`.

In the generated text x{i} are components of A, w{η} weights, b{m} results, and bar_… and dot_… their cotangents and tangents.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import NamedTuple

import numpy as np

from equipot.ops.plan import ProductPlan, ProductTerm
from equipot.ops.triton.polynomial import Statement, bar, dot, reverse, tangent, wanted
from equipot.ops.triton.source import HEADER, Source, scaled

LANES = 32
_MOST_COEFFICIENTS = 6000  # beyond, a kernel would take minutes to compile
_CHUNK = 400  # statements of a function; the time to compile one grows with the cube


class ProductNeed(NamedTuple):
    """Which gradients are wanted."""

    a: bool
    w: bool
    g: bool = False


class ProductGiven(NamedTuple):
    """Which cotangents a double backward has."""

    a: bool
    w: bool


def supported(plan: ProductPlan) -> bool:
    """Whether kernels can be written: three factors at most, and not too many couplings."""
    few = sum(np.count_nonzero(t.coefficients) for t in plan.terms) <= _MOST_COEFFICIENTS
    return few and all(t.monomials.shape[1] <= 3 for t in plan.terms)


def n_blocks(plan: ProductPlan, channels: int) -> int:
    """Programs per atom."""
    return -(-plan.n_channels // (LANES * channels))


@cache
def groups(plan: ProductPlan) -> tuple[list[Statement], ...]:
    """The polynomial, a list of statements per group."""
    starts = np.cumsum([0] + [b.dim for b in plan.irreps_in])
    rows = np.cumsum([0] + [b.dim for b in plan.irreps_out])
    result: list[list[Statement]] = []
    for term in plan.terms:
        blocks = np.searchsorted(starts, term.monomials, side="right")
        for label in np.unique(blocks, axis=0):
            chosen = np.flatnonzero((blocks == label).all(axis=1))
            result.append(list(_group(term, chosen, int(rows[term.out]), f"{len(result)}")))
    return tuple(result)


def _group(term: ProductTerm, chosen: np.ndarray, first_row: int, name: str) -> Iterator[Statement]:
    """Statements of the monomials `chosen`; `name` tells this group's values from another's."""
    known: set[str] = set()
    for column in chosen.tolist():
        *pair, last = (f"x{i}" for i in term.monomials[column].tolist())
        value = last
        if pair:
            left = pair[0] if len(pair) == 1 else f"p{name}_{pair[0]}_{pair[1]}"
            if len(pair) == 2 and left not in known:
                known.add(left)
                yield Statement(left, 1.0, tuple(pair))
            value = f"t{name}_{column}"
            yield Statement(value, 1.0, (left, last))
        for m, eta in np.argwhere(term.coefficients[:, :, column]).tolist():
            yield Statement(f"v{name}_{m}_{eta}", float(term.coefficients[m, eta, column]), (value,))
    for m, eta in np.argwhere(term.coefficients[:, :, chosen].any(axis=2)).tolist():
        yield Statement(f"b{first_row + m}", 1.0, (f"w{term.w_start + eta}", f"v{name}_{m}_{eta}"))


def forward_source(plan: ProductPlan, channels: int, dtype: str) -> str:
    """b from A and W."""
    return _Kernel(plan, channels, dtype, {"x": "a", "w": "w"}, {"b": "result"}).text("a, w, result", groups(plan))


def backward_source(plan: ProductPlan, channels: int, dtype: str, need: ProductNeed) -> str:
    """da, and dw per atom."""
    program = [group + reverse(group) for group in groups(plan)]
    return _Kernel(plan, channels, dtype, {"x": "a", "w": "w", bar("b"): "g"}, _results(need, bar)).text("g, a, w, da, dw", program)


def double_backward_source(plan: ProductPlan, channels: int, dtype: str, given: ProductGiven, need: ProductNeed) -> str:
    """The tangent of the backward along the cotangents of da and dw: dg, da, and dw per atom."""
    inputs = {"x": "a", "w": "w", bar("b"): "g", dot("x"): "along_a", dot("w"): "along_w"}
    moving = {name for name, is_given in (("x", given.a), ("w", given.w)) if is_given}
    program = [tangent(p, {f for s in p for f in s.factors if _kind(f) in moving}) for p in (g + reverse(g) for g in groups(plan))]
    results = _results(need, lambda name: dot(bar(name))) | ({dot("b"): "dg"} if need.g else {})
    return _Kernel(plan, channels, dtype, inputs, results).text("along_a, along_w, g, a, w, dg, da, dw", program)


def _results(need: ProductNeed, name: Callable[[str], str]) -> dict[str, str]:
    return ({name("x"): "da"} if need.a else {}) | ({name("w"): "dw"} if need.w else {})


def _kind(name: str) -> str:
    """A value's name without its number.

    >>> _kind("dot_bar_x12")
    'dot_bar_x'
    """
    return name.rstrip("0123456789")


def _chunks(program: list[list[Statement]]) -> Iterator[list[list[Statement]]]:
    """Groups in order, put together up to `_CHUNK` statements."""
    chunk: list[list[Statement]] = []
    for group in program:
        if chunk and sum(map(len, chunk)) + len(group) > _CHUNK:
            yield chunk
            chunk = []
        chunk.append(group)
    yield chunk


class _Kernel:
    """Loads what statements read when they first read it, writes results when they are whole."""

    def __init__(self, plan: ProductPlan, channels: int, dtype: str, inputs: dict[str, str], results: dict[str, str]):
        self.plan, self.dtype, self.inputs, self.results = plan, dtype, inputs, results
        self.width = LANES * channels
        self.mask = f", mask=k < {plan.n_channels}" if plan.n_channels % self.width else ""
        self.source = Source()

    def text(self, arguments: str, program: Iterable[list[Statement]]) -> str:
        """The module: a function per chunk of the program, and the kernel that calls them in turn."""
        out, blocks = self.source, n_blocks(self.plan, self.width // LANES)
        chunks = list(_chunks([wanted(group, self._targets(group)) for group in program]))
        written: set[str] = set()
        for number, chunk in enumerate(chunks):
            out.clear()
            out.add("@triton.jit(noinline=True)")
            with out.block(f"def chunk_{number}({arguments}, element, n, block):"):
                out.add(f"k = block * {self.width} + tl.arange(0, {self.width})")
                out.add("z = tl.load(element + n)")
                for group in chunk:
                    self._group(group)
                self._store_sums(written, last=number == len(chunks) - 1)
            out.add()
            out.add()
        out.add("@triton.jit")
        with out.block(f"def kernel({arguments}, element):"):
            out.add("program = tl.program_id(0)")
            out.add(f"n = (program // {blocks}).to(tl.int64)")
            for number in range(len(chunks)):
                out.add(f"chunk_{number}({arguments}, element, n, program % {blocks})")
        return f"{HEADER}\n\n{out.text()}"

    def _targets(self, group: list[Statement]) -> set[str]:
        return {s.target for s in group if _kind(s.target) in self.results}

    def _group(self, group: list[Statement]) -> None:
        out = self.source
        for target, c, factors in group:
            for factor in factors:
                if not out.defined(factor):
                    out.accumulate(factor, f"tl.load({self._place(factor, self.inputs)}{self.mask})")
            out.accumulate(target, scaled(c, " * ".join(factors)))
        for target in sorted(self._targets(group)):
            if _kind(target).endswith("w"):
                out.add(f"tl.store({self._place(target, self.results)}, {target}{self.mask})")

    def _store_sums(self, written: set[str], last: bool) -> None:
        """This chunk's part of every result that several chunks add to: the thread's own numbers, so in order; the last writes the zeros."""
        for kind in (kind for kind in self.results if not kind.endswith("w")):
            for name in (f"{kind}{number}" for number in range(self._count(kind))):
                place = self._place(name, self.results)
                if self.source.defined(name):
                    before = f"tl.load({place}{self.mask}) + " if name in written else ""
                    self.source.add(f"tl.store({place}, {before}{name}{self.mask})")
                    written.add(name)
                elif last and name not in written:
                    self.source.add(f"tl.store({place}, tl.zeros([{self.width}], {self.dtype}){self.mask})")

    def _count(self, kind: str) -> int:
        irreps = self.plan.irreps_in if kind.endswith("x") else self.plan.irreps_out
        return sum(block.dim for block in irreps)

    def _place(self, name: str, arrays: dict[str, str]) -> str:
        """The address of a component; of weights, and not of their gradients per atom, in the row of the atom's element."""
        kind, channels = _kind(name), self.plan.n_channels
        number = int(name[len(kind) :])
        if kind.endswith("w"):
            row = f"{'z' if arrays is self.inputs else 'n'} * {self.plan.n_weights * channels}"
        else:
            row = f"n * {self._count(kind) * channels}"
        return f"{arrays[kind]} + ({row} + {number * channels}) + k"
