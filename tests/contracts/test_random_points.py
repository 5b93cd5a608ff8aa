"""Contracts at random points of the design space: small models whose axes are drawn independently."""

from dataclasses import replace
from typing import get_args

import pytest
from contract_checks import (
    batch_is_single,
    cutoff_smoothness,
    finite_difference_forces,
    finite_difference_stress,
    hidden_features,
    isolated_atom,
    permutation,
    reflection,
    rotation,
    save_is_load,
    supercell,
    wrapping,
)
from contract_models import CUTOFF, potential_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from equipot.presets import ace
from equipot.spec import (
    EmbeddingSpec,
    LayerSpec,
    ModelSpec,
    NormaliserSpec,
    PairSpec,
    ProductSpec,
    RadialBasisSpec,
    RadialWeightsSpec,
    ReadoutSpec,
)

IRREPS = ("3x0e+2x1o", "2x0e+2x1o+1x2e", "2x0e+1x0o+2x1o+1x1e", "2x0e+1x1o+2x1e+1x2o+1x2e", "4x0e")
UNIFORM = ("2x0e+2x1o", "2x0e+2x1o+2x2e", "2x0e")


def choices(spec: type, axis: str) -> list:
    """Every value of an axis, from its type: a new one is drawn as soon as it is there."""
    return list(get_args(spec.__dataclass_fields__[axis].type))


radial_weights = st.one_of(
    st.builds(
        RadialWeightsSpec,
        channels=st.sampled_from(choices(RadialWeightsSpec, "channels")),
        widths=st.sampled_from([(4,), (4, 3)]),
        activation=st.sampled_from(["silu", "tanh"]),
        normalisation=st.sampled_from(["e3nn", "he"]),
    ),
    st.builds(RadialWeightsSpec, kind=st.just("linear"), widths=st.just(()), elements=st.sampled_from(["none", "sender", "both"])),
)
normalisers = st.sampled_from(
    [
        NormaliserSpec(kind="mean", value=5.0),
        NormaliserSpec(kind="sqrt", place="before", per="sender", value=(4.0, 9.0)),
        NormaliserSpec(kind="mean", place="after", per="receiver", value=(4.0, 9.0)),
        NormaliserSpec(kind="density"),
        NormaliserSpec(kind="none"),
    ]
)
bases = st.sampled_from(
    [
        RadialBasisSpec(n=4),
        RadialBasisSpec(n=4, prefactor="linear", p=3),
        RadialBasisSpec(n=4, trainable=True, envelope="cosine"),
        RadialBasisSpec(n=4, kind="gaussian"),
        RadialBasisSpec(n=4, kind="chebyshev", p=2),
    ]
    + [RadialBasisSpec(n=4, transform=name) for name in choices(RadialBasisSpec, "transform")]
)


@st.composite
def layers(draw, last: bool) -> LayerSpec:
    product = draw(st.sampled_from([None, None, ProductSpec(correlation=2), ProductSpec(correlation=3, elements=False)]))
    return LayerSpec(
        irreps=draw(st.sampled_from(UNIFORM if product else IRREPS)),
        l_max=draw(st.integers(1, 2)),
        linear_up=draw(st.booleans()),
        radial=draw(radial_weights),
        density=draw(st.sampled_from([None, "2x0e+2x1o+2x2e"])) if product else None,
        normaliser=draw(normalisers),
        product=product,
        self_connection=draw(st.sampled_from(choices(LayerSpec, "self_connection"))),
        nonlinearity=draw(st.sampled_from(choices(LayerSpec, "nonlinearity"))),
        readout=draw(st.sampled_from([ReadoutSpec(), ReadoutSpec(widths=(3,), activation="tanh")] + ([] if last else [None]))),
    )


@st.composite
def specs(draw) -> ModelSpec:
    n_layers = draw(st.integers(1, 3))
    return ModelSpec(
        cutoff=CUTOFF,
        layers=tuple(draw(layers(last=i == n_layers - 1)) for i in range(n_layers)),
        radial_basis=draw(bases),
        embedding=draw(
            st.sampled_from(
                [
                    EmbeddingSpec(width=3),
                    EmbeddingSpec(kind="learned", width=3, attributes="embedding"),
                    EmbeddingSpec(kind="learned", width=2),
                ]
            )
        ),
        pair=draw(st.sampled_from([PairSpec(), PairSpec(), PairSpec(kind="zbl", scaled=True)])),
    )


@st.composite
def coupled_specs(draw) -> ModelSpec:
    """One layer of coupled channels: linear ACE, or a nonlinear function of several invariants."""
    correlation = draw(st.integers(1, 4))
    spec = ace(
        CUTOFF,
        correlation,
        l_max=draw(st.integers(0, 2)),
        n_radial=draw(st.integers(1, 3)),
        degrees=tuple(nu + draw(st.integers(0, 3)) for nu in range(1, correlation + 1)),
        angular_weight=draw(st.sampled_from([0.5, 1.0])),
        basis=draw(st.sampled_from(["bessel", "chebyshev"])),
        transform=draw(st.sampled_from(["none", "agnesi"])),
        elements=draw(st.booleans()),
    )
    changes = draw(
        st.sampled_from([{}, {}, {"irreps": "3x0e", "nonlinearity": "gate"}, {"irreps": "3x0e", "readout": ReadoutSpec(widths=(3,))}])
    )
    return replace(spec, layers=(replace(spec.layers[0], **changes),))


GROUPS = {
    "symmetry": (10, (rotation, reflection, hidden_features)),
    "structure": (8, (permutation, wrapping, supercell, batch_is_single)),
    "derivatives": (5, (finite_difference_forces, finite_difference_stress)),
    "limits": (10, (isolated_atom, cutoff_smoothness, save_is_load)),
}


@pytest.mark.parametrize("group", GROUPS)
def test_random_points(group):
    n, checks = GROUPS[group]

    @settings(max_examples=n, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(spec=st.one_of(specs(), specs(), coupled_specs()), seed=st.integers(0, 3))
    def obeys(spec: ModelSpec, seed: int) -> None:
        potential = potential_of(spec, seed=seed)
        for check in checks:
            check(potential)

    obeys()
