"""Models of mace-torch 0.3 (e3nn 0.4.4) as points of the design space. Source of the facts: mace-torch 0.3.16."""

import numpy as np

from equipot.math import Irreps
from equipot.model.importers.botnet import (
    check_constant,
    element_order,
    fully_connected,
    readout_matrices,
    readout_spec,
)
from equipot.model.importers.bundle import Bundle
from equipot.model.importers.convert import LayerWeights, ModelWeights
from equipot.model.importers.e3nn_layout import Key, Layout, couplings, element_matrices, linear_matrices, n_channels, printed_layouts
from equipot.spec import (
    EmbeddingSpec,
    EnergySpec,
    LayerSpec,
    ModelSpec,
    NormaliserSpec,
    PairSpec,
    ProductSpec,
    RadialBasisSpec,
    RadialWeightsSpec,
)

_MODULES = {
    "node_embedding": "LinearNodeEmbeddingBlock",
    "radial_embedding": "RadialEmbeddingBlock",
    "pair_repulsion_fn": "ZBLBasis",
    "spherical_harmonics": "SphericalHarmonics",
    "atomic_energies_fn": "AtomicEnergiesBlock",
    "interactions": "ModuleList",
    "products": "ModuleList",
    "readouts": "ModuleList",
    "scale_shift": "ScaleShiftBlock",
}
_BASES = {"BesselBasis": "bessel", "GaussianBasis": "gaussian"}
_TRANSFORMS = {"": "none", "AgnesiTransform": "agnesi", "SoftTransform": "soft"}
_PRINTED_CONSTANTS = {"AgnesiTransform": "a=1.0805, q=0.9183, p=4.5791", "SoftTransform": "alpha=4.0000"}

# class of the interaction -> (self-connection, normaliser)
_BLOCKS = {
    "RealAgnosticInteractionBlock": ("selector", "mean"),
    "RealAgnosticResidualInteractionBlock": ("element_residual", "mean"),
    "RealAgnosticDensityInteractionBlock": ("selector", "density"),
    "RealAgnosticDensityResidualInteractionBlock": ("element_residual", "density"),
}


def mace_spec(bundle: Bundle) -> ModelSpec:
    """The point of the design space; raises UserError naming what is not in it."""
    _check_modules(bundle)
    order = element_order(bundle)
    n_layers = len(bundle.children("interactions"))
    layers = tuple(_layer_spec(bundle, i, n_layers) for i in range(n_layers))
    scaled = "scale_shift" in bundle.modules
    shift = _one(bundle, "atomic_inter_shift") if scaled else 0.0
    _, embedding = printed_layouts(bundle.printed("node_embedding.linear"))
    energies = np.asarray(bundle.need("atomic_energies"), dtype=float)
    if energies.size != len(order):
        raise bundle.refuse(f"a model of {energies.size // len(order)} heads")
    return ModelSpec(
        cutoff=float(bundle.need("r_max")),
        layers=layers,
        elements=tuple(int(bundle.need("atomic_numbers")[i]) for i in order),
        radial_basis=_basis_spec(bundle),
        embedding=EmbeddingSpec(kind="linear", width=n_channels(embedding)[0, 1]),
        energy=EnergySpec(
            e0=tuple(energies.reshape(-1)[order].tolist()),
            scale=_one(bundle, "atomic_inter_scale") if scaled else 1.0,
            shift=shift,
        ),
        pair=_pair_spec(bundle, scaled),
        isolated_atom="free" if shift != 0.0 or layers[0].self_connection == "element_residual" else "exact",
    )


def _check_modules(bundle: Bundle) -> None:
    if bundle.kind("") not in ("MACE", "ScaleShiftMACE"):
        raise bundle.refuse(f"the model {bundle.kind('')}")
    for name in bundle.children(""):
        if bundle.kind(name) != _MODULES.get(name):
            raise bundle.refuse(f"the module {name} ({bundle.kind(name)})")
    for key in ("use_so3", "embedding_specs"):
        if bundle.get(key):
            raise bundle.refuse(key)
    if not bundle.get("apply_cutoff", True):
        raise bundle.refuse("apply_cutoff = False")
    if str(bundle.get("edge_vector", "r_receiver - r_sender")) != "r_receiver - r_sender":
        raise bundle.refuse(f"the edge vector {bundle.get('edge_vector')}")


