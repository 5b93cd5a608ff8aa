"""The design space: one frozen, validated tree of choices. A model is a point of it; nothing about a model is decided elsewhere.

Every class below is one axis or a group of axes of docs/architecture.md. Irreps are written as strings such as "32x0e+32x1o".
"""

from dataclasses import replace
from typing import Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, field_validator, model_validator
from pydantic.dataclasses import dataclass

from equipot.math import Irreps
from equipot.math.symmetric import symmetric_multiplicity

_strict = ConfigDict(extra="forbid")
Activation = Literal["silu", "tanh", "abs", "relu", "gelu", "mish", "ssp", "identity"]
PerElement = float | tuple[float, ...]


@dataclass(frozen=True, config=_strict)
class RadialBasisSpec:
    """e_n(r): a family of `n` functions times an envelope that ends at the cutoff.

    Bessel: prefactor · sin(nπr/r_c)/r with prefactor √(2/r_c) ("sqrt") or 2/r_c ("linear"). `transform`: what the family takes instead of r, by the
    covalent radii of the pair: "agnesi", from 1 at contact to 0 far away, steepest at bonds; "soft", r itself but constant where atoms overlap.
    """

    kind: Literal["bessel", "gaussian", "chebyshev"] = "bessel"
    n: int = Field(8, ge=1)
    trainable: bool = False
    prefactor: Literal["sqrt", "linear"] = "sqrt"
    envelope: Literal["polynomial", "cosine"] = "polynomial"
    p: int = Field(6, ge=2)
    transform: Literal["none", "agnesi", "soft"] = "none"


@dataclass(frozen=True, config=_strict)
class RadialWeightsSpec:
    """R_pk(r): from the radial basis to one weight per path and channel.

    kind "linear": one matrix; "mlp": a multilayer perceptron; "direct": no weights, channel k takes function k mod n itself.
    `elements`: "none" (agnostic), "sender" or "both": a table of matrices for a linear kind, one-hot elements before the basis in the input of
    an MLP. `channels` "coupled": a weight for every pair of an incoming and an outgoing channel of a path. normalisation "e3nn": W/√fan-in and
    activations of unit second moment; "he": W/√fan-in first, √2·W/√fan-in later; "plain": weights as they are, with bias.
    """

    kind: Literal["linear", "mlp", "direct"] = "mlp"
    widths: tuple[int, ...] = (64, 64, 64)
    activation: Activation = "silu"
    elements: Literal["none", "sender", "both"] = "none"
    channels: Literal["uncoupled", "coupled"] = "uncoupled"
    normalisation: Literal["e3nn", "he", "plain"] = "e3nn"


@dataclass(frozen=True, config=_strict)
class NormaliserSpec:
    """What a sum over neighbours is divided by: N ("mean"), √N ("sqrt"), 1 + Σ tanh(f(e)²) ("density") or 1 ("none").

    `value` is N, one number or one per element (of the `per` end of an edge); None: the mean number of neighbours of the training data.
    `place`: before the sum's linear map ("before") or after it.
    """

    kind: Literal["none", "mean", "sqrt", "density"] = "mean"
    place: Literal["before", "after"] = "after"
    per: Literal["all", "sender", "receiver"] = "all"
    value: PerElement | None = None


@dataclass(frozen=True, config=_strict)
class ProductSpec:
    """B basis: symmetric products of A up to `correlation` ν, weights per element or shared, then a linear map.

    With coupled channels every set of factors (channel, degree) has a function of its own, and there is no further map. `degrees`: the products of
    ν factors kept are those with Σ_ξ (n_ξ + angular_weight · l_ξ) ≤ degrees[ν − 1], n = 1, 2, … the number of a factor's radial function.
    """

    correlation: int = Field(1, ge=1, le=4)
    elements: bool = True
    degrees: tuple[float, ...] | None = None
    angular_weight: float = Field(1.0, gt=0)


@dataclass(frozen=True, config=_strict)
class ReadoutSpec:
    """Site energy of a layer from its scalars: linear (no widths) or a perceptron; kind "sum": they are added as they are."""

    kind: Literal["perceptron", "sum"] = "perceptron"
    widths: tuple[int, ...] = ()
    activation: Activation = "silu"
    normalisation: Literal["e3nn", "he"] = "e3nn"


