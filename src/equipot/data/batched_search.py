"""The search for pairs in many systems at once, in plain torch on the device where the atoms are: bins as wide as the reach, found by sorting.

Legend: B systems, N atoms; a letter d stands for the three directions of the cell.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from equipot.data.pair_search import MARGIN

CANDIDATES = 1 << 24  # pairs looked at together, which bounds the memory


class Systems(NamedTuple):
    """Positions (N, 3) float64 Å, wrapped or not; cells (B, 3, 3) float64, rows are vectors; pbc (B, 3); structure (N,) ascending."""

    positions: Tensor
    cell: Tensor
    pbc: Tensor
    structure: Tensor


class _Bins(NamedTuple):
    number_bd: Tensor  # of bins along each direction
    reach_bd: Tensor  # how many bins, or images of them, to look at on either side
    first_b: Tensor  # number of each system's first bin among those of all
    of_atom_nd: Tensor
    wrapped_nd: Tensor  # cells by which each atom was moved into its own
    order: Tensor  # atoms by bin
    start: Tensor  # where each bin begins in it


def batched_pairs(systems: Systems, reach: float) -> tuple[Tensor, Tensor, Tensor]:
    """Sender, receiver (E,) int64 and shift (E, 3) float64 of all ordered pairs |r_j − r_i + S·cell| < reach, images included, in no order."""
    reach = reach + MARGIN
    if not systems.positions.shape[0]:
        none = systems.structure.new_zeros(0)
        return none, none, systems.positions.new_zeros(0, 3)
    bins = _sort_into_bins(systems, reach)
    widest = bins.reach_bd.amax(0).tolist()
    axes = [torch.arange(-k, k + 1, device=systems.positions.device) for k in widest]
    offsets = torch.cartesian_prod(*axes).reshape(-1, 3)
    fullest = int((bins.start[1:] - bins.start[:-1]).max())
    parts = offsets.split(max(1, CANDIDATES // (systems.positions.shape[0] * fullest)))
    found = [_pairs_at(systems, bins, part, reach) for part in parts]
    return tuple(torch.cat(each) for each in zip(*found, strict=True))


def _pairs_at(systems: Systems, bins: _Bins, offsets: Tensor, reach: float) -> tuple[Tensor, Tensor, Tensor]:
    """Those whose neighbour is so many bins away from the centre."""
    of = systems.structure
    number = bins.number_bd[of][:, None]  # (N, 1, 3)
    target = bins.of_atom_nd[:, None] + offsets
    image = torch.div(target, number, rounding_mode="floor")
    looked_at = (offsets.abs() <= bins.reach_bd[of][:, None]) & (systems.pbc[of][:, None] | (image == 0))
    bin_no = _number(target - image * number, number) + bins.first_b[of][:, None]
    n_there = (bins.start[bin_no + 1] - bins.start[bin_no]) * looked_at.all(-1)
    entries = n_there.flatten()
    row = torch.repeat_interleave(entries)  # one for every candidate: which atom and offset it is of
    within = torch.arange(row.shape[0], device=row.device) - (entries.cumsum(0) - entries)[row]
    receiver = row // offsets.shape[0]
    sender = bins.order[bins.start[bin_no.flatten()[row]] + within]
    image = image.reshape(-1, 3)[row]
    shift = (image - bins.wrapped_nd[sender] + bins.wrapped_nd[receiver]).to(systems.positions)
    inside = squared_length(systems, sender, receiver, shift) < reach**2
    inside &= (sender != receiver) | (image != 0).any(1)
    return sender[inside], receiver[inside], shift[inside]


def squared_length(systems: Systems, sender: Tensor, receiver: Tensor, shift: Tensor) -> Tensor:
    """|r_j − r_i + S·cell|² (E,), the same to the last digit for both directions of a pair."""
    cells = systems.cell[systems.structure[receiver]]
    edge = systems.positions[sender] - systems.positions[receiver] + (shift[:, :, None] * cells).sum(1)
    return (edge * edge).sum(1)


def _sort_into_bins(systems: Systems, reach: float) -> _Bins:
    """Bins are `reach` wide or wider, at most about twice as many along a direction as the cube root of the number of atoms."""
    of, n_systems = systems.structure, systems.cell.shape[0]
    inverse = torch.linalg.inv(completed(systems.cell, systems.pbc))
    fraction = (systems.positions[:, :, None] * inverse[of]).sum(1)  # along directions that are not periodic: Å
    least, most = (_extreme(fraction, of, n_systems, kind) for kind in ("amin", "amax"))
    periodic = systems.pbc[of]
    length = torch.where(systems.pbc, 1.0 / inverse.norm(dim=1), most - least + 1e-3)  # between the faces of the cell
    wrapped = torch.where(periodic, fraction.floor(), torch.zeros_like(fraction))
    inner = torch.where(periodic, fraction - wrapped, (fraction - least[of]) / length[of])
    cap = 2.0 * torch.bincount(of, minlength=n_systems).to(length).pow(1.0 / 3.0) + 1.0
    number = torch.minimum((length / reach).floor(), cap[:, None].floor()).clamp(min=1.0)
    further = (reach * number / length).ceil()
    further = torch.where(systems.pbc, further, torch.minimum(further, number - 1.0)).long()
    number = number.long()
    place = torch.minimum((inner * number[of]).long().clamp(min=0), number[of] - 1)
    n_bins = number.prod(1)
    first = n_bins.cumsum(0) - n_bins
    bin_no = _number(place, number[of]) + first[of]
    counts = torch.bincount(bin_no, minlength=int(n_bins.sum()))
    start = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    return _Bins(number, further, first, place, wrapped.long(), torch.argsort(bin_no, stable=True), start)


def _number(place: Tensor, number: Tensor) -> Tensor:
    return (place[..., 0] * number[..., 1] + place[..., 1]) * number[..., 2] + place[..., 2]


def _extreme(value_nd: Tensor, structure: Tensor, n: int, kind: str) -> Tensor:
    index = structure[:, None].expand_as(value_nd)
    return value_nd.new_zeros(n, 3).scatter_reduce(0, index, value_nd, kind, include_self=False)


def completed(cell: Tensor, pbc: Tensor) -> Tensor:
    """Cells (B, 3, 3) whose vectors along directions that are not periodic are unit vectors normal to all others."""
    if bool(pbc.all()):
        return cell
    normal = torch.linalg.svd(cell * pbc[:, :, None])[2]  # the last rows span what the periodic vectors do not
    rank = pbc.sum(1, keepdim=True) + (~pbc).cumsum(1) - 1
    return torch.where(pbc[:, :, None], cell, normal.gather(1, rank.clamp(min=0)[:, :, None].expand(-1, -1, 3)))
