"""The product basis of a layer: symmetric products of the density with itself, then a linear map."""

import torch
from torch import Tensor, nn

from equipot.math import Irreps
from equipot.nn.linear import IrrepsLinear
from equipot.ops.plan import ProductPlan
from equipot.ops.registry import Ops


class SymmetricProduct(nn.Module):
    """m = linear(Σ_ν Σ_η W_η(z) B_η(A)), one weight per coupling and channel, per element or shared (`n_elements` None).

    Input (N, plan.irreps_in.dim), output (N, irreps_out.dim). Weights start from N(0, 1) / number of couplings of their order and irrep.
    """

    def __init__(self, plan: ProductPlan, irreps_out: Irreps, n_elements: int | None, ops: Ops):
        super().__init__()
        self.plan, self.ops, self.per_element = plan, ops, n_elements is not None
        shape = (plan.n_weights, plan.n_channels) if n_elements is None else (n_elements, plan.n_weights, plan.n_channels)
        start = torch.randn(shape, dtype=torch.get_default_dtype())
        for term in plan.terms:
            n_eta = term.coefficients.shape[1]
            start[..., term.w_start : term.w_start + n_eta, :] /= n_eta
        self.weight = nn.Parameter(start)
        self.linear = IrrepsLinear(plan.irreps_out, irreps_out, ops)

    def forward(self, x: Tensor, species: Tensor, attributes: Tensor | None) -> Tensor:
        return self.linear(self.ops.symmetric_product(x, self.weight, self.plan, species if self.per_element else None))
