"""Models of nequip 0.19 (e3nn 0.6) as points of the design space. Source of the facts: nequip 0.19.1."""

import re

import numpy as np

from equipot.math import Irreps
from equipot.model.importers.botnet import check_constant, element_order
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
from equipot.spec import (
    EmbeddingSpec,
    EnergySpec,
    LayerSpec,
    ModelSpec,
    NormaliserSpec,
    PairSpec,
    RadialBasisSpec,
    RadialWeightsSpec,
    ReadoutSpec,
)

_NET = "model.func"
_KINDS = {
    "type_embed": "NodeTypeEmbed",
    "spharm": "SphericalHarmonicEdgeAttrs",
    "edge_norm": "EdgeLengthNormalizer",
    "bessel_encode": "BesselEdgeLengthEncoding",
    "factor": "ApplyFactor",
    "per_atom_energy_readout": "ScalarMLP",
    "per_type_energy_scale_shift": "PerTypeScaleShift",
    "pair_potential": "ZBL",
    "total_energy_sum": "AtomwiseReduce",
}
_ACTIVATIONS = {"SiLU": "silu", "Tanh": "tanh", "GELU": "gelu", "Mish": "mish", "ShiftedSoftplus": "ssp", "Identity": "identity"}
# e3nn's own constants and what is computed from hyper-parameters: not parameters
_CONSTANTS = re.compile(r"(_w3j_\w*|output_mask|_empty|norm_const|alpha|pair_potential\.atomic_numbers|pair_potential\._qqr2exesquare)$")


def nequip_spec(bundle: Bundle) -> ModelSpec:
    """The point of the design space; raises UserError naming what is not in it."""
    _check_modules(bundle)
    order = element_order(bundle)
    layers = tuple(_layer_spec(bundle, i) for i in range(_n_layers(bundle)))
    shifts = _per_type(bundle, "shifts", 0.0)[order]
    cutoff = float(bundle.need("r_max"))
    train_shift = bool(bundle.get("per_type_energy_shifts_trainable"))
    return ModelSpec(
        cutoff=cutoff,
        pair_cutoff=_pair_cutoff(bundle, order, cutoff),
        layers=layers,
        elements=tuple(int(bundle.need("atomic_numbers")[i]) for i in order),
        radial_basis=RadialBasisSpec(
            n=int(bundle.need("num_bessels")),
            prefactor="linear",
            p=_exponent(bundle.get("polynomial_cutoff_p", 6), bundle),
            trainable=_trainable(bundle),
        ),
        embedding=EmbeddingSpec(
            kind="learned", width=bundle.weights[f"{_NET}.type_embed.embed_module.weight"].shape[1], attributes="embedding"
        ),
        energy=EnergySpec(
            e0=tuple(shifts.tolist()),
            scale=tuple(_per_type(bundle, "scales", 1.0)[order].tolist()),
            shift=0.0,
            train_scale=bool(bundle.get("per_type_energy_scales_trainable")),
            train_shift=train_shift,
        ),
        pair=_pair_spec(bundle),
        isolated_atom="free" if train_shift or layers[0].self_connection != "none" or layers[0].skip != "none" else "exact",
    )


def _check_modules(bundle: Bundle) -> None:
    for name in bundle.children(_NET):
        kind = bundle.kind(f"{_NET}.{name}")
        expected = "ConvNetLayer" if re.fullmatch(r"layer\d+_convnet", name) else _KINDS.get(name)
        if kind != expected:
            raise bundle.refuse(f"the module {name} ({kind})")
    if fields := bundle.children(f"{_NET}.type_embed.categorical_graph_field_embed_modules"):
        raise bundle.refuse(f"the embedding of the graph's {fields[0]}")
    if str(bundle.get("edge_vector", "r_neighbour - r_centre")) != "r_neighbour - r_centre":
        raise bundle.refuse(f"the edge vector {bundle.get('edge_vector')}")


def _n_layers(bundle: Bundle) -> int:
    return sum(name.endswith("_convnet") for name in bundle.children(_NET))


def _trainable(bundle: Bundle) -> bool:
    """Trainable Bessel roots, or fixed ones that are not 1, 2, 3, …"""
    roots = bundle.weights[f"{_NET}.bessel_encode.bessel_weights"].reshape(-1)
    return bool(bundle.get("bessel_trainable")) or not np.array_equal(roots, np.arange(1, len(roots) + 1))


def _exponent(value: float, bundle: Bundle) -> int:
    if int(value) != value:
        raise bundle.refuse(f"a polynomial cutoff of exponent {value}")
    return int(value)


def _per_type(bundle: Bundle, name: str, default: float) -> np.ndarray:
    """Scales or shifts of every type in the bundle's order; one number stands for all, none for the default."""
    n = len(bundle.need("atomic_numbers"))
    key = f"{_NET}.per_type_energy_scale_shift.{name}"
    values = bundle.take(key).reshape(-1) if key in bundle.weights else np.zeros(0)
    return np.full(n, default) if not len(values) else np.broadcast_to(values, (n,)).copy()


