"""Odd structures, sums over atoms, threads, and the staged computation of a domain-decomposed program."""

import os
import subprocess
import sys

import numpy as np
import pytest
from contract_models import CUTOFF, ELEMENTS, FREE, NO_CELL, PERIODIC, POINTS, crystal, potential_of
from engine_cases import compute, deviation, native, neighbours_of

from equipot.data.neighbours import neighbour_graph
from equipot.errors import UserError
from equipot.model.export import native_bytes

POTENTIALS = {
    name: potential_of(POINTS[name]) for name in ("nequip both parities", "botnet", "mace", "learned density", "zbl to the cutoff")
}
MODELS = {name: native(potential) for name, potential in POTENTIALS.items()}
every = pytest.mark.parametrize("name", POTENTIALS)


def graph_of(positions, species, cell=NO_CELL, pbc=FREE):
    return neighbour_graph(positions, species, cell, pbc, CUTOFF)


def large():
    """Positions, species and cell of 96 atoms in a triclinic box."""
    positions, species, cell = crystal()
    shifts = np.stack(np.meshgrid(range(4), range(3), range(2), indexing="ij"), axis=-1).reshape(-1, 3)
    moved = (positions[None] + (shifts @ cell)[:, None]).reshape(-1, 3)
    noise = np.random.default_rng(2).normal(size=moved.shape)
    return moved + 0.05 * noise, np.tile(species, len(shifts)), cell * [[4], [3], [2]]


@every
def test_odd_structures(name):
    model, potential = MODELS[name], POTENTIALS[name]
    cases = {
        "one atom": graph_of(np.zeros((1, 3)), [1]),
        "out of reach": graph_of([[0, 0, 0], [0, 0, 9.0]], [0, 1]),
        "just inside": graph_of([[0, 0, 0], [0, 0, CUTOFF - 1e-9]], [0, 1]),
        "at the cutoff": graph_of([[0, 0, 0], [0, 0, CUTOFF]], [0, 1]),
        "along the pole": graph_of([[0, 0, 0], [0, 1.1, 0], [0, -1.2, 0]], [0, 1, 0]),
        "slab": graph_of(*crystal(), [True, True, False]),
        "wire": graph_of(*crystal(), [False, False, True]),
        "small cell": graph_of(np.array([[0.1, 0.2, 0.3]]), [1], np.array([[2.0, 0, 0], [0.7, 1.9, 0], [0.2, -0.5, 2.2]]), PERIODIC),
        "large": graph_of(*large(), PERIODIC),
    }
    for case, graph in cases.items():
        found = deviation(model, potential, graph)
        assert found.energy < 1e-7, case
        assert found.forces < 1e-6, case


@every
def test_an_atom_alone_has_exactly_its_reference_energy(name):
    for dtype in ("float32", "float64"):
        model = native(POTENTIALS[name], dtype)
        # as one of many, so that it meets every place in a block
        found = compute(model, graph_of(20.0 * np.arange(41)[:, None] * [1.0, 0, 0], np.arange(41) % 2))
        assert not found.energies.any()
        assert not found.forces.any()
        assert not found.virials.any()


def test_no_atoms():
    found = compute(MODELS["botnet"], graph_of(np.zeros((0, 3)), []))
    assert found.energy == 0 and found.forces.shape == (0, 3)


@every
def test_sums_over_atoms(name):
    found = compute(MODELS[name], graph_of(*large(), PERIODIC))
    assert found.energies.sum() == pytest.approx(found.energy, abs=1e-9)
    assert found.virials.sum(0) == pytest.approx(found.virial, abs=1e-9)
    assert found.forces.sum(0) == pytest.approx(np.zeros(3), abs=1e-9)
    assert found.virial == pytest.approx(found.virial.T, abs=1e-6)


def test_edges_beyond_the_cutoff_do_no_harm():
    positions, species, cell = large()
    model = MODELS["botnet"]
    exact = compute(model, graph_of(positions, species, cell, PERIODIC))
    wide = compute(model, neighbour_graph(positions, species, cell, PERIODIC, CUTOFF + 1.0))
    assert np.array_equal(exact.forces, wide.forces) and np.array_equal(exact.energies, wide.energies)


@every
def test_the_order_of_atoms_does_not_matter(name):
    """Nor the image an atom is given in: the engine computes them in an order of its own, and gives back each its own."""
    positions, species, cell = large()
    model, rng = MODELS[name], np.random.default_rng(5)
    expected = compute(model, graph_of(positions, species, cell, PERIODIC))
    for order in (np.arange(len(species))[::-1], rng.permutation(len(species)), rng.permutation(len(species))):
        moved = positions[order] + rng.integers(-2, 3, size=(len(order), 3)) @ cell
        found = compute(model, graph_of(moved, np.asarray(species)[order], cell, PERIODIC))
        assert found.energies == pytest.approx(expected.energies[order], abs=1e-10)
        assert found.forces == pytest.approx(expected.forces[order], abs=1e-10)
        assert found.virials == pytest.approx(expected.virials[order], abs=1e-9)
        assert found.virial == pytest.approx(expected.virial, abs=1e-8)


