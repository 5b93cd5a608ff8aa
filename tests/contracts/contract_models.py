"""Points of the design space and structures that let a contract see a defect: E0 = 0, forces of about 1 eV/Å, two elements, float64, no symmetry."""

from dataclasses import replace

import numpy as np
import torch

from equipot.data.graph import Graph
from equipot.data.neighbours import neighbour_graph
from equipot.model import Potential, predict
from equipot.presets import ace, botnet, mace, nequip, nequip_linear, schnet_like
from equipot.spec import (
    EmbeddingSpec,
    ModelSpec,
    NormaliserSpec,
    PairSpec,
    ProductSpec,
    RadialBasisSpec,
    RadialWeightsSpec,
    ReadoutSpec,
)

ELEMENTS = (1, 8)
CUTOFF = 3.4
SMALL = {"cutoff": CUTOFF, "n_channels": 4, "radial_mlp": (8,), "n_bessel": 5}
L2 = {**SMALL, "l_max": 2}


def changed(spec: ModelSpec, every: dict | None = None, **whole) -> ModelSpec:
    """The spec with fields of every layer, and of itself, replaced."""
    layers = tuple(replace(layer, **(every or {})) for layer in spec.layers)
    return replace(spec, layers=layers, **whole)


def _points() -> dict[str, ModelSpec]:
    linear = botnet(n_layers=2, parity="natural", **L2)
    first, second = linear.layers
    base = RadialBasisSpec(n=5)
    return {
        "nequip": nequip(n_layers=3, **L2),
        "nequip both parities": nequip(n_layers=4, parity="both", **L2),
        "nequip per element and shift": changed(
            nequip(n_layers=2, shift="mean", **L2),
            {"normaliser": NormaliserSpec(kind="sqrt", place="before", per="sender", value=(3.0, 7.0))},
        ),
        "nequip_linear": nequip_linear(n_layers=4, **L2),
        "nequip_linear without self-connection": changed(nequip_linear(n_layers=2, **L2), {"self_connection": "none"}),
        "botnet": botnet(n_layers=4, **L2),
        "botnet radial by element": botnet(n_layers=4, radial="element", **L2),
        "botnet shift": botnet(n_layers=2, shift="mean", **L2),
        "botnet selectors": changed(botnet(n_layers=2, **L2), {"self_connection": "selector"}),
        "botnet plain residual": changed(botnet(n_layers=2, **L2), {"self_connection": "residual"}),
        "botnet gated, single readout": replace(
            linear, layers=(replace(first, nonlinearity="gate", readout=None), replace(second, nonlinearity="gate", readout=ReadoutSpec()))
        ),
        "l of Y above l of features": botnet(n_layers=2, l_features=1, **{**SMALL, "l_max": 3}),
        "both ends, no linear up": changed(
            botnet(n_layers=2, **L2), {"linear_up": False, "radial": RadialWeightsSpec(kind="linear", widths=(), elements="both")}
        ),
        "radial MLP of sender and basis": changed(
            botnet(n_layers=2, **L2),
            {"radial": RadialWeightsSpec(widths=(6,), activation="tanh", elements="sender", normalisation="plain")},
        ),
        "learned density": changed(botnet(n_layers=2, **L2), {"normaliser": NormaliserSpec(kind="density")}),
        "learned embedding": replace(linear, embedding=EmbeddingSpec(kind="learned", width=3, attributes="embedding")),
        "different channels": replace(linear, layers=(replace(first, irreps="5x0e+3x1o+2x2e"), second)),
        "gaussians": replace(linear, radial_basis=replace(base, kind="gaussian")),
        "chebyshev, cosine": replace(linear, radial_basis=replace(base, kind="chebyshev", envelope="cosine")),
        "trainable bessel, cosine": replace(linear, radial_basis=replace(base, trainable=True, envelope="cosine")),
        "agnesi, zbl": replace(
            linear, radial_basis=replace(base, transform="agnesi"), pair=PairSpec(kind="zbl", constants="mace", range="covalent")
        ),
        "soft transform": replace(linear, radial_basis=replace(base, transform="soft")),
        "coupled radial weights": changed(
            nequip(n_layers=3, **{**SMALL, "n_channels": 2, "l_max": 2}), {"radial": RadialWeightsSpec(widths=(6,), channels="coupled")}
        ),
        "identity skip": replace(
            linear,
            layers=(
                replace(first, irreps="5x0e+3x1o+2x2e"),
                *[replace(second, irreps="5x0e+3x1o", skip="identity", readout=None)] * 2,
                second,
            ),
        ),
        "norm gate": changed(nequip(n_layers=3, parity="both", **L2), {"nonlinearity": "norm_gate"}),
        "zbl to the cutoff": replace(nequip(n_layers=2, **L2), pair=PairSpec(kind="zbl")),
        "cutoffs by pair": replace(linear, elements=ELEMENTS, pair_cutoff=((2.6, 3.0), (3.2, CUTOFF))),
        "mace": mace(n_layers=2, correlation=3, **L2),
        "mace order 4, shared": changed(mace(n_layers=1, **{**SMALL, "l_max": 1}), {"product": ProductSpec(correlation=4, elements=False)}),
        "ace": ace(cutoff=CUTOFF, l_max=2, n_radial=3, degrees=(3, 5, 7)),
        "ace order 4, shared, chebyshev": ace(
            cutoff=CUTOFF, correlation=4, l_max=2, n_radial=2, degrees=(2, 4, 7, 8), basis="chebyshev", transform="agnesi", elements=False
        ),
        "schnet_like": schnet_like(n_layers=2, **SMALL),
    }