def _pair_cutoff(bundle: Bundle, order: np.ndarray, cutoff: float) -> tuple[tuple[float, ...], ...] | None:
    """Cutoffs by the types of centre and neighbour, where there are any."""
    reciprocal = bundle.take(f"{_NET}.edge_norm._rmax_recip").reshape(-1)
    if len(reciprocal) == 1 and len(order) > 1 or np.allclose(reciprocal * cutoff, 1.0, rtol=0, atol=1e-14):
        return None
    matrix = (1.0 / reciprocal).reshape(len(order), len(order))[np.ix_(order, order)]
    return tuple(tuple(float(f"{value:.14g}") for value in row) for row in matrix)


def _pair_spec(bundle: Bundle) -> PairSpec:
    if f"{_NET}.pair_potential" not in bundle.modules:
        return PairSpec()
    charge = f"{_NET}.pair_potential._qqr2exesquare"
    if charge in bundle.weights and abs(float(bundle.weights[charge]) - 0.5 * 14.399645) > 1e-9:
        raise bundle.refuse("a ZBL repulsion in other units than eV and Å")
    options = bundle.get("pair_potential")
    p = options.get("polynomial_cutoff_p", 6) if isinstance(options, dict) else bundle.get("zbl_polynomial_cutoff_p", 6)
    return PairSpec(kind="zbl", constants="lammps", range="cutoff", p=_exponent(p, bundle), scaled=False)


def _layer_spec(bundle: Bundle, index: int) -> LayerSpec:
    name = f"{_NET}.layer{index}_convnet"
    nonlinearity = _nonlinearity(bundle, index)
    features, _ = _features(bundle, name)
    widths = _mlp_widths(bundle, f"{name}.conv.edge_mlp.mlp")
    if _activation(bundle, f"{name}.conv.edge_mlp.mlp") not in (None, "silu"):
        raise bundle.refuse("a radial MLP without SiLU")
    return LayerSpec(
        irreps=str(Irreps(tuple(features))),
        l_max=_harmonics(bundle, f"{name}.conv.tp_scatter.tp"),
        radial=RadialWeightsSpec(kind="mlp", widths=widths, activation="silu", normalisation="he"),
        normaliser=_normaliser(bundle),
        self_connection="element_residual" if f"{name}.conv.sc" in bundle.modules else "none",
        nonlinearity=nonlinearity,
        skip="identity" if _resnet(bundle, index, features) else "none",
        readout=_readout_spec(bundle) if index == _n_layers(bundle) - 1 else None,
    )


def _nonlinearity(bundle: Bundle, index: int) -> str:
    """Ours for the nonlinearity of a layer; its functions must be those it has by default."""
    kind = bundle.kind(f"{_NET}.layer{index}_convnet.equivariant_nonlin")
    if kind not in ("Gate", "NormActivation"):
        raise bundle.refuse(f"the nonlinearity {kind}")
    for key in ("convnet_nonlinearity_scalars", "convnet_nonlinearity_gates"):
        if bundle.get(key) not in (None, {"e": "silu", "o": "tanh"}):
            raise bundle.refuse(f"{key}: {bundle.get(key)}")
    used = bundle.get("nonlinearities")  # what the import from a file of nequip found, layer by layer
    if used and not set(used[index]) <= ({"silu", "tanh"} if kind == "Gate" else {"silu"}):
        raise bundle.refuse(f"a {kind} of {', '.join(used[index])}")
    check_constant(bundle, "silu")
    check_constant(bundle, "tanh")
    return "gate" if kind == "Gate" else "norm_gate"


def _resnet(bundle: Bundle, index: int, features: Layout) -> bool:
    """Whether a layer adds its old features: what the bundle says of the layer, or nequip's rule from what it says of the model."""
    said = bundle.get("convnet_resnet", False)
    if isinstance(said, list):
        return bool(said[index])
    inputs, _ = printed_layouts(bundle.printed(f"{_NET}.layer{index}_convnet.conv.linear_1"))
    return bool(said) and (index > 0 or bool(bundle.get("learnable_shift"))) and inputs == features


def _features(bundle: Bundle, name: str) -> tuple[Layout, bool]:
    """Irreps behind a layer's nonlinearity, and whether that is a gate."""
    gated = bundle.kind(f"{name}.equivariant_nonlin") == "Gate"
    _, features = printed_layouts(bundle.printed(f"{name}.{'equivariant_nonlin' if gated else 'conv.linear_2'}"))
    return features, gated


def _harmonics(bundle: Bundle, path: str) -> int:
    """l_max of "TensorProduct(A x B -> C | …)", whose B must be all harmonics up to it."""
    second = parse_layout(bundle.printed(path).split(" x ", 1)[1].split(" -> ")[0])
    l_max = len(second) - 1
    if second != [(1, l, (-1) ** l) for l in range(l_max + 1)]:
        raise bundle.refuse(f"the edge attributes {second}")
    return l_max