def test_the_order_of_a_cluster_without_a_cell_does_not_matter():
    positions, species, _ = large()
    order = np.random.default_rng(6).permutation(len(species))
    expected = compute(MODELS["botnet"], graph_of(positions, species))
    found = compute(MODELS["botnet"], graph_of(positions[order] + [100.0, -50.0, 3.0], np.asarray(species)[order]))
    assert found.forces == pytest.approx(expected.forces[order], abs=1e-10)


def test_memory_is_counted_and_kept():
    model = native(POTENTIALS["nequip both parities"])
    assert model.n_bytes < 1_000_000
    compute(model, graph_of(*large(), PERIODIC))
    held = model.n_bytes
    assert held > 96 * 1000
    compute(model, graph_of(np.zeros((1, 3)), [1]))
    assert model.n_bytes == held


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@every
def test_results_do_not_depend_on_the_number_of_threads(name, dtype):
    model, graph = native(POTENTIALS[name], dtype), graph_of(*large(), PERIODIC)
    one = compute(model, graph)
    for n in (2, 3, 7):
        model.set_threads(n)
        for a, b in zip(one, compute(model, graph), strict=True):
            assert np.array_equal(a, b)


@pytest.mark.parametrize("instruction_set", ["avx2", "baseline"])
def test_other_instruction_sets_agree(tmp_path, instruction_set):
    """Their kernels have other vectors, and the baseline's are generic above l = 1."""
    graph = graph_of(*large(), PERIODIC)
    arrays = (graph.species.numpy(), graph.positions.numpy(), graph.cell[0].numpy(), *neighbours_of(graph))
    np.savez(tmp_path / "g.npz", *arrays)
    expected = {}
    for i, (name, potential) in enumerate(POTENTIALS.items()):
        (tmp_path / f"{i}.eqn").write_bytes(native_bytes(potential, 1e-4))
        for dtype in ("float32", "float64"):
            expected[i, dtype] = compute(native(potential, dtype, 1e-4), graph).forces, name
    code = """
import sys
import numpy as np
from equipot.engine.library import library
from equipot.engine.native import NativeModel, Neighbours
types, positions, cell, *edges = np.load("g.npz").values()
for i in range(int(sys.argv[1])):
    for dtype in ("float32", "float64"):
        np.save(f"{i}.{dtype}.npy", NativeModel(f"{i}.eqn", dtype).compute(types, positions, cell, Neighbours(*edges)).forces)
print(library().eq_instruction_set().decode())
"""
    command = [sys.executable, "-c", code, str(len(POTENTIALS))]
    environment = {**os.environ, "EQUIPOT_INSTRUCTION_SET": instruction_set}
    done = subprocess.run(command, check=True, timeout=120, cwd=tmp_path, env=environment, capture_output=True, text=True)
    if done.stdout.strip() != instruction_set:
        pytest.skip(f"this machine has no {instruction_set}")
    for (i, dtype), (forces, name) in expected.items():
        tolerance = 1e-10 if dtype == "float64" else 5e-5
        assert np.load(tmp_path / f"{i}.{dtype}.npy") == pytest.approx(forces, abs=tolerance), (name, dtype)


def test_a_forked_child_computes_on_threads_of_its_own(tmp_path):
    """In a process of its own: pytest's has torch's threads, too."""
    (tmp_path / "m.eqn").write_bytes(native_bytes(POTENTIALS["botnet"]))
    graph = graph_of(*large(), PERIODIC)
    arrays = (graph.species.numpy(), graph.positions.numpy(), graph.cell[0].numpy(), *neighbours_of(graph))
    np.savez(tmp_path / "g.npz", *arrays)
    code = """
import os, sys
import numpy as np
from equipot.engine.native import NativeModel, Neighbours
types, positions, cell, *edges = np.load("g.npz").values()
model = NativeModel("m.eqn", n_threads=2)
def forces():
    return model.compute(types, positions, cell, Neighbours(*edges)).forces
before = forces()
child = os.fork()
if child == 0:
    os._exit(0 if np.array_equal(forces(), before) else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) or "torch" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60, cwd=tmp_path).returncode == 0


class Domain:
    """The atoms of one process: its own, then ghosts, each of them another atom's image."""

    def __init__(self, model, graph, mine):
        self.model, self.mine = model, mine
        local = {int(atom): i for i, atom in enumerate(mine)}
        ghosts: dict[tuple, int] = {}
        sender, vectors, start = [], [], [0]
        positions, cell = graph.positions.numpy(), graph.cell[0].numpy()
        for atom in mine:
            for e in range(graph.receiver_start[atom], graph.receiver_start[atom + 1]):
                j, shift = int(graph.sender[e]), tuple(graph.shift[e].tolist())
                inside = j in local and not any(shift)
                sender.append(local[j] if inside else len(mine) + ghosts.setdefault((j, shift), len(ghosts)))
                vectors.append(positions[j] - positions[atom] + np.array(shift) @ cell)
            start.append(len(sender))
        self.owners = np.array([j for j, _ in ghosts], dtype=int)
        types = graph.species.numpy()[[*mine, *self.owners]]
        model.begin(len(mine), types, start, sender, np.reshape(vectors, (-1, 3)))


