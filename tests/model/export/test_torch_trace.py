"""The traced graph of every kind of model against the potential, without compiling it."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).resolve().parents[2] / "contracts"))

from contract_models import CUTOFF, ELEMENTS, changed, complete, potential_of

from equipot.data.graph import concatenate
from equipot.errors import UserError
from equipot.model import Ensemble, Potential, predict
from equipot.model.export.torch_check import compare, example, inputs_of
from equipot.model.export.torch_trace import function_of, outputs_of, rebuilt, trace
from equipot.ops.groups import FEW, product_by_group, product_of_any_sizes
from equipot.presets import ace, mace
from equipot.spec import PairSpec, RadialWeightsSpec

TINY = {"cutoff": CUTOFF, "n_channels": 2, "radial_mlp": (4,), "n_bessel": 3, "l_max": 1}
JUMP = RadialWeightsSpec(widths=(3,), elements="sender", normalisation="plain")  # seen beyond the cutoff, were they not dropped
TABLES = RadialWeightsSpec(kind="linear", widths=(), elements="both")
SPECS = {
    "tables by element, zbl": replace(changed(mace(n_layers=1, correlation=1, **TINY), {"radial": TABLES}), pair=PairSpec(kind="zbl")),
    "cutoffs by pair, weights that jump": replace(
        changed(mace(n_layers=1, correlation=1, **TINY), {"radial": JUMP}), elements=ELEMENTS, pair_cutoff=((2.6, 3.0), (3.2, CUTOFF))
    ),
    "ace": ace(cutoff=CUTOFF, l_max=1, n_radial=2, degrees=(2, 3, 4)),
}
ZBL, JUMPS = list(SPECS)[:2]


def traced(potential: Potential | Ensemble):
    model = rebuilt(potential, "cpu", "reference")
    function, inputs = function_of(model), inputs_of(example(model.spec, 0), model.spec, "cpu")
    function(*inputs)
    return trace(function, inputs)


@pytest.fixture(scope="module")
def zbl():
    potential = potential_of(SPECS[ZBL])
    return potential, traced(potential)


@pytest.mark.parametrize("name", [n for n in SPECS if n != ZBL])
def test_is_the_potential_at_any_size(name: str) -> None:
    potential = Potential(complete(SPECS[name], e0=(-3.0, 5.0)), dtype=torch.float64)
    found = compare(traced(potential), potential, [example(potential.spec, size) for size in range(4)], outputs_of(potential), "cpu")
    assert found.energy < 1e-10 and found.forces < 1e-9


def test_tables_and_a_pair_term_at_any_size(zbl) -> None:
    potential, graph = zbl
    compare(graph, potential, [example(potential.spec, size) for size in range(4)], outputs_of(potential), "cpu")


def test_edges_beyond_the_cutoff(zbl) -> None:
    potential, graph = zbl
    structure = example(potential.spec, 2)
    positions, numbers, cell, edges, shift, index = inputs_of(structure, potential.spec, "cpu")
    far = torch.cdist(positions, positions)
    more = torch.nonzero((far >= CUTOFF) & (index[:, None] == index)).T
    assert more.shape[1] > 0
    edges, shift = torch.cat([edges, more], dim=1), torch.cat([shift, shift.new_zeros(more.shape[1], 3)])
    order = torch.randperm(edges.shape[1], generator=torch.Generator().manual_seed(0))
    forces = graph(positions, numbers, cell, edges[:, order], shift[order], index)[2]
    assert torch.allclose(forces, predict(potential, structure).forces, rtol=0, atol=1e-12)


def test_edges_beyond_the_cutoff_of_weights_that_jump() -> None:
    potential = potential_of(complete(SPECS[JUMPS]))
    structure = example(potential.spec, 2)
    positions, numbers, cell, _, _, index = inputs_of(structure, potential.spec, "cpu")
    edges = torch.nonzero((index[:, None] == index) & ~torch.eye(len(index), dtype=torch.bool)).T.contiguous()
    assert edges.shape[1] > structure.n_edges
    shift = edges.new_zeros(edges.shape[1], 3)
    energy, _, forces, *_ = function_of(rebuilt(potential, "cpu", "reference"))(positions, numbers, cell, edges, shift, index)
    expected = predict(potential, structure)
    assert torch.allclose(energy, expected.energy, rtol=0, atol=1e-12) and torch.allclose(forces, expected.forces, rtol=0, atol=1e-12)


def test_an_unknown_element_spoils_its_structure_alone(zbl) -> None:
    potential, graph = zbl
    structure = concatenate([example(potential.spec, 1), example(potential.spec, 3)])
    inputs = inputs_of(structure, potential.spec, "cpu")
    expected = predict(potential, structure)
    for number in (7, 0, -3, 4000):
        numbers = inputs[1].clone()
        numbers[0] = number
        energy, sites, forces, virial, stress = graph(inputs[0], numbers, *inputs[2:])
        assert energy[0].isnan() and sites[0].isnan() and forces[0].isnan().all() and virial[0].isnan().all()
        assert torch.allclose(energy[1:], expected.energy[1:]) and torch.allclose(forces[1:], expected.forces[1:])
        assert stress[0].isnan().all() and stress[1:].isfinite().all()


def test_an_ensemble_says_how_far_apart_it_is() -> None:
    spec = complete(mace(n_layers=1, correlation=1, **TINY))
    ensemble = Ensemble([Potential(spec, dtype=torch.float64, seed=seed) for seed in (1, 2)])
    names = outputs_of(ensemble)
    assert names[-2:] == ("energy_std", "forces_std")
    compare(function_of(rebuilt(ensemble, "cpu", "reference")), ensemble, [example(spec, size) for size in range(4)], names, "cpu")


def test_edges_in_both_orders_where_operations_read_them() -> None:
    """What other operations than the plain ones are given: on the CPU, the C++ ones, untraced."""
    potential = potential_of(mace(n_layers=2, correlation=2, **TINY))
    if potential.ops.name == "reference":
        pytest.skip("the C++ operations were not built")
    structure = example(potential.spec, 3)
    positions, numbers, cell, edges, shift, index = inputs_of(structure, potential.spec, "cpu")
    order = torch.randperm(edges.shape[1], generator=torch.Generator().manual_seed(0))
    forces = function_of(rebuilt(potential, "cpu", "cpu"))(positions, numbers, cell, edges[:, order].contiguous(), shift[order], index)[2]
    assert torch.allclose(forces, predict(potential, structure).forces, rtol=0, atol=1e-12)


@pytest.mark.parametrize("output", ["energy", "site_energy", "forces", "virial", "stress"])
def test_the_comparison_sees_each_output(zbl, output: str) -> None:
    potential, graph = zbl
    names = outputs_of(potential)

    def wrong(*inputs: torch.Tensor) -> list[torch.Tensor]:
        return [t + 1e-5 if name == output else t for name, t in zip(names, graph(*inputs), strict=True)]

    with pytest.raises(UserError, match=f"the compiled {output} is off by"):
        compare(wrong, potential, [example(potential.spec, 3)], names, "cpu")


def test_nan_is_a_deviation(zbl) -> None:
    potential, graph = zbl
    with pytest.raises(UserError, match="is off by nan"):
        compare(lambda *i: [t * torch.nan for t in graph(*i)], potential, [example(potential.spec, 2)], outputs_of(potential), "cpu")


@pytest.mark.parametrize("n_groups", [3, FEW + 1])
@pytest.mark.parametrize("shape", [(6,), (5, 6)])
def test_products_by_group_of_any_sizes(n_groups: int, shape: tuple[int, ...]) -> None:
    random = torch.Generator().manual_seed(2)
    x = torch.randn(20, *shape, generator=random, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(n_groups, 6, 4, generator=random, dtype=torch.float64)
    group = torch.randint(n_groups, (20,), generator=random)
    expected, found = product_by_group(x, weight, group), product_of_any_sizes(x, weight, group)
    assert found.shape == (20, *shape[:-1], 4) and torch.allclose(found, expected, rtol=0, atol=1e-12)
    for a, b in zip(torch.autograd.grad(expected.square().sum(), x), torch.autograd.grad(found.square().sum(), x), strict=True):
        assert torch.allclose(a, b, rtol=0, atol=1e-12)
