"""Models of the BOTNet paper's own program (gncs/botnet, e3nn 0.4.4) as points of the design space. FACTS: Batatia et al., arXiv:2205.06643."""

import numpy as np

from equipot.conventions import SECOND_MOMENT
from equipot.math import Irreps
from equipot.model.importers.bundle import Bundle
from equipot.model.importers.convert import LayerWeights, ModelWeights
from equipot.model.importers.e3nn_layout import (
    Layout,
    couplings,
    element_matrices,
    gate_places,
    linear_matrices,
    n_channels,
    parse_layout,
    printed_layouts,
)
from equipot.spec import EmbeddingSpec, EnergySpec, LayerSpec, ModelSpec, NormaliserSpec, RadialBasisSpec, RadialWeightsSpec, ReadoutSpec

_MODULES = {"node_embedding", "radial_embedding", "spherical_harmonics", "atomic_energies_fn", "interactions", "readouts", "scale_shift"}

# class of the interaction -> (radial weights, self-connection, nonlinearity)
_BLOCKS = {
    "SimpleInteractionBlock": ("linear", "selector", "none"),
    "NonlinearInteractionBlock": ("plain", "selector", "none"),
    "ElementDependentInteractionBlock": ("table", "selector", "none"),
    "ResidualElementDependentInteractionBlock": ("table", "element_residual", "none"),
    "AgnosticNonlinearInteractionBlock": ("mlp", "selector", "none"),
    "AgnosticNoScNonlinearInteractionBlock": ("mlp", "none", "none"),
    "AgnosticResidualNonlinearInteractionBlock": ("mlp", "element_residual", "none"),
    "NequIPInteractionBlock": ("mlp", "element_residual", "gate"),
}


def botnet_spec(bundle: Bundle) -> ModelSpec:
    """The point of the design space; raises UserError naming what is not in it."""
    for name in bundle.children(""):
        if name not in _MODULES:
            raise bundle.refuse(f"the module {name} ({bundle.kind(name)})")
    if str(bundle.get("edge_vector", "r_receiver - r_sender")) != "r_receiver - r_sender":
        raise bundle.refuse(f"the edge vector {bundle.get('edge_vector')}")
    n_layers = int(bundle.need("num_interactions"))
    readouts = _readouts(bundle, n_layers)
    layers = tuple(_layer_spec(bundle, i, readouts[i]) for i in range(n_layers))
    scaled = "scale_shift" in bundle.modules
    shift = float(bundle.need("atomic_inter_shift")) if scaled else 0.0
    free = shift != 0.0 or layers[0].self_connection == "element_residual"
    order = element_order(bundle)
    return ModelSpec(
        cutoff=float(bundle.need("r_max")),
        layers=layers,
        elements=tuple(int(bundle.need("atomic_numbers")[i]) for i in order),
        radial_basis=RadialBasisSpec(
            n=int(bundle.need("num_bessel")),
            prefactor="sqrt",
            p=int(bundle.need("num_polynomial_cutoff")),
            trainable=_trainable_bessel(bundle),
        ),
        embedding=EmbeddingSpec(kind="linear", width=_embedding_width(bundle)),
        energy=EnergySpec(
            e0=tuple(float(bundle.need("atomic_energies")[i]) for i in order),
            scale=float(bundle.need("atomic_inter_scale")) if scaled else 1.0,
            shift=shift,
        ),
        isolated_atom="free" if free else "exact",
    )


def element_order(bundle: Bundle) -> np.ndarray:
    """Which of the bundle's elements is each of ours (ascending)."""
    numbers = np.asarray(bundle.need("atomic_numbers"))
    if len(set(numbers.tolist())) != len(numbers):
        raise bundle.refuse("a model with several types of one element")
    return np.argsort(numbers)


def _layer_spec(bundle: Bundle, index: int, readout: ReadoutSpec | None) -> LayerSpec:
    kind = bundle.kind(f"interactions.{index}")
    if kind not in _BLOCKS:
        raise bundle.refuse(f"the interaction {kind}")
    radial, self_connection, nonlinearity = _BLOCKS[kind]
    _, irreps = printed_layouts(bundle.printed(f"interactions.{index}.{'equivariant_nonlin' if nonlinearity == 'gate' else 'linear'}"))
    return LayerSpec(
        irreps=str(Irreps(tuple(irreps))),
        l_max=int(bundle.need("max_ell")),
        linear_up=f"interactions.{index}.linear_up" in bundle.modules,
        radial=_radial_spec(bundle, index, radial),
        normaliser=NormaliserSpec(kind="mean", place="after", value=float(bundle.need("avg_num_neighbors"))),
        self_connection=self_connection,
        nonlinearity=nonlinearity,
        readout=readout,
    )


