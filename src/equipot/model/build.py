"""From a point of the design space to modules: one function per slot, no class per combination."""

import math
from collections.abc import Callable

import torch
from torch import nn

from equipot.math import Irreps
from equipot.math.coupled import coupled_basis
from equipot.nn.channel_mixing import Spread, SumChannels, spread_irreps
from equipot.nn.coupled import CoupledProduct
from equipot.nn.gate import Gate
from equipot.nn.layer import Layer, NoProduct
from equipot.nn.linear import ElementLinear, IrrepsLinear
from equipot.nn.norm_gate import NormGate
from equipot.nn.product import SymmetricProduct
from equipot.nn.radial import DirectWeights, LinearWeights, PerceptronWeights, RadialBasis, TableWeights
from equipot.nn.readout import NoReadout, Readout, SumReadout
from equipot.nn.slots import DivideBy, DivideByDensity, ElementResidual, IdentitySkip, NoSelf, NoSkip, Residual, Selector, Unnormalised
from equipot.nn.zbl import ZBL, NoPair
from equipot.ops.plan import ConvolutionPlan, plan_convolution, plan_product
from equipot.ops.registry import Ops
from equipot.spec import LayerSpec, ModelSpec, NormaliserSpec, RadialWeightsSpec, density_irreps, reachable, update_irreps

NONLINEARITIES: dict[str, Callable[[Irreps, bool, Ops], nn.Module]] = {
    "none": lambda kept, even, ops: nn.Identity(),
    "gate": Gate,
    "norm_gate": lambda kept, even, ops: NormGate(kept),
}
"""By name, from the irreps behind it, whether even scalars can be reached, and the operations, to the module."""


def per_element(value: float | tuple[float, ...], n_elements: int, what: str) -> torch.Tensor:
    """(n_elements,) float64 from one number or one per element; raises ValueError on another length."""
    values = [float(value)] * n_elements if isinstance(value, int | float) else [float(v) for v in value]
    if len(values) != n_elements:
        raise ValueError(f"{what} has {len(values)} values for {n_elements} elements")
    return torch.tensor(values, dtype=torch.float64)


def n_attributes(spec: ModelSpec) -> int:
    """Width of the attributes that element-dependent maps are built from."""
    return len(spec.elements) if spec.embedding.attributes == "onehot" else spec.embedding.width


def build_basis(spec: ModelSpec, ops: Ops) -> RadialBasis:
    """The radial basis, shared by all layers."""
    basis = spec.radial_basis
    radius = None if basis.transform == "none" else _covalent_sums(spec) * {"agnesi": 0.5, "soft": 1.0}[basis.transform]
    stretch = None if spec.pair_cutoff is None else spec.cutoff / torch.tensor(spec.pair_cutoff, dtype=torch.float64)
    return RadialBasis(
        basis.kind,
        basis.n,
        spec.cutoff,
        basis.prefactor,
        basis.trainable,
        basis.envelope,
        basis.p,
        transform=basis.transform,
        transform_radius=radius,
        stretch=stretch,
        ops=ops,
    )


def build_pair(spec: ModelSpec) -> nn.Module:
    """The repulsion of pairs, or the one that adds nothing."""
    if spec.pair.kind == "none":
        return NoPair()
    if spec.pair.range == "covalent":
        cutoff = _covalent_sums(spec)
    else:
        cutoff = torch.tensor(spec.pair_cutoff or [[spec.cutoff] * len(spec.elements)] * len(spec.elements), dtype=torch.float64)
    return ZBL(torch.tensor(spec.elements), cutoff, spec.pair.p, spec.pair.constants, spec.pair.scaled)


def _covalent_sums(spec: ModelSpec) -> torch.Tensor:
    """Sum of the covalent radii of every pair of elements, (n, n) Å."""
    from ase.data import covalent_radii

    radii = torch.tensor([covalent_radii[z] for z in spec.elements], dtype=torch.float64)
    return radii[:, None] + radii[None, :]


def build_layer(spec: ModelSpec, layer: LayerSpec, features: Irreps, kept: Irreps, ops: Ops) -> Layer:
    """One interaction layer from features of irreps `features` to `kept`."""
    even = (0, 1) in reachable(features, layer.l_max)
    update = update_irreps(layer, features, kept)
    density = density_irreps(layer, features, update)
    plan = plan_convolution(features, layer.l_max, density)
    before, after = _normalisers(spec, layer.normaliser)
    mixed = plan.irreps_out
    if layer.radial.channels == "coupled":
        plan, before = plan_convolution(spread_irreps(features), layer.l_max, density), Spread(before, features)
    width = n_attributes(spec)
    return Layer(
        plan,
        ops,
        up=IrrepsLinear(features, features, ops) if layer.linear_up else nn.Identity(),
        radial=_radial_weights(layer.radial, spec.radial_basis.n, plan.n_weights, len(spec.elements), ops),
        before=before,
        linear=_linear(layer, plan, mixed, density, ops),
        after=after,
        selector=Selector(ElementLinear(density, density, width, ops)) if layer.self_connection == "selector" else NoSelf(),
        product=_product(spec, layer, density, update, ops),
        self_connection=_self_connection(layer.self_connection, features, update, width, ops),
        nonlinearity=NONLINEARITIES[layer.nonlinearity](kept, even, ops),
        skip=NoSkip() if layer.skip == "none" else IdentitySkip(features, kept),
    )