@dataclass(frozen=True, config=_strict)
class LayerSpec:
    """One interaction layer: h → linear up → density A → linear → selector → product → + self-connection → nonlinearity → + skip.

    `irreps` are the features wanted; those no path reaches, and those nothing behind the layer reads, are left out (`layer_features`).
    `density` are the irreps of A behind its linear map; None: what the next step needs. `self_connection`: "selector" multiplies the message
    by a matrix of the centre's element; "element_residual" and "residual" add a linear map of the old features, per element or shared.
    `nonlinearity`: "gate" multiplies what has a degree by gates, scalars made for it; "norm_gate" each channel by a function of its own length.
    `skip` "identity" adds the old features as they are behind the nonlinearity.
    """

    irreps: str
    l_max: int = Field(2, ge=0, le=8)
    linear_up: bool = True
    radial: RadialWeightsSpec = RadialWeightsSpec()
    linear_density: bool = True
    channels: Literal["uncoupled", "coupled"] = "uncoupled"
    density: str | None = None
    normaliser: NormaliserSpec = NormaliserSpec()
    product: ProductSpec | None = None
    self_connection: Literal["none", "selector", "element_residual", "residual"] = "none"
    nonlinearity: Literal["none", "gate", "norm_gate"] = "none"
    skip: Literal["none", "identity"] = "none"
    readout: ReadoutSpec | None = None

    @field_validator("irreps", "density")
    @classmethod
    def _canonical(cls, value: str | None) -> str | None:
        return value if value is None else str(Irreps.parse(value))


@dataclass(frozen=True, config=_strict)
class EmbeddingSpec:
    """First features of an element: "linear" from one-hot (W/√n_elements), a "learned" table, or "onehot": `width` channels of its own, fixed.

    `attributes`: what element-dependent maps are built from: "onehot" (one matrix per element) or "embedding" (contracted with the table).
    """

    kind: Literal["linear", "learned", "onehot"] = "linear"
    width: int = Field(16, ge=1)
    attributes: Literal["onehot", "embedding"] = "onehot"


@dataclass(frozen=True, config=_strict)
class EnergySpec:
    """E_i = E0(z) + scale(z) · Σ_t R_t(h_i) + shift(z).

    None is filled from the training data: `e0` from isolated atoms (or what replaces them), `scale` the RMS of the force components, `shift` the
    mean of (E − Σ E0)/N. A single number stands for every element. Trainable ones are only the starting values.
    """

    e0: PerElement | None = None
    scale: PerElement | None = None
    shift: PerElement | None = 0.0
    train_scale: bool = False
    train_shift: bool = False


@dataclass(frozen=True, config=_strict)
class PairSpec:
    """A repulsion added to the learned energy: kind "zbl" between the nuclei, with the constants of LAMMPS (and nequip) or of MACE.

    `range`: it ends at the model's cutoff ("cutoff") or at the sum of covalent radii ("covalent"), with the polynomial envelope of exponent p.
    `scaled`: multiplied by the energy's scale as the learned part is.
    """

    kind: Literal["none", "zbl"] = "none"
    constants: Literal["lammps", "mace"] = "lammps"
    range: Literal["cutoff", "covalent"] = "cutoff"
    p: int = Field(6, ge=2)
    scaled: bool = False


