"""What the design space refuses, with the reason; what it says of a point."""

from dataclasses import replace
from typing import get_args

import pytest
from pydantic import ValidationError

from equipot.presets import botnet, mace, nequip
from equipot.spec import (
    LayerSpec,
    ModelSpec,
    NormaliserSpec,
    ProductSpec,
    RadialBasisSpec,
    RadialWeightsSpec,
    body_order,
    correlation_order,
    layer_features,
)

SMALL = {"cutoff": 4.0, "n_layers": 2, "n_channels": 4, "l_max": 1, "radial_mlp": (4,)}


def with_layer(spec: ModelSpec, index: int, **changes) -> ModelSpec:
    layers = list(spec.layers)
    layers[index] = replace(layers[index], **changes)
    return replace(spec, layers=tuple(layers))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda: with_layer(nequip(**SMALL), 1, readout=None), "no layer has a readout"),
        (lambda: with_layer(nequip(**SMALL), 0, irreps="4x1e"), "can be reached"),
        (lambda: with_layer(nequip(**SMALL), 1, irreps="4x0e+4x1o", readout=None), "no layer has a readout"),
        (lambda: with_layer(nequip(**SMALL), 0, skip="identity"), "which lack channels of"),
        (
            lambda: with_layer(nequip(**SMALL), 0, radial=RadialWeightsSpec(kind="direct", channels="coupled")),
            "no weights that could couple",
        ),
        (lambda: with_layer(botnet(**SMALL), 1, normaliser=NormaliserSpec(kind="density", place="before")), "place: after"),
        (lambda: with_layer(botnet(**SMALL), 1, normaliser=NormaliserSpec(value=(1.0, 2.0))), "per: receiver"),
        (lambda: with_layer(mace(**SMALL), 0, product=ProductSpec(correlation=5)), "less than or equal to 4"),
        (lambda: with_layer(mace(**SMALL), 0, channels="coupled"), "coupled channels are"),
        (lambda: with_layer(mace(**SMALL), 0, product=ProductSpec(degrees=(3.0,))), "channels: coupled"),
        (lambda: replace(nequip(**SMALL), elements=(8, 1)), "ascending"),
        (lambda: replace(nequip(**SMALL), elements=(1, 8), pair_cutoff=((4.0, 5.0), (4.0, 4.0))), "not above the cutoff"),
        (lambda: replace(nequip(**SMALL), energy=replace(nequip(**SMALL).energy, shift=0.3)), "isolated_atom: free"),
        (lambda: RadialBasisSpec(kind="wavelet"), "bessel"),
        (lambda: LayerSpec(irreps="4x0e", nonlinearity="swish"), "norm_gate"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_reason(change, reason):
    with pytest.raises(ValidationError, match=reason):
        change()


@pytest.mark.parametrize("kind", get_args(RadialBasisSpec.__dataclass_fields__["kind"].type))
@pytest.mark.parametrize("transform", get_args(RadialBasisSpec.__dataclass_fields__["transform"].type))
def test_every_family_takes_every_transform(kind, transform):
    assert replace(nequip(**SMALL), radial_basis=RadialBasisSpec(kind=kind, transform=transform)).radial_basis.transform == transform


def test_a_norm_gate_has_no_gates_and_no_body_order():
    gated, normed = (with_layer(nequip(**SMALL), 0, nonlinearity=name) for name in ("gate", "norm_gate"))
    assert layer_features(gated) == layer_features(normed)
    assert correlation_order(normed) == [None, None]
    assert body_order(normed) is None


def test_an_identity_skip_keeps_what_it_adds():
    """The last layer's scalars come from the skip alone: those before it are kept although no path is left that needs them."""
    first, last = botnet(**SMALL, parity="natural").layers
    middle = replace(last, irreps="4x0e+4x1o", skip="identity", self_connection="none", readout=None, radial=RadialWeightsSpec(widths=(4,)))
    spec = replace(botnet(**SMALL), layers=(replace(first, irreps="4x0e+4x1o", readout=None), middle, last))
    assert [str(irreps) for irreps in layer_features(spec)] == ["4x0e", "4x0e+4x1o", "4x0e+4x1o", "4x0e"]
    assert correlation_order(spec) == [1, 2, 3]
