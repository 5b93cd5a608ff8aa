"""A layer as a short list of steps with explicit weights, as the native engine runs it: everything constant is folded in.

Linear maps are lists of blocks (2l+1, in start, in channels, out start, out channels, first weight) over rows, and weights (1 or n_elements, n).
"""

from collections.abc import Iterable

import numpy as np
from torch import nn

from equipot.conventions import SECOND_MOMENT
from equipot.errors import CannotExpressError
from equipot.math import Irreps
from equipot.model.export.products import coupled_tensors, product_tensors
from equipot.nn.channel_mixing import Spread, SumChannels, spread_irreps
from equipot.nn.coupled import CoupledProduct
from equipot.nn.gate import Gate
from equipot.nn.layer import Layer, NoProduct
from equipot.nn.linear import ElementLinear, IrrepsLinear
from equipot.nn.norm_gate import NormGate
from equipot.nn.perceptron import Perceptron
from equipot.nn.product import SymmetricProduct
from equipot.nn.readout import NoReadout, Readout, SumReadout
from equipot.nn.slots import DivideBy, DivideByDensity, ElementResidual, IdentitySkip, NoSelf, NoSkip, Residual, Selector, Unnormalised

Tensors = dict[str, np.ndarray]
ACTIVATION_CODES = {"identity": 0, "silu": 1, "tanh": 2, "abs": 3, "relu": 4, "gelu": 5, "mish": 6, "ssp": 7}


class Linear:
    """x → y with y[m k'] = Σ_k W(z)[k, k'] x[m k] for every (l, p) that x and y share; `weights` (1 or n_elements, n)."""

    def __init__(self, irreps_in: Irreps, irreps_out: Irreps, weights: np.ndarray):
        self.irreps_in, self.irreps_out, self.weights = irreps_in, irreps_out, weights

    @classmethod
    def of(cls, module: nn.Module, attributes: np.ndarray | None) -> "Linear":
        """From a linear module, its factors folded in."""
        if isinstance(module, SumChannels):
            return cls._over_channels(module)
        if not isinstance(module, IrrepsLinear | ElementLinear):
            raise CannotExpressError(f"the native engine does not know a linear map of type {type(module).__name__}")
        weight = (module.weight * module._scale).detach().numpy()
        if isinstance(module, ElementLinear):
            return cls(module.irreps_in, module.irreps_out, weight if attributes is None else attributes @ weight)
        return cls(module.irreps_in, module.irreps_out, weight[None])

    @classmethod
    def identity(cls, irreps: Irreps) -> "Linear":
        """The map that changes nothing."""
        return cls(irreps, irreps, np.concatenate([np.eye(b.mul).reshape(1, -1) for b in irreps], axis=1))

    @classmethod
    def _over_channels(cls, module: SumChannels) -> "Linear":
        """K^{-1/2} times the sum over the incoming channel of every path, then the module's own map."""
        inner = cls.of(module.linear, None)
        matrices, parts = inner._matrices(1), []
        coupled = Irreps(tuple(block for block, _ in module.widths))
        for out in inner.irreps_out:
            if (out.l, out.p) not in matrices:
                continue
            widths = next(w for block, w in module.widths if (block.l, block.p) == (out.l, out.p))
            rows = np.split(matrices[out.l, out.p][0], np.cumsum(widths)[:-1])
            parts.append(np.concatenate([np.tile(row, (k, 1)) / np.sqrt(k) for k, row in zip(widths, rows, strict=True)]).reshape(1, -1))
        return cls(coupled, inner.irreps_out, np.concatenate(parts, axis=1))

    @classmethod
    def spread(cls, irreps: Irreps) -> "Linear":
        """Every channel as many times as there are channels, one behind the other."""
        return cls(
            irreps, spread_irreps(irreps), np.concatenate([np.repeat(np.eye(b.mul), b.mul, axis=1).reshape(1, -1) for b in irreps], axis=1)
        )

    @classmethod
    def restriction(cls, irreps_in: Irreps, irreps_out: Irreps) -> "Linear":
        """The blocks of the input that the output has, as they are."""
        return cls(
            irreps_in, irreps_out, np.concatenate([np.eye(irreps_in.mul(b.l, b.p), b.mul).reshape(1, -1) for b in irreps_out], axis=1)
        )

    def scaled(self, factors: np.ndarray) -> "Linear":
        """Times one factor per element of the atom."""
        if (factors == factors[0]).all():
            return Linear(self.irreps_in, self.irreps_out, self.weights * factors[0])
        return Linear(self.irreps_in, self.irreps_out, self.weights * factors[:, None])

    def then(self, other: "Linear") -> "Linear":
        """First this map, then the other."""
        n = max(len(self.weights), len(other.weights))
        first, second = self._matrices(n), other._matrices(n)
        parts = [first[b.l, b.p] @ second[b.l, b.p] for b in other.irreps_out if (b.l, b.p) in first and (b.l, b.p) in second]
        weights = np.concatenate([p.reshape(n, -1) for p in parts], axis=1) if parts else np.zeros((n, 0))
        kept = self.irreps_in.restrict(lambda ir: self.irreps_out.find(ir.l, ir.p) is not None)
        if kept != self.irreps_in.restrict(lambda ir: other.irreps_out.find(ir.l, ir.p) is not None):
            raise ValueError("a linear map between maps drops an irrep on the way")
        return Linear(self.irreps_in, other.irreps_out, weights)

    def _matrices(self, n: int) -> dict[tuple[int, int], np.ndarray]:
        found, start = {}, 0
        weights = np.broadcast_to(self.weights, (n, self.weights.shape[1]))
        for out in self.irreps_out:
            k = self.irreps_in.mul(out.l, out.p)
            if k:
                found[out.l, out.p] = weights[:, start : start + k * out.mul].reshape(n, k, out.mul)
                start += k * out.mul
        return found

    def tensors(self, name: str) -> Tensors:
        """Blocks and weights for the file."""
        blocks, start = [], 0
        for out in self.irreps_out:
            block = self.irreps_in.find(out.l, out.p)
            if block is None:
                continue
            blocks.append((out.dim, block.start, block.mul, out.start, out.mul, start))
            start += block.mul * out.mul
        return {f"{name}.blocks": _table(blocks, 6), f"{name}.weights": self.weights}