def _radial_spec(bundle: Bundle, index: int, kind: str) -> RadialWeightsSpec:
    name = f"interactions.{index}.conv_tp_weights"
    if kind == "mlp":
        n = len([w for w in bundle.weights if w.startswith(f"{name}.layer")])
        widths = tuple(bundle.weights[f"{name}.layer{i}.weight"].shape[1] for i in range(n - 1))
        return RadialWeightsSpec(kind="mlp", widths=widths, activation="silu", normalisation="e3nn")
    if kind == "plain":
        n = len([w for w in bundle.weights if w.startswith(f"{name}.layers.") and w.endswith("weight")])
        if "act=ReLU()" not in bundle.printed(name):
            raise bundle.refuse(f"the activation in {bundle.printed(name)}")
        widths = tuple(bundle.weights[f"{name}.layers.{i}.weight"].shape[0] for i in range(n - 1))
        return RadialWeightsSpec(kind="mlp", widths=widths, activation="relu", elements="sender", normalisation="plain")
    return RadialWeightsSpec(kind="linear", widths=(), elements="sender" if kind == "table" else "none")


def _readouts(bundle: Bundle, n_layers: int) -> list[ReadoutSpec | None]:
    """One readout per layer, or one behind the last."""
    names = bundle.children("readouts")
    if len(names) not in (1, n_layers):
        raise bundle.refuse(f"a model of {n_layers} layers with {len(names)} readouts")
    specs = [readout_spec(bundle, f"readouts.{i}") for i in range(len(names))]
    return [None] * (n_layers - len(specs)) + specs


def readout_spec(bundle: Bundle, path: str) -> ReadoutSpec:
    """Linear, or one hidden layer with the model's gate."""
    kind = bundle.kind(path)
    if kind == "LinearReadoutBlock":
        return ReadoutSpec()
    if kind != "NonLinearReadoutBlock":
        raise bundle.refuse(f"the readout {kind}")
    _, hidden = printed_layouts(bundle.printed(f"{path}.linear_1"))
    if set(n_channels(hidden)) != {(0, 1)}:
        raise bundle.refuse(f"the readout's hidden irreps {bundle.get('MLP_irreps')}")
    return ReadoutSpec(widths=(n_channels(hidden)[0, 1],), activation=_gate(bundle))


def _gate(bundle: Bundle) -> str:
    """The activation of the readout, whose second-moment constant must be ours."""
    name = str(bundle.get("gate")).lower()
    name = "identity" if name == "none" else name
    if name not in ("silu", "tanh", "abs", "identity"):
        raise bundle.refuse(f"the gate {bundle.get('gate')}")
    check_constant(bundle, name)
    return name


def check_constant(bundle: Bundle, name: str) -> None:
    """Refuse other second-moment constants than e3nn's."""
    constants = bundle.get("activation_second_moment_constants") or {}
    if name in constants and abs(constants[name] - SECOND_MOMENT[name]) > 1e-12:
        raise bundle.refuse(f"the second-moment constant {constants[name]} of {name}")


def _embedding_width(bundle: Bundle) -> int:
    _, out = printed_layouts(bundle.printed("node_embedding.linear"))
    return n_channels(out)[0, 1]


def _trainable_bessel(bundle: Bundle) -> bool:
    return "radial_embedding.bessel_fn.bessel_weights" in bundle.weights


def botnet_weights(bundle: Bundle, spec: ModelSpec) -> ModelWeights:
    """The weights in effective matrices."""
    order = element_order(bundle)
    n_elements = len(order)
    check_constant(bundle, "silu")
    embedding = bundle.take("node_embedding.linear.weight").reshape(n_elements, -1)[order] / np.sqrt(n_elements)
    frequencies = bundle.take("radial_embedding.bessel_fn.bessel_weights").reshape(-1) if spec.radial_basis.trainable else None
    first_readout = len(spec.layers) - len(bundle.children("readouts"))
    layers = []
    for i, layer in enumerate(spec.layers):
        weights = _layer_weights(bundle, i, layer, order)
        if layer.readout is not None:
            weights.readout = readout_matrices(bundle, f"readouts.{i - first_readout}", layer.readout)
        layers.append(weights)
    return ModelWeights(embedding, layers, frequencies, flipped=True)