POINTS = _points()


def odd_gates() -> ModelSpec:
    """From 1e and 2o no even scalar can be reached: the third layer's gates are odd, and planar neighbourhoods have no energy."""
    spec = nequip(n_layers=4, **L2)
    irreps = ("3x0e+2x1o", "2x1e+1x2o", "2x1o+1x1e", "4x0e")
    return replace(spec, layers=tuple(replace(layer, irreps=i) for layer, i in zip(spec.layers, irreps, strict=True)))


def complete(spec: ModelSpec, e0: tuple[float, ...] = (0.0, 0.0), scale: float = 1.0) -> ModelSpec:
    """The spec with elements and everything that data would fill in."""

    def filled(normaliser: NormaliserSpec) -> NormaliserSpec:
        return replace(normaliser, value=6.0) if normaliser.value is None and normaliser.kind in ("mean", "sqrt") else normaliser

    layers = tuple(replace(layer, normaliser=filled(layer.normaliser)) for layer in spec.layers)
    shift = (0.3, -0.2) if spec.energy.shift is None else spec.energy.shift
    return replace(spec, elements=ELEMENTS, layers=layers, energy=replace(spec.energy, e0=e0, scale=scale, shift=shift))


def potential_of(spec: ModelSpec, seed: int = 1, dtype: torch.dtype = torch.float64, backend: str = "auto", **energy) -> Potential:
    """An untrained potential whose forces are about 1 eV/Å on the cluster: by larger weights, so that high orders are seen, then by its scale."""
    potential = Potential(complete(spec, **energy), dtype=dtype, seed=seed, backend=backend).eval()
    sizes = [force_size(potential)]
    while sizes[-1] < 0.3 and len(sizes) < 16:
        grow(potential, 1.5)
        sizes.append(force_size(potential))
    best = int(np.argmax(sizes))
    if best < len(sizes) - 1:  # a bounded readout is saturated
        grow(potential, 1.5 ** (best - len(sizes) + 1))
    potential.scale.detach().div_(sizes[best])
    return potential


def force_size(potential: Potential) -> float:
    """Root mean square of the cluster's forces, eV/Å."""
    return float(predict(potential, cluster_graph(potential)).forces.detach().square().mean().sqrt())


def grow(potential: Potential, factor: float) -> None:
    """Multiply the linear maps behind all convolutions, or the weights of products where there are none."""
    with torch.no_grad():
        for layer in potential.layers:
            (layer.linear if hasattr(layer.linear, "weight") else layer.product).weight.mul_(factor)


def cluster() -> tuple[np.ndarray, np.ndarray]:
    """Positions (7, 3) and species of a chiral cluster without symmetry, all within reach of some others."""
    rng = np.random.default_rng(5)
    grid = np.array([[0, 0, 0], [1.7, 0, 0], [0, 1.8, 0], [0.3, 0.2, 1.9], [1.8, 1.6, 0.4], [1.5, 0.4, 1.8], [-0.9, -1.4, 0.8]])
    return grid + 0.25 * rng.normal(size=grid.shape), np.array([0, 1, 1, 0, 1, 0, 0])


def crystal() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions (4, 3), species and a triclinic cell smaller than the cutoff, so that atoms see their own images."""
    cell = np.array([[3.1, 0.2, -0.1], [0.7, 3.4, 0.3], [-0.4, 0.5, 3.9]])
    fractions = np.array([[0.05, 0.1, 0.02], [0.55, 0.45, 0.1], [0.1, 0.6, 0.55], [0.6, 0.08, 0.52]])
    return fractions @ cell, np.array([0, 1, 1, 0]), cell


NO_CELL, FREE, PERIODIC = np.zeros((3, 3)), np.zeros(3, dtype=bool), np.ones(3, dtype=bool)


def graph_of(potential: Potential, positions: np.ndarray, species: np.ndarray, cell: np.ndarray | None = None) -> Graph:
    """The graph of a molecule, or of a crystal if a cell is given, within the potential's cutoff."""
    pbc = FREE if cell is None else PERIODIC
    return neighbour_graph(positions, species, NO_CELL if cell is None else cell, pbc, potential.spec.cutoff)


def cluster_graph(potential: Potential) -> Graph:
    """The cluster's graph."""
    return graph_of(potential, *cluster())


def crystal_graph(potential: Potential) -> Graph:
    """The crystal's graph."""
    return graph_of(potential, *crystal())


def random_rotation(seed: int = 0) -> np.ndarray:
    """A proper rotation (3, 3) by a QR decomposition."""
    q, r = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return q * np.linalg.det(q)