def staged(domains, n_atoms):
    """Energies, forces, virial and its parts, with rows and their gradients exchanged between domains."""
    n_layers = domains[0].model.n_layers
    for t in range(n_layers):
        if t:
            rows = np.zeros((n_atoms, domains[0].model.rows(t).shape[1]))
            for d in domains:
                rows[d.mine] = d.model.rows(t)[: len(d.mine)]
            for d in domains:
                d.model.rows(t)[len(d.mine) :] = rows[d.owners]
        for d in domains:
            d.model.forward_layer(t)
    energies = np.zeros(n_atoms)
    for d in domains:
        energies[d.mine] = d.model.energies()
    for t in reversed(range(n_layers)):
        for d in domains:
            d.model.backward_layer(t)
        if t:
            sums = np.zeros((n_atoms, domains[0].model.row_gradients(t).shape[1]))
            for d in domains:
                np.add.at(sums, np.concatenate([d.mine, d.owners]), d.model.row_gradients(t))
            for d in domains:
                d.model.row_gradients(t)[: len(d.mine)] = sums[d.mine]
    forces, virial, virials = np.zeros((n_atoms, 3)), np.zeros((3, 3)), np.zeros((n_atoms, 3, 3))
    for d in domains:
        f, w, parts = d.model.derivatives()
        np.add.at(forces, np.concatenate([d.mine, d.owners]), f)
        virial += w
        virials[d.mine] = parts
    return energies, forces, virial, virials


@every
@pytest.mark.parametrize("axis", [0, 2])
def test_two_domains_are_one(name, axis):
    """Half the atoms each, one of them with none in the last case; ghosts are images of atoms of both."""
    positions, species, cell = large()
    graph = graph_of(positions, species, cell, PERIODIC)
    expected = compute(MODELS[name], graph)
    fraction = (positions @ np.linalg.inv(cell))[:, axis]
    for at in (0.5, -9.0):
        halves = [np.flatnonzero(fraction < at), np.flatnonzero(fraction >= at)]
        energies, forces, virial, virials = staged([Domain(native(POTENTIALS[name]), graph, half) for half in halves], len(positions))
        assert energies == pytest.approx(expected.energies, abs=1e-10)
        assert forces == pytest.approx(expected.forces, abs=1e-10)
        assert virial == pytest.approx(expected.virial, abs=1e-8)
        assert virials == pytest.approx(expected.virials, abs=1e-9)


def test_calls_out_of_order_are_refused():
    model = native(POTENTIALS["botnet"])
    one = (1, [0], [0, 0], [], np.zeros((0, 3)))
    with pytest.raises(UserError, match="after eq_begin"):
        model.forward_layer(0)
    model.begin(*one)
    with pytest.raises(UserError, match="in order"):
        model.forward_layer(1)
    with pytest.raises(UserError, match="after the last forward"):
        model.energies()
    with pytest.raises(ValueError, match="no rows"):
        model.rows(1)
    for t in range(model.n_layers):
        model.forward_layer(t)
    with pytest.raises(UserError, match="last to the first"):
        model.backward_layer(0)
    with pytest.raises(UserError, match="after the last backward"):
        model.derivatives()
    with pytest.raises(UserError, match="no such layer"):
        model.backward_layer(99)


@pytest.mark.parametrize(
    "wrong",
    [
        {"types": [2, 0]},
        {"types": [-1, 0]},
        {"start": [0, 2, 1]},
        {"start": [1, 1, 1]},
        {"sender": [2]},
        {"sender": [-1]},
        {"vectors": [[np.nan, 0, 0]]},
        {"vectors": [[0, np.inf, 0]]},
    ],
    ids=str,
)
def test_bad_arrays_are_refused(wrong):
    model = native(POTENTIALS["botnet"])
    good = {"types": [0, 1], "start": [0, 1, 1], "sender": [1], "vectors": [[0, 0, 1.0]]}
    model.begin(2, **good)
    with pytest.raises(UserError, match="out of range"):
        model.begin(2, **(good | wrong))
    with pytest.raises(UserError, match="after eq_begin"):
        model.forward_layer(0)


def test_what_a_model_says_of_itself():
    model = MODELS["mace"]
    assert model.elements == ELEMENTS and model.cutoff == CUTOFF and model.n_layers == 2
    assert model.header["spec"]["cutoff"] == CUTOFF and model.dtype == "float64"
