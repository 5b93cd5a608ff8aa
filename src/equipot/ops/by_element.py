"""Linear maps with a matrix per element for GPUs: no shape depends on a value, so that the host never waits and a CUDA graph can hold them."""

import torch
from torch import Tensor

from equipot.math import Irreps
from equipot.ops import reference

_FEW = 8  # elements up to which every atom is multiplied with the matrices of all of them


def irreps_linear(x: Tensor, weight: Tensor, irreps_in: Irreps, irreps_out: Irreps, species: Tensor | None = None) -> Tensor:
    """Mix channels of equal (l, p), by the matrix of the atom's element; see `equipot.ops.reference.irreps_linear`, which groups atoms instead.

    y[n, m k'] = Σ_z Σ_k W_lp[z, k, k'] δ(z, z_n) x[n, m k] for up to eight elements, one matrix product; else with W[z_n] gathered for every atom.

    Args: x (N, irreps_in.dim); weight (n_weights,) or (n_elements, n_weights); species (N,) int64 or None. Returns (N, irreps_out.dim).
    """
    if species is None:
        return reference.irreps_linear(x, weight, irreps_in, irreps_out)
    n, n_elements = x.shape[0], weight.shape[0]
    few = n_elements <= _FEW
    if few:
        is_element = (species.unsqueeze(1) == torch.arange(n_elements, device=x.device)).to(x.dtype)
    else:
        weight = weight.index_select(0, species)
    parts, w_start = [], 0
    for out in irreps_out:
        block = irreps_in.find(out.l, out.p)
        if block is None:
            parts.append(x.new_zeros(n, out.dim * out.mul))
            continue
        size = block.mul * out.mul
        w_zkj = weight[:, w_start : w_start + size].reshape(-1, block.mul, out.mul)
        w_start += size
        x_nmk = x[:, block.start : block.stop].reshape(n, out.dim, block.mul)
        if few:
            spread = (x_nmk.unsqueeze(2) * is_element[:, None, :, None]).reshape(n, out.dim, n_elements * block.mul)
            y_nmj = spread @ w_zkj.reshape(n_elements * block.mul, out.mul)
        else:
            y_nmj = x_nmk @ w_zkj
        parts.append(y_nmj.reshape(n, out.dim * out.mul))
    return torch.cat(parts, dim=1)
