"""Models of the original programs, imported: the same numbers to the last digit, ordinary tensors, nothing unused.

Small bundles lie beside this file (`peers/` wrote them); larger ones in EQUIPOT_GOLDENS, or ../shared/goldens beside the repository.
"""

import os
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from equipot.data.graph import Graph, concatenate
from equipot.data.neighbours import neighbour_graph
from equipot.model import Potential, load_model, predict, save_model
from equipot.model.importers import Bundle, import_bundle, read_bundle
from equipot.model.importers.verify import TOLERANCES, deviations, require_agreement

REPOSITORY = Path(__file__).resolve().parents[2]
FOLDER = Path(os.environ.get("EQUIPOT_GOLDENS") or REPOSITORY.parent / "shared" / "goldens")
PACKAGED = sorted((Path(__file__).parent / "bundles").glob("*.npz"))
GOLDENS = sorted(FOLDER.glob("*.npz"))
MISSING = pytest.param(None, marks=pytest.mark.skip(reason=f"no reference results at {FOLDER}: set EQUIPOT_GOLDENS to their folder"))

golden = pytest.mark.parametrize(
    "path", [*PACKAGED, *(GOLDENS or [MISSING])], ids=lambda p: f"{p.parent.name}/{p.stem}" if isinstance(p, Path) else "goldens"
)


@cache
def bundle_of(path: Path) -> Bundle:
    return read_bundle(path)


def imported(path: Path) -> Potential:
    """A fresh copy for every test: some change it."""
    return import_bundle(bundle_of(path))[0]


def graphs_of(potential: Potential, bundle: Bundle) -> Graph:
    """The bundle's structures as one batch."""
    elements = potential.spec.elements
    return concatenate(
        [neighbour_graph(f.positions, np.searchsorted(elements, f.numbers), f.cell, f.pbc, potential.spec.cutoff) for f in bundle.frames]
    )


@golden
def test_energies_forces_and_stress_are_the_originals(path):
    bundle = bundle_of(path)
    found = deviations(imported(path), bundle.frames, neighbour_graph)
    assert len(found) >= 2
    for deviation in found:
        assert deviation.energy <= TOLERANCES["energy"]
        assert deviation.forces <= TOLERANCES["forces"]
        assert deviation.stress is None or deviation.stress <= TOLERANCES["stress"]
        assert deviation.n_edges in (None, 0)
    require_agreement(bundle, found)


@golden
def test_the_file_holds_exactly_the_tensors_of_its_spec(path, tmp_path):
    potential = imported(path)
    save_model(potential, tmp_path / "m.equipot")
    loaded = load_model(tmp_path / "m.equipot")
    fresh = Potential(loaded.spec, dtype=torch.float64)
    assert type(loaded) is Potential
    assert {k: v.shape for k, v in loaded.state_dict().items()} == {k: v.shape for k, v in fresh.state_dict().items()}
    assert all(torch.equal(v, loaded.state_dict()[k]) for k, v in potential.state_dict().items())


@golden
def test_one_training_step(path):
    bundle = bundle_of(path)
    potential = imported(path).train()
    batch = graphs_of(potential, bundle)
    # Adam moves every weight by the rate whatever the size of its gradient: small, as some of these energies see a weight only at 1e-10 of their size
    optimiser = torch.optim.Adam(potential.parameters(), lr=1e-6)
    losses = []
    for _ in range(2):
        prediction = predict(potential, batch, forces=True, create_graph=True)
        loss = (prediction.energy - 1.0).square().mean() + prediction.forces.square().mean()
        optimiser.zero_grad()
        loss.backward()
        unused = [name for name, p in potential.named_parameters() if p.grad is None or not p.grad.any()]
        assert not unused
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[1] < losses[0]


@golden
def test_every_path_and_every_coupling_is_used(path):
    bundle = bundle_of(path)
    potential = imported(path)
    batch = graphs_of(potential, bundle)
    amplify(potential, batch)
    whole = predict(potential, batch, forces=False).energy
    for what, tensors in part_weights(potential):
        kept = [t.clone() for t in tensors]
        with torch.no_grad():
            for tensor in tensors:
                tensor.zero_()
            without = predict(potential, batch, forces=False).energy
            for tensor, value in zip(tensors, kept, strict=True):
                tensor.copy_(value)
            assert float((without - whole).detach().abs().max()) > 1e-6, what


def amplify(potential: Potential, batch: Graph) -> None:
    """Larger weights, so that forces are about 1 eV/Å: as they were drawn, high orders of the features are nearly invisible in the energy."""
    for _ in range(40):
        if predict(potential, batch).forces.square().mean() > 1.0:
            return
        with torch.no_grad():
            for layer in potential.layers:
                layer.linear.weight.mul_(1.3)


def part_weights(potential: Potential):
    """The weights of each coupling path of each layer, and of each coupling of its product."""
    for number, layer in enumerate(potential.layers):
        mlp = getattr(layer.radial, "mlp", None)
        weights = [layer.radial.weight] if mlp is None else [mlp.weights[-1], *list(mlp.biases)[-1:]]
        for p in layer.plan.paths:
            part = slice(p.w_start, p.w_start + p.n_channels)
            yield f"layer {number}: {p.l1} x {p.l2} -> {p.l3}", [w.detach()[..., part] for w in weights]
        product = getattr(layer.product, "weight", None)
        for eta in range(0 if product is None else product.shape[-2]):
            yield f"layer {number}: coupling {eta}", [product.detach()[..., eta, :]]