def layer_tensors(layer: Layer, features: Irreps, kept: Irreps, attributes: np.ndarray | None, n_elements: int, name: str) -> Tensors:
    """All steps of a layer but its radial functions; raises UserError naming what the engine cannot run."""
    plan = layer.plan
    paths = [(p.l1, p.l2, p.l3, p.n_channels, p.h_start, p.w_start, p.out_start + p.out_channel, p.out_stride) for p in plan.paths]
    linear = Linear.identity(plan.irreps_out) if isinstance(layer.linear, nn.Identity) else Linear.of(layer.linear, attributes)
    density = linear.irreps_out
    linear = linear.scaled(_factors(layer.after, n_elements, "after"))
    if isinstance(layer.selector, Selector):
        linear = linear.then(Linear.of(layer.selector.linear, attributes))
    elif not isinstance(layer.selector, NoSelf):
        raise CannotExpressError(f"the native engine does not know a selector of type {type(layer.selector).__name__}")
    before = layer.before.normaliser if isinstance(layer.before, Spread) else layer.before
    found: Tensors = {f"{name}.paths": _table(paths, 8), f"{name}.scale": _factors(before, n_elements, "before")}
    found |= linear.tensors(f"{name}.linear") | _up_tensors(layer, features, attributes, f"{name}.up")
    update = density
    if isinstance(layer.product, SymmetricProduct):
        update = layer.product.linear.irreps_out
        found |= product_tensors(layer.product, f"{name}.product")
        found |= Linear.of(layer.product.linear, attributes).tensors(f"{name}.product.linear")
    elif isinstance(layer.product, CoupledProduct):
        update = kept
        found |= coupled_tensors(layer.product, f"{name}.product") | Linear.identity(update).tensors(f"{name}.product.linear")
    elif not isinstance(layer.product, NoProduct):
        raise CannotExpressError(f"the native engine does not know a product of type {type(layer.product).__name__}")
    found |= _self_tensors(layer.self_connection, attributes, f"{name}.self")
    found |= _gate_tensors(layer.nonlinearity, f"{name}.gate")
    if isinstance(layer.skip, IdentitySkip):
        found |= Linear.restriction(features, kept).tensors(f"{name}.skip")
    elif not isinstance(layer.skip, NoSkip):
        raise CannotExpressError(f"the native engine does not know a skip of type {type(layer.skip).__name__}")
    dims = (
        features.dim,
        plan.irreps_out.dim,
        density.dim,
        update.dim,
        kept.dim,
        plan.l_max,
        plan.n_weights,
        isinstance(layer.after, DivideByDensity),
        plan.irreps_in.dim,
    )
    found[f"{name}.dims"] = np.array(dims, dtype=np.int64)
    return found