def _one(bundle: Bundle, key: str) -> float:
    """A number that some versions give as a list of one per head."""
    values = np.asarray(bundle.need(key), dtype=float).reshape(-1)
    if len(values) != 1:
        raise bundle.refuse(f"{key} with {len(values)} values")
    return float(values[0])


def _basis_spec(bundle: Bundle) -> RadialBasisSpec:
    kind, transform = bundle.kind("radial_embedding.bessel_fn"), bundle.kind("radial_embedding.distance_transform")
    if kind == "ChebychevBasis":
        # torch has no derivative of it: such a model's forces are not those of its energy, and ours always are
        raise bundle.refuse("the radial basis ChebychevBasis (mace's forces leave its derivative out, so they are not those of its energy)")
    if kind not in _BASES:
        raise bundle.refuse(f"the radial basis {kind}")
    if transform not in _TRANSFORMS:
        raise bundle.refuse(f"the distance transform {transform}")
    printed = bundle.modules.get("radial_embedding.distance_transform", "")
    if transform and _PRINTED_CONSTANTS[transform] not in printed:
        raise bundle.refuse(f"the distance transform {printed}")
    return RadialBasisSpec(
        kind=_BASES[kind],
        n=int(bundle.need("num_bessel")),
        prefactor="sqrt",
        p=int(bundle.need("num_polynomial_cutoff")),
        transform=_TRANSFORMS[transform],
        trainable="radial_embedding.bessel_fn.bessel_weights" in bundle.weights,
    )


def _pair_spec(bundle: Bundle, scaled: bool) -> PairSpec:
    if "pair_repulsion_fn" not in bundle.modules:
        return PairSpec()
    return PairSpec(kind="zbl", constants="mace", range="covalent", p=int(bundle.need("num_polynomial_cutoff")), scaled=scaled)


def _layer_spec(bundle: Bundle, index: int, n_layers: int) -> LayerSpec:
    name, product = f"interactions.{index}", f"products.{index}"
    kind = bundle.kind(name)
    if kind not in _BLOCKS:
        raise bundle.refuse(f"the interaction {kind}")
    if bundle.kind(product) != "EquivariantProductBasisBlock":
        raise bundle.refuse(f"the product {bundle.kind(product)}")
    self_connection, normaliser = _BLOCKS[kind]
    before, after = printed_layouts(bundle.printed(f"{name}.linear_up"))
    if before != after:
        raise bundle.refuse("edge_irreps other than the features'")
    _, density = printed_layouts(bundle.printed(f"{name}.linear"))
    _, irreps = printed_layouts(bundle.printed(f"{product}.linear"))
    correlation = bundle.need("correlation")
    return LayerSpec(
        irreps=str(Irreps(tuple(irreps))),
        l_max=int(bundle.need("max_ell")),
        radial=RadialWeightsSpec(kind="mlp", widths=_radial_widths(bundle, name), activation="silu", normalisation="e3nn"),
        density=str(Irreps(tuple(density))),
        normaliser=NormaliserSpec(
            kind=normaliser, place="after", value=float(bundle.need("avg_num_neighbors")) if normaliser == "mean" else None
        ),
        product=ProductSpec(
            correlation=int(correlation if isinstance(correlation, int) else correlation[index]),
            elements=not bundle.get("use_agnostic_product", False),
        ),
        self_connection=self_connection,
        readout=_readout(bundle, index, n_layers),
    )


def _radial_widths(bundle: Bundle, name: str) -> tuple[int, ...]:
    n = len([w for w in bundle.weights if w.startswith(f"{name}.conv_tp_weights.layer")])
    return tuple(bundle.weights[f"{name}.conv_tp_weights.layer{i}.weight"].shape[1] for i in range(n - 1))


