"""The product basis of coupled channels: linear ACE's invariants of the density, contracted with one weight per function.

Axes: n atoms, p nodes or functions, m components of a degree, a b components of a pair's labels. A feature row is flat: blocks (2l+1, K).
"""

import math

import torch
from torch import Tensor, nn

from equipot.math import Irreps
from equipot.math.coupled import CoupledBasis
from equipot.ops.groups import product_by_group


class CoupledProduct(nn.Module):
    """h_c = Σ_η W_η,c(z) B_η(A), one weight per function and output channel c, per element of the centre or shared (`n_elements` None).

    B_η are the invariants of `equipot.math.coupled`, whose labels name channels of the input. Input (N, irreps_in.dim), equal channels in every
    block of natural parity; output (N, irreps_out.dim), even scalars. Weights start from N(0, 1) / √(number of functions of their order).
    """

    def __init__(self, basis: CoupledBasis, irreps_in: Irreps, irreps_out: Irreps, n_elements: int | None):
        super().__init__()
        self.basis, self.irreps_in, self.per_element = basis, irreps_in, n_elements is not None
        dtype = torch.get_default_dtype()
        shape = (basis.n_functions, irreps_out.dim) if n_elements is None else (n_elements, basis.n_functions, irreps_out.dim)
        orders = torch.from_numpy(basis.orders)
        self.weight = nn.Parameter(torch.randn(shape, dtype=dtype) * torch.bincount(orders)[orders].to(dtype).rsqrt().unsqueeze(1))
        for l, channels in enumerate(basis.channels):
            self.register_buffer(f"_channels_{l}", torch.from_numpy(channels), persistent=False)
        for i, pair in enumerate(basis.pairs):
            self.register_buffer(f"_pair_{i}", torch.stack([torch.from_numpy(pair.first), torch.from_numpy(pair.second)]), persistent=False)
            self.register_buffer(f"_coupling_{i}", torch.from_numpy(pair.coefficients.copy()).to(dtype), persistent=False)
        for i, product in enumerate(basis.products):
            self.register_buffer(
                f"_product_{i}", torch.stack([torch.from_numpy(product.left), torch.from_numpy(product.right)]), persistent=False
            )

    def forward(self, x: Tensor, species: Tensor, attributes: Tensor | None) -> Tensor:
        functions = self.functions(x)
        if not self.per_element:
            return functions @ self.weight
        return product_by_group(functions, self.weight, species)

    def functions(self, x: Tensor) -> Tensor:
        """B_η, (N, n_functions)."""
        nodes = self.nodes(x)
        found = []
        for i, product in enumerate(self.basis.products):
            left, right = getattr(self, f"_product_{i}")
            x_npm = nodes[product.L]
            found.append((x_npm.index_select(1, left) * x_npm.index_select(1, right)).sum(2) / math.sqrt(2 * product.L + 1))
        return torch.cat(found, dim=1)

    def nodes(self, x: Tensor) -> dict[int, Tensor]:
        """The nodes of every degree L: its labels, its pairs, and for L = 0 the constant 1; (N, n_nodes, 2L+1)."""
        labels = self.labels(x)
        parts = {l: [a_npm] for l, a_npm in enumerate(labels)}
        for i, pair in enumerate(self.basis.pairs):
            first, second = getattr(self, f"_pair_{i}")
            a_npa, b_npb = labels[pair.l1].index_select(1, first), labels[pair.l2].index_select(1, second)
            products = (a_npa.unsqueeze(3) * b_npb.unsqueeze(2)).flatten(2)  # not einsum, whose sizes a trace would take for constants
            parts.setdefault(pair.L, []).append(products @ getattr(self, f"_coupling_{i}").flatten(0, 1))
        parts[0].append(x.new_ones(x.shape[0], 1, 1))
        return {l: torch.cat(found, dim=1) for l, found in parts.items()}

    def labels(self, x: Tensor) -> list[Tensor]:
        """A_v of the labels of every degree l, (N, n_labels, 2l+1)."""
        found = []
        for l in range(self.basis.l_max + 1):
            block = self.irreps_in.find(l, (-1) ** l)
            a_nmk = x[:, block.start : block.stop].reshape(-1, block.dim, block.mul)
            found.append(a_nmk.index_select(2, getattr(self, f"_channels_{l}")).transpose(1, 2))
        return found
