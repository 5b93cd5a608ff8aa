"""Checks and times the Triton operations on a GPU, in one run: python benchmarks/gpu.py [--quick] [--json FILE] [--markdown FILE]

`edge_convolution` for l ≤ 1, 2, 3, 32, 64 and 128 channels, 10 thousand to 1 million edges of a crystal: forward, with first backward, with double
backward; beside it e3nn's TensorProduct + index_add, the reference operations, and openequivariance and cuequivariance where they can be imported.
`symmetric_product` likewise. Values and gradients are compared before anything is timed. Times are medians between CUDA events, the cache emptied
before each run: *eager*, as Python calls it, and *captured*, as a replayed CUDA graph, without the host's part. Limits are the bytes that must move
and the operations that must be done at the rates measured on the same device.
"""

import argparse
import json
import math
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import torch
from torch import Tensor

from equipot.math import Irreps
from equipot.ops import reference
from equipot.ops.plan import ConvolutionPlan, Edges, ProductPlan, plan_convolution, plan_product
from equipot.ops.triton import convolution, product
from equipot.ops.triton.product_source import groups

DEVICE = "cuda"
MODES = ("forward", "with backward", "with double backward")
SIZES = {"10k": (6, 46), "160k": (15, 48), "1M": (27, 51)}  # atoms along an edge of the crystal, neighbours of each
SLOW = 5e9  # numbers in e3nn's array of messages; beyond, it and the reference are left out
_start = time.perf_counter()


@dataclass
class Contestant:
    """One implementation on its own inputs: `call(*inputs)`, all inputs differentiable; `to_ours` brings its output into equipot's layout."""

    name: str
    call: Callable[..., Tensor]
    inputs: list[Tensor]
    to_ours: Callable[[Tensor], Tensor] = lambda x: x
    capture: bool = True


@dataclass
class Result:
    """What was found for one case: `times[name][way][mode]` in ms, `notes[name]` where something could not be run."""

    label: dict[str, Any]
    limits: list[dict[str, float]]
    times: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    errors: dict[str, float] = field(default_factory=dict)


# ---- inputs ----


def crystal(side: int, degree: int) -> Edges:
    """Simple cubic, periodic; every atom receives from its `degree` nearest, atoms in the order of their cells."""
    reach = torch.arange(-4, 5)
    offsets = torch.stack(torch.meshgrid(reach, reach, reach, indexing="ij"), -1).reshape(-1, 3)
    offsets = offsets[torch.argsort((offsets**2).sum(1), stable=True)][1 : degree + 1]
    cells = torch.stack(torch.meshgrid(*[torch.arange(side)] * 3, indexing="ij"), -1).reshape(-1, 1, 3)
    place = (cells + offsets) % side
    sender = ((place[..., 0] * side + place[..., 1]) * side + place[..., 2]).sort(dim=1).values.reshape(-1)
    receiver = torch.arange(side**3).repeat_interleave(degree)
    starts = [torch.searchsorted(x, torch.arange(side**3 + 1)) for x in (receiver, sender.sort().values)]
    tensors = (sender, receiver, starts[0], torch.argsort(sender, stable=True), starts[1])
    return Edges(*(x.to(DEVICE) for x in tensors), None, None)


def convolution_plan(l_max: int, channels: int) -> ConvolutionPlan:
    """Natural parity, every path."""
    irreps = Irreps.uniform(channels, l_max)
    return plan_convolution(irreps, l_max, irreps)


def random_inputs(*shapes: tuple[int, int], dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Standard normal numbers."""
    generator = torch.Generator(DEVICE).manual_seed(0)
    return [torch.randn(shape, generator=generator, device=DEVICE, dtype=dtype).requires_grad_() for shape in shapes]


# ---- limits ----


def convolution_limits(plan: ConvolutionPlan, n_atoms: int, n_edges: int) -> list[tuple[float, float]]:
    """(bytes, operations) of each mode: every input read and every result written once; couplings of Y made once per edge."""
    h, y, w, out = plan.irreps_in.dim, plan.n_harmonics, plan.n_weights, plan.irreps_out.dim
    pairs = sum(p.n_channels * int((p.coefficients != 0).any(axis=1).sum()) for p in plan.paths)
    rows = sum(p.n_channels * (2 * p.l3 + 1) for p in plan.paths)
    terms = sum(int((p.coefficients != 0).sum()) for p in plan.paths)
    numbers = [n_edges * (w + y) + n_atoms * (h + out), n_edges * 2 * (w + y) + n_atoms * (2 * h + out), n_edges * 3 * (w + y) + n_atoms * (3 * h + 2 * out)]
    products = [pairs + rows + terms, 3 * pairs + 2 * rows + 2 * terms, 7 * pairs + 5 * rows + 3 * terms]
    return [(4.0 * sum(numbers[: i + 1]), 2.0 * n_edges * sum(products[: i + 1])) for i in range(3)]


def product_limits(plan: ProductPlan, n_atoms: int) -> list[tuple[float, float]]:
    """As `convolution_limits`; a statement and its derivatives are 1, 3 and 6 multiply-adds; the few weights are not counted as bytes."""
    a, out = plan.irreps_in.dim, plan.irreps_out.dim
    statements = sum(len(group) for group in groups(plan)) * plan.n_channels
    numbers, products = [a + out, 2 * a + out, 3 * a + 2 * out], [statements, 3 * statements, 6 * statements]
    return [(4.0 * n_atoms * sum(numbers[: i + 1]), 2.0 * n_atoms * sum(products[: i + 1])) for i in range(3)]


def ceilings() -> dict[str, float]:
    """Bytes/s of a device-to-device copy (read and written), and operations/s of independent float32 multiply-adds."""
    import triton
    import triton.language as tl

    source = torch.empty(2**30, device=DEVICE)
    target = torch.empty_like(source)
    copy = 2 * source.nbytes / (1e-3 * median_time(lambda: target.copy_(source)))

    threads, steps = 128 * 132 * 16 * 4, 4096
    kernel = triton.jit(_multiply_add)
    result = torch.empty(threads, device=DEVICE)
    seconds = 1e-3 * median_time(lambda: kernel[(threads // 128,)](result, steps, BLOCK=128, tl=tl, num_warps=4))
    return {"copy": copy, "fp32": 2 * 8 * threads * steps / seconds}


# ---- contestants ----


def convolution_contestants(plan: ConvolutionPlan, peers: list[str]) -> Iterator[tuple[str, Callable[..., Contestant]]]:
    """(name, maker); maker(edges, inputs) is called per size, what it needs is built once."""
    yield "equipot", lambda edges, x: Contestant("equipot", lambda h, y, w: convolution.edge_convolution(h, y, w, edges, plan), x)
    yield "reference", lambda edges, x: Contestant("reference", lambda h, y, w: reference.edge_convolution(h, y, w, edges, plan), x, capture=False)
