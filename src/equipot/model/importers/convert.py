"""Putting the original program's matrices, laid out by `e3nn_layout`, into the tensors of an equipot model of the same point of the design space."""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from equipot.errors import UserError
from equipot.math import E3NN_044_FLIPPED
from equipot.model.importers.e3nn_layout import Coupling, GatePlaces, Key, Layout, Matrices
from equipot.model.importers.product import product_weights
from equipot.model.potential import Potential
from equipot.nn.layer import Layer
from equipot.nn.linear import ElementLinear, IrrepsLinear
from equipot.nn.perceptron import Perceptron
from equipot.nn.radial import LinearWeights, PerceptronWeights, TableWeights
from equipot.nn.slots import NoSelf


@dataclass
class LayerWeights:
    """One layer in effective matrices (normalisation and second-moment factors multiplied in), in the original's order of paths and channels."""

    radial: list[np.ndarray]  # matrices from the basis to the radial weights; with elements: one (n_elements, n_basis, n_weights)
    couplings: dict[tuple[int, int, int, int], Coupling]
    linear: Matrices
    up: Matrices | None = None
    biases: list[np.ndarray] = field(default_factory=list)
    selector: Matrices | None = None
    residual: Matrices | None = None
    density: np.ndarray | None = None  # (n_basis, 1) of the learned density
    product_tensors: dict[tuple[Key, int], tuple[np.ndarray, np.ndarray]] | None = None  # MACE's U and its weights, see `product_weights`
    product_density: Layout = field(default_factory=list)  # layout of the A they act on
    product_linear: Matrices | None = None
    readout: list[np.ndarray] | None = None
    gate: GatePlaces | None = None


@dataclass
class ModelWeights:
    """A whole model; per-element arrays are already in our order of elements (ascending)."""

    embedding: np.ndarray  # (n_elements, width), effective
    layers: list[LayerWeights]
    frequencies: np.ndarray | None = None  # (n,) 1/Å, where they are trainable
    flipped: bool = False  # odd-sum couplings have e3nn 0.4.4's signs


def fill(potential: Potential, weights: ModelWeights) -> None:
    """Copy everything; raises UserError if a tensor of the potential stays without a value."""
    filler = _Filler(potential)
    filler.put(potential.embedding, weights.embedding / potential._embedding_scale)
    if weights.frequencies is not None:
        filler.put(potential.basis.frequencies, weights.frequencies)
    for layer, readout, ours in zip(potential.layers, potential.readouts, weights.layers, strict=True):
        _fill_layer(filler, layer, ours, weights.flipped)
        if ours.readout is not None:
            filler.perceptron(readout.mlp, ours.readout)
    filler.finish()


class _Filler:
    """Sets parameters and keeps account of them."""

    def __init__(self, potential: Potential):
        self.names = {id(p): name for name, p in potential.named_parameters()}
        self.waiting = set(self.names) - {id(p) for p in (potential.scale, potential.shift)}

    def put(self, parameter: nn.Parameter, value: np.ndarray | torch.Tensor) -> None:
        value = torch.as_tensor(np.ascontiguousarray(value), dtype=torch.float64)
        if value.shape != parameter.shape:
            raise UserError(f"tensor {self.names[id(parameter)]} should be {tuple(parameter.shape)}, the bundle gives {tuple(value.shape)}")
        with torch.no_grad():
            parameter.copy_(value)
        self.waiting.remove(id(parameter))

    def perceptron(self, module: Perceptron, matrices: list[np.ndarray], biases: list[np.ndarray] | None = None) -> None:
        """Effective matrices, of which the module multiplies its own factors back in."""
        for i, (parameter, matrix) in enumerate(zip(module.weights, matrices, strict=True)):
            self.put(parameter, matrix / (module.scales[i] * (module.gain if i else 1.0)))
        for parameter, bias in zip(module.biases, biases or [], strict=True):
            self.put(parameter, bias)

    def linear(
        self, module: IrrepsLinear | ElementLinear, matrices: Matrices, rows: dict[Key, np.ndarray], columns: dict[Key, np.ndarray]
    ) -> None:
        """Matrices (…, K_in, K_out) per irrep; `rows` and `columns` say which of them are our channels, all in order where they are silent."""
        parts = []
        for out in module.irreps_out:
            block, key = module.irreps_in.find(out.l, out.p), (out.l, out.p)
            if block is None:
                continue
            if key not in matrices:
                raise UserError(f"the bundle has no matrix for l = {out.l}, parity {out.p} of {self.names[id(module.weight)]}")
            matrix = matrices[key]
            matrix = matrix[..., rows[key], :] if key in rows else matrix
            matrix = matrix[..., columns[key]] if key in columns else matrix
            if matrix.shape[-2:] != (block.mul, out.mul):
                raise UserError(
                    f"{self.names[id(module.weight)]}: expected a {block.mul}×{out.mul} matrix, the bundle gives {matrix.shape[-2:]}"
                )
            parts.append(matrix.reshape(*matrix.shape[:-2], -1))
        self.put(module.weight, np.concatenate(parts, axis=-1) / module._scale.numpy())

    def finish(self) -> None:
        if self.waiting:
            raise UserError(f"the bundle gives no value for {min(self.names[i] for i in self.waiting)}")