def _layer_weights(bundle: Bundle, index: int, layer: LayerSpec, order: np.ndarray) -> LayerWeights:
    name = f"interactions.{index}"
    mid, out = printed_layouts(bundle.printed(f"{name}.linear"))
    inputs = _convolution_input(bundle, name)
    weights = LayerWeights(
        radial=[],
        couplings=couplings(inputs, layer.l_max, set(n_channels(mid)), by_output=False),
        linear=linear_matrices(bundle.take(f"{name}.linear.weight"), mid, out),
    )
    if layer.linear_up:
        weights.up = linear_matrices(bundle.take(f"{name}.linear_up.weight"), inputs, inputs)
    weights.radial, weights.biases = _radial_matrices(bundle, f"{name}.conv_tp_weights", layer.radial, order)
    if layer.self_connection != "none":
        source = out if layer.self_connection == "selector" else inputs
        matrices = element_matrices(bundle.take(f"{name}.skip_tp.weight"), source, len(order), out)
        matrices = {key: m[order] for key, m in matrices.items()}
        weights.selector, weights.residual = (matrices, None) if layer.self_connection == "selector" else (None, matrices)
    if layer.nonlinearity == "gate":
        _, features = printed_layouts(bundle.printed(f"{name}.equivariant_nonlin"))
        weights.gate = gate_places(features, out)
    return weights


def _convolution_input(bundle: Bundle, name: str) -> Layout:
    """Irreps of h in front of the convolution, as printed: "TensorProduct(A x B -> C | …)"."""
    return parse_layout(bundle.printed(f"{name}.conv_tp").split("(", 1)[1].split(" x ")[0])


def _radial_matrices(bundle: Bundle, name: str, radial: RadialWeightsSpec, order: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    if radial.kind == "mlp" and radial.normalisation == "e3nn":
        return fully_connected(bundle, name, len(radial.widths) + 1, "silu"), []
    if radial.kind == "mlp":
        matrices = [bundle.take(f"{name}.layers.{i}.weight").T for i in range(len(radial.widths) + 1)]
        one_hot = np.arange(len(order))
        matrices[0] = np.concatenate([matrices[0][one_hot[order]], matrices[0][len(order) :]])
        return matrices, [bundle.take(f"{name}.layers.{i}.bias") for i in range(len(matrices))]
    if radial.elements == "sender":
        return [bundle.take(f"{name}.weights")[order]], []
    n_basis = int(bundle.need("num_bessel"))
    return [bundle.take(f"{name}.weight").reshape(n_basis, -1) / np.sqrt(n_basis)], []


def fully_connected(bundle: Bundle, name: str, n_layers: int, activation: str) -> list[np.ndarray]:
    """e3nn.nn.FullyConnectedNet: W/√fan-in, each behind the first times the second-moment factor of the activation before it."""
    matrices = [bundle.take(f"{name}.layer{i}.weight") for i in range(n_layers)]
    return [m / np.sqrt(m.shape[0]) * (SECOND_MOMENT[activation] if i else 1.0) for i, m in enumerate(matrices)]


def readout_matrices(bundle: Bundle, path: str, readout: ReadoutSpec) -> list[np.ndarray]:
    """o3.Linear of the invariant scalars, or two of them with an activation of unit second moment between."""
    if not readout.widths:
        inputs, out = printed_layouts(bundle.printed(f"{path}.linear"))
        return [linear_matrices(bundle.take(f"{path}.linear.weight"), inputs, out)[0, 1]]
    matrices = []
    for name in ("linear_1", "linear_2"):
        inputs, out = printed_layouts(bundle.printed(f"{path}.{name}"))
        matrices.append(linear_matrices(bundle.take(f"{path}.{name}.weight"), inputs, out)[0, 1])
    return [matrices[0], matrices[1] * SECOND_MOMENT[readout.activation]]