def _first_readout(bundle: Bundle, n_layers: int) -> int:
    """The layer of the first readout: the first, or the last if there is only one."""
    n = len(bundle.children("readouts"))
    if n not in (1, n_layers):
        raise bundle.refuse(f"a model of {n_layers} layers with {n} readouts")
    return n_layers - n


def _readout(bundle: Bundle, index: int, n_layers: int):
    first = _first_readout(bundle, n_layers)
    return None if index < first else readout_spec(bundle, f"readouts.{index - first}")


def mace_weights(bundle: Bundle, spec: ModelSpec) -> ModelWeights:
    """The weights in effective matrices; those of the couplings stay on MACE's U until the potential's plan is known."""
    order = element_order(bundle)
    check_constant(bundle, "silu")
    embedding = bundle.take("node_embedding.linear.weight").reshape(len(order), -1)[order] / np.sqrt(len(order))
    first = _first_readout(bundle, len(spec.layers))
    layers = []
    for i, layer in enumerate(spec.layers):
        weights = _layer_weights(bundle, i, layer, order)
        if layer.readout is not None:
            weights.readout = readout_matrices(bundle, f"readouts.{i - first}", layer.readout)
        layers.append(weights)
    frequencies = bundle.take("radial_embedding.bessel_fn.bessel_weights").reshape(-1) if spec.radial_basis.trainable else None
    return ModelWeights(embedding, layers, frequencies, flipped=True)


def _layer_weights(bundle: Bundle, index: int, layer: LayerSpec, order: np.ndarray) -> LayerWeights:
    name, product = f"interactions.{index}", f"products.{index}"
    inputs, _ = printed_layouts(bundle.printed(f"{name}.linear_up"))
    mid, density = printed_layouts(bundle.printed(f"{name}.linear"))
    produced, out = printed_layouts(bundle.printed(f"{product}.linear"))
    weights = LayerWeights(
        radial=fully_connected(bundle, f"{name}.conv_tp_weights", len(layer.radial.widths) + 1, "silu"),
        couplings=couplings(inputs, layer.l_max, set(n_channels(mid)), by_output=True),
        linear=linear_matrices(bundle.take(f"{name}.linear.weight"), mid, density),
        up=linear_matrices(bundle.take(f"{name}.linear_up.weight"), inputs, inputs),
        product_linear=linear_matrices(bundle.take(f"{product}.linear.weight"), produced, out),
        product_density=density,
        product_tensors=_tensors(bundle, f"{product}.symmetric_contractions", produced, layer.product, order),
    )
    source, target = (density, density) if layer.self_connection == "selector" else (inputs, out)
    matrices = {key: m[order] for key, m in element_matrices(bundle.take(f"{name}.skip_tp.weight"), source, len(order), target).items()}
    weights.selector, weights.residual = (matrices, None) if layer.self_connection == "selector" else (None, matrices)
    if layer.normaliser.kind == "density":
        weights.density = fully_connected(bundle, f"{name}.density_fn", 1, "silu")[0]
    return weights


def _tensors(
    bundle: Bundle, path: str, produced: Layout, product: ProductSpec, order: np.ndarray
) -> dict[tuple[Key, int], tuple[np.ndarray, np.ndarray]]:
    """U and its weights by output irrep and order; elements in our order."""
    found = {}
    for number, (_, l, p) in enumerate(produced):
        name = f"{path}.contractions.{number}"
        for nu in range(1, product.correlation + 1):
            weight = bundle.take(f"{name}.weights_max" if nu == product.correlation else f"{name}.weights.{product.correlation - 1 - nu}")
            buffer = f"{name}.U_matrix_{nu}"
            if buffer not in bundle.buffers:
                raise bundle.refuse(f"a bundle without {buffer}")
            u = np.asarray(bundle.buffers[buffer], dtype=np.float64)
            found[(l, p), nu] = (u if u.ndim == nu + 2 else u[None], weight[order] if product.elements else weight[0][None])
    return found
