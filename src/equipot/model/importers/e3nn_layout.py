"""How e3nn lays out weights: the order of irreps, paths and channels, turned into one effective matrix per irrep.

"Effective" means with e3nn's normalisation multiplied in, so that what comes out acts on features as it stands. Channels of one irrep (l, p) are
numbered through all blocks of it, in the order in which they stand.
"""

import re
from typing import NamedTuple

import numpy as np

from equipot.errors import UserError

Key = tuple[int, int]
"""(l, p)."""
Layout = list[tuple[int, int, int]]
"""(mul, l, p) of each block in e3nn's order; blocks of one irrep may stand apart."""
Matrices = dict[Key, np.ndarray]

_TERM = re.compile(r"(?:(\d+)x)?(\d+)([eo])")


def parse_layout(text: str) -> Layout:
    """Irreps as e3nn prints them, order and repetitions kept.

    >>> parse_layout("8x0e+8x1o+8x0e")
    [(8, 0, 1), (8, 1, -1), (8, 0, 1)]
    """
    result = []
    for term in text.replace(" ", "").split("+"):
        match = _TERM.fullmatch(term)
        if match is None:
            raise UserError(f"irreps {text!r} of the bundle cannot be read")
        result.append((int(match[1] or 1), int(match[2]), 1 if match[3] == "e" else -1))
    return result


def printed_layouts(line: str) -> tuple[Layout, Layout]:
    """Input and output of a printed linear map or gate: "Linear(A -> B | 12 weights)", "Gate (A -> B)".

    >>> printed_layouts("Linear(8x0e -> 16x0e | 128 weights)")
    ([(8, 0, 1)], [(16, 0, 1)])
    """
    match = re.match(r"^\w+ ?\(([0-9xeo+ ]*?)(?: x [^>]*?)? -> ([0-9xeo+ ]*?)(?: \|.*)?\)$", line)
    if match is None:
        raise UserError(f"the printed module {line!r} cannot be read")
    return parse_layout(match[1]), parse_layout(match[2])


def n_channels(layout: Layout) -> dict[Key, int]:
    """Number of channels of every irrep."""
    result: dict[Key, int] = {}
    for mul, l, p in layout:
        result[l, p] = result.get((l, p), 0) + mul
    return result


def _channels(layout: Layout) -> list[slice]:
    """Which channels of its irrep each block holds."""
    seen: dict[Key, int] = {}
    result = []
    for mul, l, p in layout:
        start = seen.get((l, p), 0)
        result.append(slice(start, start + mul))
        seen[l, p] = start + mul
    return result


def linear_matrices(weight: np.ndarray, inputs: Layout, outputs: Layout) -> Matrices:
    """o3.Linear: W_lp (K_in, K_out) / √K_in. Raises UserError if the number of weights does not fit."""
    return {k: m[0] for k, m in element_matrices(weight, inputs, 1, outputs).items()}


def element_matrices(weight: np.ndarray, inputs: Layout, n_attributes: int, outputs: Layout) -> Matrices:
    """o3.FullyConnectedTensorProduct with `n_attributes` scalars: W_lp (A, K_in, K_out) / √(A K_in)."""
    muls_in, muls_out = n_channels(inputs), n_channels(outputs)
    result = {k: np.zeros((n_attributes, muls_in[k], muls_out[k])) for k in muls_out if k in muls_in}
    flat, start = weight.reshape(-1), 0
    for (mul_in, l, p), rows in zip(inputs, _channels(inputs), strict=True):
        for (mul_out, l_out, p_out), columns in zip(outputs, _channels(outputs), strict=True):
            if (l, p) != (l_out, p_out):
                continue
            size = mul_in * n_attributes * mul_out
            block = flat[start : start + size]
            if len(block) < size:
                raise UserError(f"{len(flat)} weights are too few for a map of {inputs} to {outputs}")
            result[l, p][:, rows, columns] = block.reshape(mul_in, n_attributes, mul_out).transpose(1, 0, 2)
            start += size
    if start != len(flat):
        raise UserError(f"{len(flat)} weights are too many for a map of {inputs} to {outputs}")
    return {k: m / np.sqrt(m.shape[0] * m.shape[1]) for k, m in result.items()}


class Coupling(NamedTuple):
    """One path (l1, p1) ⊗ Y(l2) → (l3, p3) with the place of each of its channels."""

    columns: np.ndarray  # (K,) among the radial weights
    rows: np.ndarray  # (K,) among the channels of (l3, p3) behind the convolution


def couplings(inputs: Layout, l_max: int, targets: set[Key], by_output: bool) -> dict[tuple[int, int, int, int], Coupling]:
    """The 'uvu' paths of a convolution, keyed by (l1, p1, l2, l3), as nequip, BOTNet and MACE make them.

    They loop over input blocks, degrees of Y and output degrees, then sort the outputs (l ascending, odd before even, stable). Radial weights follow the
    loop, or the sorted outputs (`by_output`: MACE); the channels behind the convolution always follow the sorted outputs.
    """
    found = []
    for block, ((mul, l1, p1), channels) in enumerate(zip(inputs, _channels(inputs), strict=True)):
        for l2 in range(l_max + 1):
            p3 = p1 * (-1) ** l2
            found += [(l3, p3, block, l1, p1, l2, mul, channels.start) for l3 in range(abs(l1 - l2), l1 + l2 + 1) if (l3, p3) in targets]
    in_order = sorted(found, key=lambda f: f[:2])
    rows, seen = {}, {}
    for f in in_order:
        start = seen.get(f[:2], 0)
        rows[f] = np.arange(start, start + f[6])
        seen[f[:2]] = start + f[6]
    parts: dict[tuple[int, int, int, int], list[tuple[int, np.ndarray, np.ndarray]]] = {}
    column = 0
    for f in in_order if by_output else found:
        l3, _, _, l1, p1, l2, mul, first_channel = f
        parts.setdefault((l1, p1, l2, l3), []).append((first_channel, np.arange(column, column + mul), rows[f]))
        column += mul
    return {
        key: Coupling(
            np.concatenate([c for _, c, _ in sorted(ps, key=lambda x: x[0])]),
            np.concatenate([r for _, _, r in sorted(ps, key=lambda x: x[0])]),
        )
        for key, ps in parts.items()
    }


class GatePlaces(NamedTuple):
    """Where an e3nn gate expects its scalars and gates among the channels of one scalar irrep."""

    key: Key  # (0, parity) of the gates
    n_scalars: int  # scalars of that irrep, which come first
    gates: dict[Key, np.ndarray]  # per irrep of l > 0, the channels of its gates


def gate_places(features: Layout, before: Layout) -> GatePlaces:
    """From the irreps behind a gate and in front of it: gates follow their scalars, in the order of the blocks of l > 0."""
    gates: dict[Key, list[np.ndarray]] = {}
    position = 0
    for mul, l, p in features:
        if l:
            gates.setdefault((l, p), []).append(np.arange(position, position + mul))
            position += mul
    scalars, wanted = n_channels(features), n_channels(before)
    key = next((k for k, n in wanted.items() if k[0] == 0 and n == scalars.get(k, 0) + position), None)
    if key is None:
        raise UserError(f"irreps {before} in front of a gate do not hold the gates of {features}")
    n_scalars = scalars.get(key, 0)
    return GatePlaces(key, n_scalars, {k: np.concatenate(parts) + n_scalars for k, parts in gates.items()})
