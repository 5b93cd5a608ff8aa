"""The published models as points of the design space: functions that return a spec."""

import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from equipot.math import Irreps
from equipot.spec import (
    EmbeddingSpec,
    EnergySpec,
    LayerSpec,
    ModelSpec,
    NormaliserSpec,
    ProductSpec,
    RadialBasisSpec,
    RadialWeightsSpec,
    ReadoutSpec,
)

Parity = Literal["natural", "both"]


def nequip(
    cutoff: float = 5.0,
    n_layers: int = 4,
    l_max: int = 2,
    l_features: int | None = None,
    n_channels: int = 32,
    parity: Parity = "natural",
    radial_mlp: tuple[int, ...] = (64, 64),
    n_bessel: int = 8,
    shift: Literal["none", "mean"] = "none",
) -> ModelSpec:
    """NequIP as nequip 0.19 has it: learned embedding, ÷√N, gate, one linear readout after a last layer of scalars.

    l_features: highest degree of the features, l_max if None.
    """
    hidden = str(Irreps.uniform(n_channels, l_max if l_features is None else l_features, parity))
    radial = RadialWeightsSpec(widths=tuple(radial_mlp), normalisation="he")
    normaliser = NormaliserSpec(kind="sqrt", place="before")

    def layer(index: int) -> LayerSpec:
        last = index == n_layers - 1
        return LayerSpec(
            irreps=f"{n_channels}x0e" if last else hidden,
            l_max=l_max,
            radial=radial,
            normaliser=normaliser,
            self_connection="element_residual" if index else "none",
            nonlinearity="gate",
            readout=ReadoutSpec() if last else None,
        )

    return ModelSpec(
        cutoff=cutoff,
        layers=tuple(layer(i) for i in range(n_layers)),
        radial_basis=RadialBasisSpec(n=n_bessel, prefactor="linear"),
        embedding=EmbeddingSpec(kind="learned", width=n_channels, attributes="embedding"),
        preset="nequip",
        **_energy(shift),
    )


def nequip_linear(
    cutoff: float = 4.0,
    n_layers: int = 5,
    l_max: int = 3,
    l_features: int | None = None,
    n_channels: int = 32,
    parity: Parity = "both",
    radial_mlp: tuple[int, ...] = (64, 64, 64),
    n_bessel: int = 8,
    shift: Literal["none", "mean"] = "none",
) -> ModelSpec:
    """NequIP without nonlinearities but in its radial functions: element-dependent residual, two linear readout layers after the last layer."""
    hidden = str(Irreps.uniform(n_channels, l_max if l_features is None else l_features, parity))

    def layer(index: int) -> LayerSpec:
        last = index == n_layers - 1
        return LayerSpec(
            irreps=f"{n_channels}x0e" if last else hidden,
            l_max=l_max,
            radial=RadialWeightsSpec(widths=tuple(radial_mlp)),
            self_connection="element_residual",
            readout=ReadoutSpec(widths=(16,), activation="identity") if last else None,
        )

    return ModelSpec(
        cutoff=cutoff,
        layers=tuple(layer(i) for i in range(n_layers)),
        radial_basis=RadialBasisSpec(n=n_bessel),
        embedding=EmbeddingSpec(width=n_channels),
        preset="nequip_linear",
        **_energy(shift),
    )


def botnet(
    cutoff: float = 4.0,
    n_layers: int = 5,
    l_max: int = 3,
    l_features: int | None = None,
    n_channels: int = 32,
    parity: Parity = "both",
    radial_mlp: tuple[int, ...] = (64, 64, 64),
    n_bessel: int = 8,
    radial: Literal["agnostic", "element"] = "agnostic",
    shift: Literal["none", "mean"] = "none",
) -> ModelSpec:
    """BOTNet: body-ordered; the first layer's message is selected by element, later ones add an element-dependent residual; every layer has a readout.

    The last layer keeps scalars alone: its readout sees nothing else, so this is the published function with fewer parameters.

    radial "element": in every layer a table of linear weights per element of the sender instead of an MLP.
    """
    hidden = str(Irreps.uniform(n_channels, l_max if l_features is None else l_features, parity))
    weights = (
        RadialWeightsSpec(widths=tuple(radial_mlp))
        if radial == "agnostic"
        else RadialWeightsSpec(kind="linear", widths=(), elements="sender")
    )

    def layer(index: int) -> LayerSpec:
        last = index == n_layers - 1
        return LayerSpec(
            irreps=f"{n_channels}x0e" if last else hidden,
            l_max=l_max,
            radial=weights,
            self_connection="element_residual" if index else "selector",
            readout=ReadoutSpec(widths=(16,)) if last else ReadoutSpec(),
        )

    return ModelSpec(
        cutoff=cutoff,
        layers=tuple(layer(i) for i in range(n_layers)),
        radial_basis=RadialBasisSpec(n=n_bessel),
        embedding=EmbeddingSpec(width=n_channels),
        preset="botnet",
        **_energy(shift),
    )


