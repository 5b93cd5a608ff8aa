"""How the work of one `edge_convolution` is cut into programs: plain data, from the plan's key.

A *part* is the paths from some input blocks (l1, p1) of equal channels. One program of one warp computes a part for one receiver and 32·C channels.
Paths from one input block need only that block of h, so h, w and every result are read or written once by exactly one program; only Y, a few
numbers an edge, is read by each. (Cutting by output degree instead would read all of h in every part.)
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from typing import NamedTuple

import numpy as np

from equipot.math import clebsch_gordan

LANES = 32  # threads of a warp


class KernelPath(NamedTuple):
    """One path: `equipot.ops.plan.Path` without parities."""

    l1: int
    l2: int
    l3: int
    n_channels: int
    h_start: int
    w_start: int
    out_start: int
    out_stride: int
    out_channel: int

    @property
    def components(self) -> range:
        """m3, of the output."""
        return range(2 * self.l3 + 1)

    @property
    def y_start(self) -> int:
        """First component of Y."""
        return self.l2 * self.l2

    def by_h(self, m3: int) -> list[tuple[int, list[tuple[int, float]]]]:
        """Every m1 that couples to m3, each with its (m2, coefficient) list."""
        c = clebsch_gordan(self.l1, self.l2, self.l3)[:, :, m3]
        return [(m1, [(m2, float(c[m1, m2])) for m2 in np.flatnonzero(c[m1]).tolist()]) for m1 in np.flatnonzero(c.any(axis=1)).tolist()]

    def out(self, m3: int) -> int:
        """Where component m3 begins in a row of the output."""
        return self.out_start + m3 * self.out_stride + self.out_channel


@dataclass(frozen=True)
class Group:
    """The paths from one input block with one degree of Y, each with its number in the part."""

    paths: tuple[tuple[int, KernelPath], ...]

    @property
    def h_start(self) -> int:
        """Where the block begins."""
        return self.paths[0][1].h_start

    def pairs(self) -> Iterator[tuple[int, int, list[tuple[str, float]]]]:
        """(m1, component of Y, [(name `path_m3`, coefficient)]) wherever there is a coefficient."""
        l1, l2 = self.paths[0][1].l1, self.paths[0][1].l2
        for m2 in range(2 * l2 + 1):
            for m1 in range(2 * l1 + 1):
                terms = [
                    (f"{number}_{m3}", float(c[m1, m2, m3]))
                    for number, p in self.paths
                    for c in (clebsch_gordan(l1, l2, p.l3),)
                    for m3 in np.flatnonzero(c[m1, m2]).tolist()
                ]
                if terms:
                    yield m1, l2 * l2 + m2, terms


@dataclass(frozen=True)
class KernelPlan:
    """Row lengths and paths."""

    l_max: int
    h_dim: int
    w_dim: int
    out_dim: int
    paths: tuple[KernelPath, ...]

    @property
    def y_dim(self) -> int:
        """(l_max + 1)²."""
        return (self.l_max + 1) ** 2

    @cached_property
    def n_terms(self) -> int:
        """Coupling coefficients."""
        return sum(int(np.count_nonzero(clebsch_gordan(p.l1, p.l2, p.l3))) for p in self.paths)

    @cached_property
    def reads_all(self) -> bool:
        """Whether every input block has a path."""
        return sum(d * n for d, n in {p.h_start: (2 * p.l1 + 1, p.n_channels) for p in self.paths}.values()) == self.h_dim


@cache
def parse(key: str) -> KernelPlan:
    """The plan that `equipot.ops.native.plan_key` wrote as text."""
    head, *paths = key.split(";")
    l_max, h_dim, w_dim, out_dim = map(int, head.split(","))
    return KernelPlan(l_max, h_dim, w_dim, out_dim, tuple(KernelPath(*map(int, path.split(","))) for path in paths))


class Tuning(NamedTuple):
    """How large programs are. The values in use come from timings of an earlier version of the kernels, see docs/gpu.md."""

    channels: int  # C, per thread, at most
    sums: int  # C times the output components of a part, at most
    rows: int  # blocks share a part while their output components are at most this many
    registers: int | None = None  # of a thread, at most; more programs run at once
    by_part: bool = False  # first one part of all atoms, then the next: long code stays in the instruction cache


@dataclass(frozen=True)
class Part:
    """Paths that one program computes together."""

    paths: tuple[KernelPath, ...]
    channels: int  # C

    @property
    def n_channels(self) -> int:
        """K, the same in every path."""
        return self.paths[0].n_channels

    @property
    def width(self) -> int:
        """Channels of one program."""
        return LANES * self.channels

    @property
    def n_programs(self) -> int:
        """Programs that share the channels."""
        return -(-self.n_channels // self.width)

    @cached_property
    def h_rows(self) -> list[tuple[str, int]]:
        """Name and place of every component of h in use: `start_m`."""
        starts = {p.h_start: p for p in self.paths}
        return [(f"{start}_{m}", start + m * self.n_channels) for start, p in starts.items() for m in range(2 * p.l1 + 1)]

    @cached_property
    def out_rows(self) -> list[tuple[str, int]]:
        """Name and place of every component of the output: `path_m3`."""
        return [(f"{number}_{m3}", path.out(m3)) for number, path in enumerate(self.paths) for m3 in path.components]

    @cached_property
    def harmonics(self) -> list[int]:
        """Components of Y in use."""
        return sorted({m for group in self.groups for _, m, _ in group.pairs()})

    @cached_property
    def groups(self) -> list[Group]:
        """By input block and degree of Y."""
        keys = sorted({(p.h_start, p.l2) for p in self.paths})
        return [Group(tuple((n, p) for n, p in enumerate(self.paths) if (p.h_start, p.l2) == key)) for key in keys]


@cache
def make_parts(plan: KernelPlan, tuning: Tuning) -> tuple[Part, ...]:
    """Input blocks in order, put together while their channels agree and their outputs stay few."""
    parts: list[list[KernelPath]] = []
    for start in sorted({p.h_start for p in plan.paths}):
        block = [p for p in plan.paths if p.h_start == start]
        if parts and parts[-1][0].n_channels == block[0].n_channels and _rows(parts[-1]) + _rows(block) <= tuning.rows:
            parts[-1] += block
        else:
            parts.append(block)
    return tuple(Part(tuple(paths), _channels(paths, tuning)) for paths in parts)


def n_slots(plan: KernelPlan, tuning: Tuning) -> int:
    """Programs per receiver."""
    return sum(part.n_programs for part in make_parts(plan, tuning))


def _rows(paths: list[KernelPath]) -> int:
    return sum(len(p.components) for p in paths)


def _channels(paths: list[KernelPath], tuning: Tuning) -> int:
    """C: a power of two, and no more than there are channels."""
    c = tuning.channels
    while c > 1 and (c * _rows(paths) > tuning.sums or LANES * (c // 2) >= paths[0].n_channels):
        c //= 2
    return c