@dataclass(frozen=True, config=_strict)
class ModelSpec:
    """A point of the design space. `elements` are atomic numbers, ascending; empty until the data are known.

    `cutoff` r_c in Å; `pair_cutoff` (rows: the centre's element, columns: the neighbour's), none above it, for a shorter one by pair: the radial
    functions of such a pair are those of r · r_c / pair_cutoff. `initialisation` of the linear maps of features: "e3nn", weights of unit variance
    and 1/√fan-in in the forward pass, or "plain", 1/√fan-in in the starting weights: the same start, another course of training.
    """

    cutoff: float = Field(gt=0)
    layers: tuple[LayerSpec, ...] = Field(min_length=1)
    elements: tuple[int, ...] = ()
    pair_cutoff: tuple[tuple[float, ...], ...] | None = None
    pair: PairSpec = PairSpec()
    radial_basis: RadialBasisSpec = RadialBasisSpec()
    embedding: EmbeddingSpec = EmbeddingSpec()
    energy: EnergySpec = EnergySpec()
    isolated_atom: Literal["exact", "free"] = "exact"
    initialisation: Literal["e3nn", "plain"] = "e3nn"
    preset: str = ""

    @model_validator(mode="after")
    def _consistent(self) -> "ModelSpec":
        if list(self.elements) != sorted(set(self.elements)) or any(not 0 < z < 119 for z in self.elements):
            raise ValueError(f"elements must be ascending atomic numbers 1 to 118, each once, not {list(self.elements)}")
        if all(layer.readout is None for layer in self.layers):
            raise ValueError("no layer has a readout: the model would have no energy")
        if (
            self.isolated_atom == "exact"
            and self.energy.shift not in (0, 0.0)
            and (not isinstance(self.energy.shift, tuple) or any(self.energy.shift))
        ):
            raise ValueError("a shift gives an isolated atom an energy of its own: say isolated_atom: free with it, or leave shift at 0")
        for index, layer in enumerate(self.layers):
            _check_normaliser(layer.normaliser)
            _check_channels(self, index, layer)
        if self.pair_cutoff is not None:
            _check_pair_cutoff(self.pair_cutoff, len(self.elements), self.cutoff)
        layer_features(self)
        return self

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON and YAML."""
        return _adapter().dump_python(self, mode="json")

    @staticmethod
    def from_dict(data: dict[str, Any]) -> "ModelSpec":
        """The inverse of `to_dict`; raises pydantic.ValidationError on unknown keys, wrong types and inconsistent values."""
        return _adapter().validate_python(data)


def _check_normaliser(normaliser: NormaliserSpec) -> None:
    end = "sender" if normaliser.place == "before" else "receiver"
    if isinstance(normaliser.value, tuple) and normaliser.per != end:
        raise ValueError(
            f"a normaliser {normaliser.place} the linear map divides by the {end}'s element: with a value per element say per: {end}"
        )
    if normaliser.kind == "density" and normaliser.place == "before":
        raise ValueError("the density normaliser divides the sum at its centre: place: after")


def _check_channels(spec: "ModelSpec", index: int, layer: LayerSpec) -> None:
    n = spec.radial_basis.n
    if layer.radial.kind == "direct" and layer.radial.channels == "coupled":
        raise ValueError("radial kind direct has no weights that could couple channels: say radial.channels: uncoupled")
    if layer.radial.kind == "direct" and (index or first_features(spec).mul(0, 1) % n):
        raise ValueError(
            f"radial kind direct gives channel k the radial function k mod {n}: only a first layer with a multiple of {n} channels"
        )
    if layer.channels == "uncoupled":
        if layer.product is not None and layer.product.degrees is not None:
            raise ValueError("product.degrees is a truncation of products of coupled channels: say channels: coupled with it")
        return
    if index or layer.linear_up or layer.linear_density or layer.radial.kind != "direct" or layer.self_connection != "none":
        raise ValueError(
            "coupled channels are (element, radial function) of a first layer: with them say embedding onehot, radial direct, linear_up: false, "
            "linear_density: false, self_connection: none"
        )
    if spec.embedding.kind != "onehot" or spec.embedding.width != n:
        raise ValueError(f"coupled channels are (element, radial function): embedding kind onehot, width {n} as radial_basis.n")
    if layer.product is None or layer.product.degrees is None or len(layer.product.degrees) != layer.product.correlation:
        raise ValueError("coupled channels need a product with one of `degrees` for each order up to its correlation")
    if low := [nu for nu, degree in enumerate(layer.product.degrees, start=1) if degree < nu]:
        raise ValueError(
            f"product.degrees: {layer.product.degrees[low[0] - 1]:g} leaves no product of {low[0]} factors, whose degree is {low[0]} or more"
        )
    if any((b.l, b.p) != (0, 1) for b in Irreps.parse(layer.irreps)):
        raise ValueError(f"products of coupled channels are invariants: irreps such as 1x0e, not {layer.irreps}")


def _check_pair_cutoff(pair_cutoff: tuple[tuple[float, ...], ...], n: int, cutoff: float) -> None:
    if len(pair_cutoff) != n or any(len(row) != n for row in pair_cutoff):
        raise ValueError(f"pair_cutoff needs a row and a column for each of the {n} elements")
    if not all(0 < value <= cutoff for row in pair_cutoff for value in row):
        raise ValueError(f"pair_cutoff must lie above 0 and not above the cutoff {cutoff} Å")


def _adapter() -> TypeAdapter:
    return TypeAdapter(ModelSpec)


def layer_features(spec: ModelSpec) -> list[Irreps]:
    """Irreps of h^(0) … h^(T): what is wanted, less what no coupling path reaches and less what nothing behind it reads.

    Raises ValueError if a layer keeps nothing.
    """
    features = _reached_features(spec)
    read: set[tuple[int, int]] = set()
    for index in reversed(range(len(spec.layers))):
        if spec.layers[index].readout is not None:
            read.add((0, 1))
        kept = features[index + 1].restrict(lambda ir, read=read: (ir.l, ir.p) in read)
        if not kept.dim:
            raise ValueError(f"layer {index + 1}: nothing behind it reads any of its {features[index + 1]}")
        features[index + 1] = kept
        read = _read_by(spec.layers[index], features[index], kept)
    return features


def first_features(spec: ModelSpec) -> Irreps:
    """h^(0): even scalars; one-hot ones are as many as there are elements (one, as long as these are not known) times the width."""
    n = max(1, len(spec.elements)) if spec.embedding.kind == "onehot" else 1
    return Irreps.parse(f"{n * spec.embedding.width}x0e")


def _reached_features(spec: ModelSpec) -> list[Irreps]:
    """Irreps of h^(0) … h^(T) that are wanted and that a coupling path reaches."""
    features = [first_features(spec)]
    for index, layer in enumerate(spec.layers):
        known = reachable(features[-1], layer.l_max)
        if layer.channels == "coupled":
            known = {(0, 1)}
        elif layer.product is not None:
            known = reachable_by_product(density_irreps(layer, features[-1]), layer.product.correlation)
        if layer.nonlinearity == "gate" and _gate_parity(reachable(features[-1], layer.l_max)) == -1:
            known = {(l, -p if l else p) for l, p in known}
        kept = Irreps.parse(layer.irreps).restrict(lambda ir, known=known: (ir.l, ir.p) in known)
        if not kept.dim:
            raise ValueError(f"layer {index + 1}: none of {layer.irreps} can be reached from {features[-1]} with l_max={layer.l_max}")
        if layer.skip == "identity" and any(features[-1].mul(b.l, b.p) != b.mul for b in kept):
            raise ValueError(
                f"layer {index + 1}: skip: identity adds the features of before, {features[-1]}, which lack channels of {kept}: say skip: none, "
                "self_connection: residual, or the same irreps"
            )
        features.append(kept)
    return features


def _read_by(layer: LayerSpec, features: Irreps, kept: Irreps) -> set[tuple[int, int]]:
    """Which (l, p) of `features` a layer needs to make `kept`: those a path leads from, and with a residual those that are added."""
    update = update_irreps(layer, features, kept)
    density = {(b.l, b.p) for b in density_irreps(layer, features, update)}
    added = {(b.l, b.p) for b in update} if layer.self_connection in ("element_residual", "residual") else set()
    added |= {(b.l, b.p) for b in kept} if layer.skip == "identity" else set()
    return {(b.l, b.p) for b in features if (b.l, b.p) in added or reachable(Irreps((b,)), layer.l_max) & density}


def update_irreps(layer: LayerSpec, features: Irreps, kept: Irreps) -> Irreps:
    """Irreps in front of a layer's nonlinearity: those kept, and a scalar for every channel a gate multiplies.

    Gates are even if even scalars can be reached, else odd, and then what they multiply has the other parity than what is kept.
    """
    if layer.nonlinearity != "gate":
        return kept
    parity = _gate_parity(reachable(features, layer.l_max))
    gated = tuple((b.mul, b.l, b.p * parity) for b in kept if b.l)
    return Irreps((*kept.scalars, *gated, (sum(mul for mul, *_ in gated), 0, parity)))


def _gate_parity(density: set[tuple[int, int]]) -> int:
    return 1 if (0, 1) in density else -1


def reachable(irreps: Irreps, l_max: int) -> set[tuple[int, int]]:
    """All (l, p) that h ⊗ Y(l ≤ l_max) contains."""
    return {(l3, b.p * (-1) ** l2) for b in irreps for l2 in range(l_max + 1) for l3 in range(abs(b.l - l2), b.l + l2 + 1)}


def reachable_by_product(irreps: Irreps, correlation: int) -> set[tuple[int, int]]:
    """All (l, p) in symmetric products of up to `correlation` factors."""
    single = tuple((b.l, b.p) for b in irreps)
    found = set()
    for nu in range(1, correlation + 1):
        degrees = range(nu * irreps.l_max + 1)
        found |= {(l, p) for l in degrees for p in (1, -1) if symmetric_multiplicity(single, nu, l, p)}
    return found


def density_irreps(layer: LayerSpec, features: Irreps, update: Irreps | None = None) -> Irreps:
    """Irreps of A behind its linear map: those reached and, if `update` is given, those of use for it."""
    if layer.channels == "coupled":
        return Irreps.uniform(features.mul(0, 1), layer.l_max, "natural")
    if layer.product is None and update is not None:
        return update
    known = reachable(features, layer.l_max)
    n = max(b.mul for b in Irreps.parse(layer.irreps))
    wanted = Irreps.parse(layer.density) if layer.density else Irreps.uniform(n, layer.l_max, "natural")
    reached = wanted.restrict(lambda ir: (ir.l, ir.p) in known)
    if update is None:
        return reached
    used = used_by_product(reached, layer.product.correlation, update)
    return reached.restrict(lambda ir: (ir.l, ir.p) in used)


def used_by_product(irreps: Irreps, correlation: int, keep: Irreps) -> set[tuple[int, int]]:
    """The (l, p) of A without which there are fewer couplings of up to `correlation` factors to `keep`."""
    single = tuple((b.l, b.p) for b in irreps)

    def count(factors: tuple[tuple[int, int], ...]) -> int:
        return sum(symmetric_multiplicity(factors, nu, b.l, b.p) for nu in range(1, correlation + 1) for b in keep)

    whole = count(single)
    return {irrep for irrep in single if count(tuple(i for i in single if i != irrep)) < whole}


def with_elements(spec: ModelSpec, elements: tuple[int, ...]) -> ModelSpec:
    """The same point for these elements."""
    return replace(spec, elements=tuple(sorted(elements)))


def correlation_order(spec: ModelSpec) -> list[int | None]:
    """c_t after each layer: c_t = ν_t (c_{t−1} + 1), c_0 = 0; None where a nonlinearity makes it unbounded."""
    orders: list[int | None] = []
    c: int | None = 0
    for layer in spec.layers:
        bounded = layer.nonlinearity == "none" and layer.normaliser.kind != "density"
        nu = layer.product.correlation if layer.product else 1
        c = nu * (c + 1) if bounded and c is not None else None
        orders.append(c)
    return orders


def body_order(spec: ModelSpec) -> int | None:
    """Highest body order of the energy, or None if unbounded (a gate, a nonlinear readout, a learned-density normaliser)."""
    highest = 1
    for layer, c in zip(spec.layers, correlation_order(spec), strict=True):
        if layer.readout is None:
            continue
        if c is None or (layer.readout.widths and layer.readout.activation != "identity"):
            return None
        highest = max(highest, c + 1)
    return highest


def nonlinear_because(spec: ModelSpec) -> str | None:
    """Why the energy is not linear in the parameters, or None: then it is that of linear ACE, E_base + Σ_η W_η(z) B_η."""
    first = spec.layers[0]
    reasons = {
        f"there are {len(spec.layers)} layers": len(spec.layers) > 1,
        "the channels are not coupled": first.channels != "coupled",
        "the radial functions have parameters": spec.radial_basis.trainable,
        f"the normaliser is {first.normaliser.kind}, not none": first.normaliser.kind != "none",
        f"the nonlinearity is {first.nonlinearity}": first.nonlinearity != "none",
        "old features are added": first.skip != "none",
        "the readout has weights of its own": first.readout is None or first.readout.kind != "sum",
        f"the layer gives {first.irreps}, not 1x0e": Irreps.parse(first.irreps).dim != 1,
        "the energy's scale or shift is trainable": spec.energy.train_scale or spec.energy.train_shift,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def smoothness(spec: ModelSpec) -> str:
    """Class of the energy at the cutoff: "C2", "C1" or "jump"."""
    if any(
        layer.radial.kind == "mlp" and (layer.radial.normalisation == "plain" or layer.radial.elements != "none") for layer in spec.layers
    ):
        return "jump"  # a bias, or elements beside the basis in the input: the weights do not vanish where the basis does
    basis = spec.radial_basis
    # powers of (r_c − r): the polynomial envelope brings three whatever its exponent, the cosine two, Bessel functions with their own roots one more
    vanishing = (3 if basis.envelope == "polynomial" else 2) + (
        basis.kind == "bessel" and basis.transform == "none" and not basis.trainable
    )
    return "C2" if vanishing >= 3 else "C1"


def bare_atom_is_zero(spec: ModelSpec) -> bool:
    """Whether an atom without neighbours has zero features by construction: nothing of the old features is added in the first layer."""
    return spec.layers[0].self_connection not in ("element_residual", "residual") and spec.layers[0].skip == "none"