def mace(
    cutoff: float = 5.0,
    n_layers: int = 2,
    l_max: int = 3,
    l_features: int = 1,
    n_channels: int = 32,
    correlation: int = 3,
    radial_mlp: tuple[int, ...] = (64, 64, 64),
    n_bessel: int = 8,
    shift: Literal["none", "mean"] = "none",
) -> ModelSpec:
    """MACE: products of the density up to `correlation` in every layer, scalars alone in the last, a readout per layer."""
    hidden = str(Irreps.uniform(n_channels, l_features, "natural"))

    def layer(index: int) -> LayerSpec:
        last = index == n_layers - 1
        return LayerSpec(
            irreps=f"{n_channels}x0e" if last else hidden,
            l_max=l_max,
            density=str(Irreps.uniform(n_channels, l_max, "natural")),
            radial=RadialWeightsSpec(widths=tuple(radial_mlp)),
            product=ProductSpec(correlation=correlation),
            self_connection="element_residual" if index else "selector",
            readout=ReadoutSpec(widths=(16,)) if last and n_layers > 1 else ReadoutSpec(),
        )

    return ModelSpec(
        cutoff=cutoff,
        layers=tuple(layer(i) for i in range(n_layers)),
        radial_basis=RadialBasisSpec(n=n_bessel, p=5),
        embedding=EmbeddingSpec(width=n_channels),
        preset="mace",
        **_energy(shift),
    )


def ace(
    cutoff: float = 5.0,
    correlation: int = 3,
    l_max: int = 4,
    n_radial: int = 8,
    degrees: tuple[float, ...] | None = None,
    angular_weight: float = 1.0,
    basis: Literal["bessel", "chebyshev"] = "bessel",
    transform: Literal["none", "agnesi"] = "none",
    elements: bool = True,
) -> ModelSpec:
    """Linear ACE: one layer, one-hot elements, fixed radial functions, products of coupled channels, a weight per function and element of the centre.

    degrees: for each order ν the highest Σ_ξ (n_ξ + angular_weight · l_ξ) of its products; None: `ace_degrees`. elements: weights per element of the
    centre, or shared. The energy is linear in all parameters, so that it can be fitted by least squares. The body order is correlation + 1.
    Source: Drautz, Phys. Rev. B 99, 014104 (2019).
    """
    degrees = ace_degrees(n_radial, correlation) if degrees is None else tuple(degrees)
    layer = LayerSpec(
        irreps="1x0e",
        l_max=l_max,
        linear_up=False,
        radial=RadialWeightsSpec(kind="direct", widths=()),
        linear_density=False,
        channels="coupled",
        normaliser=NormaliserSpec(kind="none"),
        product=ProductSpec(correlation=correlation, elements=elements, degrees=degrees, angular_weight=angular_weight),
        readout=ReadoutSpec(kind="sum"),
    )
    return ModelSpec(
        cutoff=cutoff,
        layers=(layer,),
        radial_basis=RadialBasisSpec(kind=basis, n=n_radial, p=2, transform=transform),
        embedding=EmbeddingSpec(kind="onehot", width=n_radial),
        preset="ace",
    )


def ace_degrees(n_radial: int, correlation: int) -> tuple[float, ...]:
    """The highest degrees of `ace` by order: all radial functions for one factor, a little more for two, less for more."""
    return (n_radial, n_radial + 2, n_radial, n_radial - 1)[:correlation]


def schnet_like(
    cutoff: float = 5.0,
    n_layers: int = 4,
    n_channels: int = 64,
    radial_mlp: tuple[int, ...] = (64, 64),
    n_bessel: int = 16,
    shift: Literal["none", "mean"] = "none",
) -> ModelSpec:
    """The invariant control: NequIP's layer with scalars alone (l_max = 0)."""
    spec = nequip(cutoff, n_layers, 0, 0, n_channels, "natural", tuple(radial_mlp), n_bessel, shift)
    return replace(spec, preset="schnet_like")


def _energy(shift: str) -> dict:
    if shift == "none":
        return {"energy": EnergySpec()}
    return {"energy": EnergySpec(shift=None), "isolated_atom": "free"}


PRESETS: dict[str, Callable[..., ModelSpec]] = {
    "nequip": nequip,
    "nequip_linear": nequip_linear,
    "botnet": botnet,
    "mace": mace,
    "ace": ace,
    "schnet_like": schnet_like,
}


def preset_options(name: str) -> dict[str, inspect.Parameter]:
    """The keyword arguments of a preset, with annotations and defaults."""
    return dict(inspect.signature(PRESETS[name]).parameters)