def _linear(layer: LayerSpec, plan: ConvolutionPlan, mixed: Irreps, density: Irreps, ops: Ops) -> nn.Module:
    """The map behind the convolution, from `mixed`, the channels of all its paths."""
    linear = IrrepsLinear(mixed, density, ops) if layer.linear_density else nn.Identity()
    return SumChannels(plan, linear) if layer.radial.channels == "coupled" else linear


def _normalisers(spec: ModelSpec, normaliser: NormaliserSpec) -> tuple[nn.Module, nn.Module]:
    """The modules before and after the linear map."""
    if normaliser.kind == "none":
        return Unnormalised(), Unnormalised()
    if normaliser.kind == "density":
        module: nn.Module = DivideByDensity(spec.radial_basis.n)
    else:
        if normaliser.value is None:
            raise ValueError("the mean number of neighbours is not known yet: fill `normaliser.value` from data first")
        value = per_element(normaliser.value, len(spec.elements), "normaliser.value")
        module = DivideBy(value.sqrt() if normaliser.kind == "sqrt" else value)
    return (module, Unnormalised()) if normaliser.place == "before" else (Unnormalised(), module)


def _radial_weights(radial: RadialWeightsSpec, n_basis: int, n_weights: int, n_elements: int, ops: Ops) -> nn.Module:
    if radial.kind == "mlp":
        return PerceptronWeights(
            n_basis, n_weights, radial.widths, radial.activation, radial.normalisation, radial.elements, n_elements, ops
        )
    if radial.kind == "direct":
        return DirectWeights(n_basis, n_weights)
    if radial.elements == "none":
        return LinearWeights(n_basis, n_weights)
    return TableWeights(n_basis, n_weights, n_elements, both=radial.elements == "both")


def _product(spec: ModelSpec, layer: LayerSpec, density: Irreps, update: Irreps, ops: Ops) -> nn.Module:
    if layer.product is None:
        return NoProduct()
    n_elements = len(spec.elements)
    if layer.channels == "coupled":
        basis = coupled_basis(n_elements, spec.radial_basis.n, layer.l_max, layer.product.degrees, layer.product.angular_weight)
        return CoupledProduct(basis, density, update, n_elements if layer.product.elements else None)
    plan = plan_product(density, layer.product.correlation, update)
    return SymmetricProduct(plan, update, n_elements if layer.product.elements else None, ops)


def _self_connection(kind: str, features: Irreps, update: Irreps, width: int, ops: Ops) -> nn.Module:
    if not any(features.find(b.l, b.p) for b in update):
        return NoSelf()
    if kind == "residual":
        return Residual(IrrepsLinear(features, update, ops))
    if kind == "element_residual":
        return ElementResidual(ElementLinear(features, update, width, ops))
    return NoSelf()


def start_plainly(model: nn.Module) -> None:
    """The fan-in of every linear map of features out of the forward pass and into its weights."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, IrrepsLinear | ElementLinear):
                module.weight.mul_(module._scale)
                module._scale.fill_(1.0)


def build_readout(layer: LayerSpec, features: Irreps, ops: Ops) -> nn.Module:
    """The layer's readout, or the one that adds nothing."""
    if layer.readout is None:
        return NoReadout()
    if layer.readout.kind == "sum":
        return SumReadout(features)
    return Readout(features, layer.readout.widths, layer.readout.activation, layer.readout.normalisation, ops)


def embedding_table(spec: ModelSpec) -> tuple[torch.Tensor, float]:
    """The table (n_elements, width) and the factor it is used with; a parameter unless it is one-hot."""
    if spec.embedding.kind == "onehot":
        return torch.eye(len(spec.elements), dtype=torch.get_default_dtype()).repeat_interleave(spec.embedding.width, dim=1), 1.0
    table = nn.Parameter(torch.randn(len(spec.elements), spec.embedding.width, dtype=torch.get_default_dtype()))
    return table, 1.0 / math.sqrt(len(spec.elements)) if spec.embedding.kind == "linear" else 1.0