def _normaliser(bundle: Bundle) -> NormaliserSpec:
    value = bundle.need("avg_num_neighbors")
    if isinstance(value, dict):
        names = [str(name) for name in bundle.need("type_names")]
        per_type = [float(value[names[i]]) for i in element_order(bundle)]
        return NormaliserSpec(kind="sqrt", place="before", per="sender", value=tuple(per_type))
    return NormaliserSpec(kind="sqrt", place="before", value=float(value))


def _mlp_widths(bundle: Bundle, path: str) -> tuple[int, ...]:
    """Hidden widths of a ScalarMLPFunction."""
    return tuple(bundle.weights[name].shape[1] for name in _mlp_weights(bundle, path)[:-1])


def _mlp_weights(bundle: Bundle, path: str) -> list[str]:
    """Names of the weights of a ScalarMLPFunction, in order: of a Sequential with activations between, or of a purely linear one."""
    found = []
    for name in bundle.weights:
        match = re.fullmatch(re.escape(path) + r"\.(?:weights\.(\d+)|(\d+)\.(weight|bias))", name)
        if match is None:
            continue
        if match[3] == "bias" and bundle.weights[name].size:
            raise bundle.refuse("an MLP with bias")
        found.append((int(match[1] or match[2]), name))
    return [name for _, name in sorted(found)]


def _activation(bundle: Bundle, path: str) -> str | None:
    """Ours for the activation of an MLP; None where it has no hidden layer."""
    kinds = {bundle.kind(f"{path}.{child}") for child in bundle.children(path)} - {"ScalarLinearLayer", "ParameterList", ""}
    if bundle.kind(path) == "DeepLinearMLP":
        return "identity"
    if not kinds:
        return None
    if len(kinds) > 1 or (kind := next(iter(kinds))) not in _ACTIVATIONS:
        raise bundle.refuse(f"the activation {', '.join(sorted(kinds))}")
    return _ACTIVATIONS[kind]


def _readout_spec(bundle: Bundle) -> ReadoutSpec:
    path = f"{_NET}.per_atom_energy_readout.mlp_module.mlp"
    return ReadoutSpec(widths=_mlp_widths(bundle, path), activation=_activation(bundle, path) or "silu", normalisation="he")


def nequip_weights(bundle: Bundle, spec: ModelSpec) -> ModelWeights:
    """The weights in effective matrices."""
    bundle.taken |= {name for name, value in bundle.weights.items() if not value.size or _CONSTANTS.search(name)}
    order = element_order(bundle)
    embedding = bundle.take(f"{_NET}.type_embed.embed_module.weight")[order]
    roots = bundle.take(f"{_NET}.bessel_encode.bessel_weights").reshape(-1)
    layers = [_layer_weights(bundle, i, layer, spec.embedding.width) for i, layer in enumerate(spec.layers)]
    layers[-1].readout = _mlp_matrices(bundle, f"{_NET}.per_atom_energy_readout.mlp_module.mlp")
    return ModelWeights(embedding, layers, roots * np.pi / spec.cutoff if spec.radial_basis.trainable else None)


def _layer_weights(bundle: Bundle, index: int, layer: LayerSpec, width: int) -> LayerWeights:
    name = f"{_NET}.layer{index}_convnet"
    inputs, _ = printed_layouts(bundle.printed(f"{name}.conv.linear_1"))
    mid, out = printed_layouts(bundle.printed(f"{name}.conv.linear_2"))
    features, gated = _features(bundle, name)
    return LayerWeights(
        radial=_mlp_matrices(bundle, f"{name}.conv.edge_mlp.mlp"),
        couplings=couplings(inputs, layer.l_max, set(n_channels(mid)), by_output=False),
        linear=linear_matrices(bundle.take(f"{name}.conv.linear_2.weight"), mid, out),
        up=linear_matrices(bundle.take(f"{name}.conv.linear_1.weight"), inputs, inputs),
        residual=_residual(bundle, f"{name}.conv.sc", inputs, width, out) if layer.self_connection != "none" else None,
        gate=gate_places(features, out) if gated else None,
    )


def _residual(bundle: Bundle, path: str, inputs: Layout, width: int, out: Layout) -> dict:
    return element_matrices(bundle.take(f"{path}.weight"), inputs, width, out)


def _mlp_matrices(bundle: Bundle, path: str) -> list[np.ndarray]:
    """ScalarMLPFunction: W/√fan-in first, √2·W/√fan-in later; 1/√fan-in throughout where there is no activation at all."""
    gain = 1.0 if bundle.kind(path) == "DeepLinearMLP" else np.sqrt(2.0)
    matrices = [bundle.take(name) for name in _mlp_weights(bundle, path)]
    return [m * (gain if i else 1.0) / np.sqrt(m.shape[0]) for i, m in enumerate(matrices)]