def _up_tensors(layer: Layer, features: Irreps, attributes: np.ndarray | None, name: str) -> Tensors:
    """The map from features to what is sent, if there is one."""
    steps = [Linear.of(layer.up, attributes)] if not isinstance(layer.up, nn.Identity) else []
    if isinstance(layer.before, Spread):
        steps.append(Linear.spread(features))
    if not steps:
        return {}
    return (steps[0] if len(steps) == 1 else steps[0].then(steps[1])).tensors(name)


def readout_tensors(readout: nn.Module, name: str) -> Tensors:
    """Where a layer's scalars lie, its perceptron with factors folded in, and the activation between."""
    if isinstance(readout, NoReadout):
        return {}
    if isinstance(readout, SumReadout):
        start, n = readout.block.start, readout.block.mul
        return {f"{name}.info": np.array([start, 1, 0], dtype=np.int64), f"{name}.weight0": np.ones((n, 1)), f"{name}.bias0": np.zeros(1)}
    if not isinstance(readout, Readout):
        raise CannotExpressError(f"the native engine does not know a readout of type {type(readout).__name__}")
    mlp: Perceptron = readout.mlp
    if mlp.activation not in ACTIVATION_CODES:
        raise CannotExpressError(f"the native engine does not know the activation {mlp.activation} of a readout")
    found = {f"{name}.info": np.array([readout.block.start, len(mlp.weights), ACTIVATION_CODES[mlp.activation]], dtype=np.int64)}
    for i, (weight, scale) in enumerate(zip(mlp.weights, mlp.scales, strict=True)):
        found[f"{name}.weight{i}"] = weight.detach().numpy() * (scale * (mlp.gain if i else 1.0))
        found[f"{name}.bias{i}"] = mlp.biases[i].detach().numpy() if len(mlp.biases) else np.zeros(weight.shape[1])
    return found


def _factors(module: nn.Module, n_elements: int, place: str) -> np.ndarray:
    """(n_elements,): what a normaliser multiplies by; ones for the density, which is done atom by atom."""
    if isinstance(module, DivideBy):
        return module._inverse.double().numpy()
    if isinstance(module, Unnormalised) or (isinstance(module, DivideByDensity) and place == "after"):
        return np.ones(n_elements)
    raise CannotExpressError(f"the native engine does not know a normaliser {place} the linear map of type {type(module).__name__}")


def _self_tensors(module: nn.Module, attributes: np.ndarray | None, name: str) -> Tensors:
    if isinstance(module, NoSelf):
        return {}
    if isinstance(module, Residual | ElementResidual):
        return Linear.of(module.linear, attributes).tensors(name)
    raise CannotExpressError(f"the native engine does not know a self-connection of type {type(module).__name__}")


def _gate_tensors(gate: nn.Module, name: str) -> Tensors:
    """Scalars (in start, out start, n, activation), gated blocks (in start, out start, 2l+1, channels, gates' start, activation), with factors.

    Of a norm gate: blocks (start, 2l+1, channels).
    """
    if isinstance(gate, nn.Identity):
        return {}
    norms: list[tuple[int, ...]] = []
    if isinstance(gate, NormGate):
        norms = [(b.start, b.dim, b.mul) for b in gate.irreps]
        gate = Gate(Irreps(), True)
    if not isinstance(gate, Gate):
        raise CannotExpressError(f"the native engine does not know a nonlinearity of type {type(gate).__name__}")
    acts = {1: "silu", -1: "tanh"}
    scalars, scalar_factors = [], []
    for out in gate.irreps.scalars:
        block = gate.irreps_in.find(0, out.p)
        scalars.append((block.start, out.start, out.mul, ACTIVATION_CODES[acts[out.p]]))
        scalar_factors.append(SECOND_MOMENT[acts[out.p]])
    act, gated, first = acts[gate.gate_parity], [], gate.irreps.mul(0, gate.gate_parity)
    for out in gate.irreps:
        if out.l == 0:
            continue
        block = gate.irreps_in.find(out.l, out.p * gate.gate_parity)
        gates = gate.irreps_in.find(0, gate.gate_parity)
        gated.append((block.start, out.start, out.dim, out.mul, gates.start + first, ACTIVATION_CODES[act]))
        first += out.mul
    return {
        f"{name}.scalars": _table(scalars, 4),
        f"{name}.scalar_factors": np.array(scalar_factors),
        f"{name}.gated": _table(gated, 6),
        f"{name}.norms": _table(norms, 3),
        f"{name}.gated_factors": np.full(len(gated), SECOND_MOMENT[act]),
    }


def _table(rows: Iterable[tuple[int, ...]], width: int) -> np.ndarray:
    return np.array(list(rows), dtype=np.int64).reshape(-1, width)
