"""The contracts: what every potential must obey, as functions that raise AssertionError. Absolute tolerances in eV, eV/Å and eV/Å³."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from contract_models import cluster, cluster_graph, crystal, crystal_graph, graph_of, random_rotation

from equipot.data.graph import concatenate
from equipot.math import transform_features
from equipot.model import Potential, Prediction, derivatives, load_model, predict, save_model
from equipot.spec import layer_features, smoothness

EXACT = 1e-9


def close(a, b, tolerance: float, what: str) -> None:
    """a = b within an absolute tolerance, both finite."""
    a, b = np.asarray(a), np.asarray(b)
    assert a.shape == b.shape, f"{what}: shapes {a.shape} and {b.shape}"
    difference = np.abs(a - b).max(initial=0.0)
    assert np.isfinite(a).all() and difference <= tolerance, f"{what}: differs by {difference:.2e}, allowed {tolerance:.0e}"


def evaluate(potential: Potential, positions: np.ndarray, species: np.ndarray, cell: np.ndarray | None = None) -> Prediction:
    """Energy and forces, and stress if there is a cell."""
    return predict(potential, graph_of(potential, positions, species, cell), stress=cell is not None)


def visible(potential: Potential) -> None:
    """The contracts can see: learned forces of about 1 eV/Å, site energies that differ."""
    found = evaluate(potential, *cluster())
    size = float(found.forces.square().mean().sqrt())
    assert 0.1 < size < 10.0 or potential.spec.pair.kind == "zbl" and size < 100.0, f"forces are of {size:.1e} eV/Å"
    assert found.site_energy.std() > 1e-3, "all site energies are equal"


def turned(potential: Potential, matrix: np.ndarray) -> None:
    """Energy, forces and stress under an element of O(3)."""
    for positions, species, *rest in (cluster(), crystal()):
        before = evaluate(potential, positions, species, *rest)
        after = evaluate(potential, positions @ matrix.T, species, *(cell @ matrix.T for cell in rest))
        close(after.site_energy, before.site_energy, EXACT, "site energies")
        close(after.forces, before.forces.numpy() @ matrix.T, EXACT, "forces")
        if rest:
            close(after.stress[0], matrix @ before.stress[0].numpy() @ matrix.T, EXACT, "stress")


def rotation(potential: Potential) -> None:
    """Turned structures have turned forces and stress."""
    turned(potential, random_rotation(1))


def reflection(potential: Potential) -> None:
    """Inversion, and a mirror plane in no special direction."""
    turned(potential, -np.eye(3))
    turned(potential, -random_rotation(2))


def hidden_features(potential: Potential) -> None:
    """The features behind every layer turn as their irreps say, rotated and reflected."""
    features = layer_features(potential.spec)[1:]
    positions, species = cluster()
    for matrix in (random_rotation(3), -random_rotation(4)):
        before = layer_outputs(potential, positions, species)
        after = layer_outputs(potential, positions @ matrix.T, species)
        for irreps, x, y in zip(features, before, after, strict=True):
            size = max(1.0, float(np.abs(x).max()))
            close(y, transform_features(x, irreps, matrix), 1e-10 * size, f"features {irreps}")
            for block in irreps:
                assert np.abs(x[:, block.start : block.stop]).max() > 1e-9, f"no {block.mul}x{block.irrep} features"


def layer_outputs(potential: Potential, positions: np.ndarray, species: np.ndarray) -> list[np.ndarray]:
    """h^(1) … h^(T) of a cluster."""
    caught: list[np.ndarray] = []
    hooks = [layer.register_forward_hook(lambda _m, _i, out: caught.append(out.detach().numpy())) for layer in potential.layers]
    try:
        predict(potential, graph_of(potential, positions, species), forces=False)
    finally:
        for hook in hooks:
            hook.remove()
    return caught


def translation(potential: Potential) -> None:
    """A shifted structure is the same; forces sum to zero."""
    shift = np.array([13.7, -8.1, 4.4])
    for positions, species, *rest in (cluster(), crystal()):
        before, after = evaluate(potential, positions, species, *rest), evaluate(potential, positions + shift, species, *rest)
        close(after.energy, before.energy, EXACT, "energy")
        close(after.forces, before.forces, EXACT, "forces")
        close(before.forces.sum(0), np.zeros(3), EXACT, "net force")


def permutation(potential: Potential) -> None:
    """Renumbered atoms keep their own energies and forces."""
    for positions, species, *rest in (cluster(), crystal()):
        order = np.random.default_rng(3).permutation(len(species))
        before, after = evaluate(potential, positions, species, *rest), evaluate(potential, positions[order], species[order], *rest)
        close(after.site_energy, before.site_energy[order], EXACT, "site energies")
        close(after.forces, before.forces[order], EXACT, "forces")


def wrapping(potential: Potential) -> None:
    """Atoms moved by lattice vectors are the same atoms."""
    positions, species, cell = crystal()
    moved = positions + np.random.default_rng(4).integers(-2, 3, size=positions.shape) @ cell
    before, after = evaluate(potential, positions, species, cell), evaluate(potential, moved, species, cell)
    close(after.site_energy, before.site_energy, EXACT, "site energies")
    close(after.forces, before.forces, EXACT, "forces")
    close(after.stress, before.stress, EXACT, "stress")


def supercell(potential: Potential) -> None:
    """n cells have n energies, the same forces and the same stress; the same lattice in other vectors too."""
    positions, species, cell = crystal()
    before = evaluate(potential, positions, species, cell)
    shifts = np.array([[i, 0, k] for i in range(2) for k in range(2)]) @ cell
    after = evaluate(potential, (positions[None] + shifts[:, None]).reshape(-1, 3), np.tile(species, 4), np.diag([2, 1, 2]) @ cell)
    close(after.energy, 4 * before.energy, 4 * EXACT, "energy")
    close(after.forces, np.tile(before.forces, (4, 1)), EXACT, "forces")
    close(after.stress, before.stress, EXACT, "stress")
    sheared = evaluate(potential, positions, species, np.array([[1, 0, 0], [1, 1, 0], [-1, 0, 1]]) @ cell)
    close(sheared.energy, before.energy, EXACT, "energy in another cell")
    close(sheared.stress, before.stress, EXACT, "stress in another cell")


def size_extensivity(potential: Potential) -> None:
    """Two clusters out of reach of each other: the sum."""
    positions, species = cluster()
    other, other_species = positions[::-1] * 1.1 + 40.0, species[::-1]
    a, b = evaluate(potential, positions, species), evaluate(potential, other, other_species)
    both = evaluate(potential, np.concatenate([positions, other]), np.concatenate([species, other_species]))
    close(both.energy, a.energy + b.energy, EXACT, "energy")
    close(both.forces, torch.cat([a.forces, b.forces]), EXACT, "forces")


def isolated_atom(potential: Potential) -> None:
    """Exact: E0 and no force. Free: its own constant, shift included, the same wherever the atom is."""
    spec = potential.spec
    e0 = np.array([-1.5, 0.7])
    with torch.no_grad():
        kept = potential.e0.clone()
        potential.e0.copy_(torch.from_numpy(e0))
    try:
        for z in range(len(spec.elements)):
            alone = evaluate(potential, np.array([[0.3, 0.1, -2.0]]), np.array([z]))
            apart = evaluate(potential, np.array([[0.0, 0, 0], [50.0, 0, 0]]), np.array([z, z]))
            close(alone.forces, np.zeros((1, 3)), 0.0, "force on an isolated atom")
            close(apart.energy, 2 * alone.energy, EXACT, "two isolated atoms")
            offset = float(alone.energy) - e0[z]
            if spec.isolated_atom == "exact":
                close(offset, 0.0, EXACT, "energy of an isolated atom less E0")
            else:
                close(offset, float(stated_offset(potential)[z]), EXACT, "energy of an isolated atom less E0")
    finally:
        with torch.no_grad():
            potential.e0.copy_(kept)


def stated_offset(potential: Potential) -> torch.Tensor:
    """What a bare atom of a free model has beside E0: its shift and what its own first-layer residual makes."""
    bare = Potential(replace(potential.spec, isolated_atom="free"), dtype=potential.dtype, backend="reference")
    bare.load_state_dict(potential.state_dict())
    species = np.arange(len(potential.spec.elements))
    apart = np.zeros((len(species), 3)) + 100.0 * species[:, None]
    return (predict(bare, graph_of(bare, apart, species), forces=False).layer_energy.sum(0) + potential.shift).detach()


def cutoff_smoothness(potential: Potential) -> None:
    """An atom that crosses the cutoff: the energy meets its value beyond as (r_c − r)^n, n ≥ 3 for C2, 2 for C1, or jumps where the spec says so."""
    cutoff, stated = potential.spec.cutoff, smoothness(potential.spec)

    def energy(r: float) -> float:
        return float(evaluate(potential, np.array([[0.0, 0, 0], [-0.6, 0.7, 0.9], [r, 0, 0]]), np.array([1, 0, 1])).energy)

    beyond = energy(cutoff + 1e-9)
    close(energy(cutoff + 0.1), energy(cutoff + 0.2), EXACT, "energy beyond the cutoff")
    if stated == "jump":
        assert abs(energy(cutoff - 1e-7) - beyond) > 1e-7, "no jump where one is stated"
        return
    inside = [abs(energy(cutoff - h) - beyond) for h in (0.08, 0.04, 0.02, 0.01, 0.005)]
    orders = [np.log2(a / b) for a, b in pairwise(inside) if b > 1e-10]  # the last one before rounding shows: nearest to the limit
    assert orders, "the third atom is not seen inside the cutoff"
    assert orders[-1] > {"C2": 2.7, "C1": 1.7}[stated], f"orders {orders} at the cutoff, stated {stated}"
    close(energy(cutoff - 1e-7), beyond, 1e-10, "energy at the cutoff")


def finite_difference_forces(potential: Potential) -> None:
    """−dE/dx along random directions of all atoms, fourth order in the step."""
    rng = np.random.default_rng(6)
    tolerance = tolerance_of(potential)
    for positions, species, *rest in (cluster(), crystal()):
        forces = evaluate(potential, positions, species, *rest).forces.numpy()
        for _ in range(3):
            d = rng.normal(size=positions.shape)
            slope = derivative(lambda t, d=d: evaluate(potential, positions + t * d, species, *rest).energy)  # noqa: B023
            close(-(forces * d).sum(), slope, tolerance * max(1.0, np.abs(forces).max()), "force along a direction")


def finite_difference_stress(potential: Potential) -> None:
    """(1/V) dE/dε for six strains, and the stress is symmetric."""
    positions, species, cell = crystal()
    stress = evaluate(potential, positions, species, cell).stress[0].numpy()
    close(stress, stress.T, EXACT, "stress transposed")
    volume = abs(np.linalg.det(cell))
    tolerance = tolerance_of(potential)
    for i, j in ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)):
        strain = np.zeros((3, 3))
        strain[i, j] += 0.5
        strain[j, i] += 0.5

        def energy(t: float, strain=strain) -> torch.Tensor:
            grow = np.eye(3) + t * strain
            return evaluate(potential, positions @ grow, species, cell @ grow).energy

        close(stress[i, j], derivative(energy) / volume, tolerance * max(1.0, np.abs(stress).max()), f"stress {i}{j}")
    assert np.abs(stress).max() > 1e-5, "no stress to see"


def tolerance_of(potential: Potential) -> float:
    """Of finite differences. A scalar under a norm gate, x σ(|x|), has a kink in its derivative at 0: the error there is of the order of the step."""
    return 4e-6 if any(layer.nonlinearity == "norm_gate" for layer in potential.spec.layers) else 2e-7


def derivative(energy, h: float = 1e-5) -> float:
    """dE/dt at 0 from four points: so near that h⁴ is below rounding for the steepest of random points."""
    e = [float(energy(k * h)) for k in (-2, -1, 1, 2)]
    return (e[0] - 8 * e[1] + 8 * e[2] - e[3]) / (12 * h)


def batch_is_single(potential: Potential) -> None:
    """A batch of a crystal, a cluster, one atom and another crystal gives what each gives alone."""
    positions, species, cell = crystal()
    other = cell @ (np.eye(3) + 0.05 * random_rotation(5))
    crystals = [graph_of(potential, positions, species, cell), graph_of(potential, positions * 1.02, species[::-1].copy(), other)]
    mixed = [crystals[0], cluster_graph(potential), graph_of(potential, np.zeros((1, 3)), np.array([1])), crystals[1]]
    for graphs, stress in ((mixed, False), (crystals, True)):
        alone = [predict(potential, g, stress=stress) for g in graphs]
        batch = predict(potential, concatenate(graphs), stress=stress)
        for name in ("energy", "site_energy", "forces", *(["stress"] if stress else [])):
            close(getattr(batch, name), torch.cat([getattr(p, name) for p in alone]), EXACT, name)


def single_precision(potential: Potential) -> None:
    """float32 weights give the float64 answer to a few digits, also beside an E0 of tens of thousands of eV."""
    spec = replace(potential.spec, energy=replace(potential.spec.energy, e0=(-38041.98, -1029.49)))
    single = Potential(spec, dtype=torch.float32, backend="reference")
    single.load_state_dict({**potential.state_dict(), "e0": torch.tensor([-38041.98, -1029.49], dtype=torch.float64)})
    for graph in (cluster_graph(potential), crystal_graph(potential)):
        double, approximate = predict(potential, graph), predict(single, graph)
        size = max(1.0, float(double.site_energy.abs().max()))
        close(approximate.site_energy - single.e0[graph.species], double.site_energy, 5e-5 * size, "site energies in float32")
        close(approximate.forces, double.forces, 2e-4 * size, "forces in float32")


def save_is_load(potential: Potential) -> None:
    """The file gives the same numbers."""
    with TemporaryDirectory() as folder:
        save_model(potential, Path(folder) / "m.equipot")
        loaded = load_model(Path(folder) / "m.equipot", backend=potential.ops.name)
    graph = crystal_graph(potential)
    before, after = predict(potential, graph, stress=True), predict(loaded, graph, stress=True)
    assert loaded.spec == potential.spec
    for name in ("energy", "site_energy", "layer_energy", "forces", "stress"):
        close(getattr(after, name), getattr(before, name), 1e-13, name)


def layers_sum_to_the_energy(potential: Potential) -> None:
    """Site energies are E0, shift and the layers' contributions (less a pair term)."""
    if potential.spec.pair.kind != "none":
        return
    graph = cluster_graph(potential)
    prediction = predict(potential, graph)
    close(prediction.layer_energy.sum(0) + potential.shift[graph.species], prediction.site_energy, EXACT, "site energies")
    close(prediction.energy, prediction.site_energy.sum().reshape(1), EXACT, "energy")


def newton(potential: Potential) -> None:
    """No net torque on a cluster; edge vectors of the two directions are opposite, and point from the centre to the neighbour."""
    positions, species = cluster()
    forces = evaluate(potential, positions, species).forces.numpy()
    close(np.cross(positions, forces).sum(0), np.zeros(3), 10 * EXACT, "net torque")
    graph = crystal_graph(potential)
    close(derivatives.edge_vectors(graph).sum(0), np.zeros(3), EXACT, "sum of all edge vectors")
    pair = graph_of(potential, np.array([[0.0, 0, 0], [1.0, 0, 0]]), np.array([0, 1]))
    close(derivatives.edge_vectors(pair)[pair.receiver == 0], np.array([[1.0, 0, 0]]), EXACT, "edge vector at atom 0")


CHECKS = (
    visible,
    rotation,
    reflection,
    hidden_features,
    translation,
    permutation,
    wrapping,
    supercell,
    size_extensivity,
    isolated_atom,
    cutoff_smoothness,
    finite_difference_forces,
    finite_difference_stress,
    batch_is_single,
    single_precision,
    save_is_load,
    layers_sum_to_the_energy,
    newton,
)