def _fill_layer(filler: _Filler, layer: Layer, ours: LayerWeights, flipped: bool) -> None:
    order, rows, signs = _paths(layer, ours, flipped)
    columns = _gate_columns(layer, ours.gate)
    if ours.up is not None:
        filler.linear(layer.up, ours.up, {}, {})
    _fill_radial(filler, layer.radial, ours, order)
    # the sign of a flipped coupling goes into the rows behind it
    signed = {key: ours.linear[key] * signs[key][:, None] for key in ours.linear if key in signs}
    filler.linear(layer.linear, signed, rows, columns)
    if ours.selector is not None:
        filler.linear(layer.selector.linear, ours.selector, {}, {})
    if ours.density is not None:
        filler.perceptron(layer.after.mlp, [ours.density])
    if ours.product_tensors is not None:
        product = product_weights(layer.product.plan, ours.product_density, ours.product_tensors)
        filler.put(layer.product.weight, product if layer.product.per_element else product[0])
        filler.linear(layer.product.linear, ours.product_linear, {}, columns)
    if ours.residual is not None and not isinstance(layer.self_connection, NoSelf):
        filler.linear(layer.self_connection.linear, ours.residual, {}, columns)


def _gate_columns(layer: Layer, gate: GatePlaces | None) -> dict[Key, np.ndarray]:
    """Our scalars and gates among theirs; the gates of blocks that nothing reads are left out."""
    if gate is None:
        return {}
    kept = layer.nonlinearity.irreps
    scalars = np.arange(kept.mul(*gate.key))
    return {gate.key: np.concatenate([scalars, *(gate.gates[b.l, b.p] for b in kept if b.l)])}


def _paths(layer: Layer, ours: LayerWeights, flipped: bool) -> tuple[np.ndarray, dict[Key, np.ndarray], dict[Key, np.ndarray]]:
    """Radial weights in our order among theirs; per output irrep the rows of the linear map in our order, and the sign of each of theirs."""
    order, rows = [], {}
    signs = {key: np.ones(len(matrix)) for key, matrix in ours.linear.items()}
    for path in layer.plan.paths:
        coupling = ours.couplings.get((path.l1, path.p1, path.l2, path.l3))
        if coupling is None:
            raise UserError(f"the bundle lacks the coupling of l = {path.l1} with Y of l = {path.l2} to l = {path.l3}")
        order.append(coupling.columns)
        rows.setdefault((path.l3, path.p3), []).append(coupling.rows)
        if flipped and tuple(sorted((path.l1, path.l2, path.l3))) in E3NN_044_FLIPPED:
            signs[path.l3, path.p3][coupling.rows] = -1.0
    return np.concatenate(order), {key: np.concatenate(r) for key, r in rows.items()}, signs


def _fill_radial(filler: _Filler, module: nn.Module, ours: LayerWeights, order: np.ndarray) -> None:
    *hidden, last = ours.radial
    last = last[..., order]
    if isinstance(module, TableWeights):
        filler.put(module.weight, last)
    elif isinstance(module, LinearWeights):
        filler.put(module.weight, last / module.scale)
    elif isinstance(module, PerceptronWeights):
        biases = [*ours.biases[:-1], ours.biases[-1][order]] if ours.biases else []
        filler.perceptron(module.mlp, [*hidden, last], biases)
