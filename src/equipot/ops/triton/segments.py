"""Sums over rows in a given order, without atomics: the gradient of h over each sender's edges, of weights over each element's atoms."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from equipot.ops.triton.launch import Launch

_WARPS = 4
_ROWS = 4  # read at once


@triton.jit
def sum_segments(rows, order, start, result, WIDTH: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr):
    """result[n] = Σ_j rows[order[j]] over start[n] ≤ j < start[n + 1]; one program per n and BLOCK columns."""
    blocks: tl.constexpr = (WIDTH + BLOCK - 1) // BLOCK
    program = tl.program_id(0)
    n = (program // blocks).to(tl.int64)
    column = (program % blocks) * BLOCK + tl.arange(0, BLOCK)
    begin = tl.load(start + n)
    end = tl.load(start + n + 1)
    total = tl.zeros([ROWS, BLOCK], result.dtype.element_ty)
    for first in range(begin, end, ROWS):
        j = first + tl.arange(0, ROWS)
        row = tl.load(order + j, mask=j < end, other=0)
        inside = (j < end)[:, None] & (column < WIDTH)[None, :]
        total += tl.load(rows + row[:, None] * WIDTH + column[None, :], mask=inside, other=0.0)
    tl.store(result + n * WIDTH + column, tl.sum(total, 0), mask=column < WIDTH)


@triton.jit(do_not_specialize=["n_rows", "n_chunk"])
def sum_elements(rows, element, result, n_rows, n_chunk, WIDTH: tl.constexpr, BLOCK: tl.constexpr, ELEMENTS: tl.constexpr):
    """result[chunk, z] = Σ rows[n] over the atoms n of a chunk with element[n] = z; one program per chunk, z and BLOCK columns."""
    blocks: tl.constexpr = (WIDTH + BLOCK - 1) // BLOCK
    program = tl.program_id(0)
    column = (program % blocks) * BLOCK + tl.arange(0, BLOCK)
    z = (program // blocks) % ELEMENTS
    chunk = program // (blocks * ELEMENTS)
    total = tl.zeros([BLOCK], result.dtype.element_ty)
    for n in range(chunk * n_chunk, tl.minimum((chunk + 1) * n_chunk, n_rows)):
        mine = tl.load(element + n) == z
        total += tl.load(rows + tl.cast(n, tl.int64) * WIDTH + column, mask=mine & (column < WIDTH), other=0.0)
    tl.store(result + (chunk * ELEMENTS + z).to(tl.int64) * WIDTH + column, total, mask=column < WIDTH)


def segment_sums(launch: Launch, rows: Tensor, order: Tensor, start: Tensor) -> Tensor:
    """Sums of rows (E, width) over each segment of `order`; start (N + 1,). Returns (N, width)."""
    n, width = start.shape[0] - 1, rows.shape[1]
    result = rows.new_empty(n, width)
    block = min(512, triton.next_power_of_2(width))
    launch(
        sum_segments, (n * triton.cdiv(width, block),), rows, order, start, result, WIDTH=width, BLOCK=block, ROWS=_ROWS, num_warps=_WARPS
    )
    return result


def element_sums(launch: Launch, rows: Tensor, element: Tensor, n_elements: int) -> Tensor:
    """Sums of rows (N, width) over the atoms of each element; element (N,) int64. Returns (n_elements, width)."""
    n, width = rows.shape
    block = min(256, triton.next_power_of_2(width))
    columns = triton.cdiv(width, block) * n_elements
    chunks = max(1, min(8192 // columns, n // 16))
    result = rows.new_empty(chunks, n_elements, width)
    size = -(-n // chunks)
    options = {"WIDTH": width, "BLOCK": block, "ELEMENTS": n_elements, "num_warps": 2}
    launch(sum_elements, (chunks * columns,), rows, element, result, n, size, **options)
    return result.sum(0)


def partial_sums(parts: Tensor, axis: int) -> Tensor:
    """The sum over an axis; what is there if it is one long."""
    return parts.squeeze(axis) if parts.shape[axis] == 1 else torch.sum(parts, axis)
