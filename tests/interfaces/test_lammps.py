"""`pair_style equipot` against torch and the native engine, on one and two ranks; skipped without LAMMPS.

EQUIPOT_LAMMPS names a LAMMPS outside this environment.
"""

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from contract_models import CUTOFF, POINTS, potential_of
from engine_cases import compute, native
from lammps_runs import Found, System, data_file, read, results, run, setup
from lammps_systems import systems, triclinic, water

from equipot.data.neighbours import neighbour_graph
from equipot.engine.native import NativeModel
from equipot.interfaces import lammps_plugin
from equipot.model import Ensemble, Potential, predict
from equipot.model.export import native_bytes

ENERGY, FORCES = 1e-6, 1e-5  # eV per atom, eV/Å
SYSTEMS = systems()
NAMES = {name: f"system{i}" for i, name in enumerate(SYSTEMS)}
MODELS = ("nequip both parities", "botnet", "mace", "cutoffs by pair")
EQUIPOT = "pair_style equipot\npair_coeff * * m.eqn H O\n"


class Case(NamedTuple):
    """A model, and all systems by number of ranks."""

    potential: Potential
    native: NativeModel
    found: dict[int, dict[str, Found]]


@pytest.fixture(scope="module", params=MODELS)
def case(request, lammps, plugin, tmp_path_factory) -> Case:
    folder = tmp_path_factory.mktemp("run")
    potential = potential_of(POINTS[request.param], e0=(-1.5, 2.25))
    (folder / "m.eqn").write_bytes(native_bytes(potential))
    script = f"plugin load {plugin}\n"
    for name, system in SYSTEMS.items():
        (folder / f"{NAMES[name]}.data").write_text(data_file(system))
        script += setup(NAMES[name], system.boundary) + EQUIPOT + results(NAMES[name])
    found = {}
    for ranks in (1, 2):
        run(lammps, script, folder, ranks)
        found[ranks] = {name: read(NAMES[name], folder) for name in SYSTEMS}
    return Case(potential, native(potential), found)


def graph_of(found: Found, pbc: np.ndarray, potential: Potential):
    return neighbour_graph(found.positions, found.species, found.cell, pbc, CUTOFF, potential.spec.pair_cutoff)


def six(virial: np.ndarray) -> np.ndarray:
    """xx yy zz xy xz yz of the symmetric part."""
    symmetric = 0.5 * (virial + np.swapaxes(virial, -1, -2))
    return symmetric[..., [0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2]]


def worst(found: Found, potential: Potential, pbc: tuple[bool, ...] = (True, True, True)) -> tuple[float, float]:
    """Largest differences from torch: energy of an atom, force component."""
    expected = predict(potential, graph_of(found, np.array(pbc), potential))
    return (
        float(np.abs(found.energies - expected.site_energy.numpy()).max()),
        float(np.abs(found.forces - expected.forces.numpy()).max()),
    )


@pytest.mark.parametrize("ranks", [1, 2])
def test_energies_forces_and_pressure(case, ranks):
    for name, system in SYSTEMS.items():
        found = case.found[ranks][name]
        energy, forces = worst(found, case.potential, system.pbc)
        assert energy < ENERGY and forces < FORCES, name
        expected = compute(case.native, graph_of(found, system.pbc, case.potential))
        assert found.forces == pytest.approx(expected.forces, abs=1e-9), name
        assert found.virial == pytest.approx(six(expected.virial), abs=1e-7), name
        if system.pbc.all():
            stress = predict(case.potential, graph_of(found, system.pbc, case.potential), stress=True).stress[0].numpy()
            volume = abs(np.linalg.det(system.cell))
            assert found.virial / volume == pytest.approx(-six(stress), abs=1e-6), name


@pytest.mark.parametrize("ranks", [1, 2])
def test_sums_over_atoms(case, ranks):
    for name, system in SYSTEMS.items():
        found = case.found[ranks][name]
        assert found.energies.sum() == pytest.approx(found.energy, abs=1e-9), name
        assert found.virials.sum(0) == pytest.approx(found.virial, abs=1e-9), name
        assert found.virials == pytest.approx(six(compute(case.native, graph_of(found, system.pbc, case.potential)).virials), abs=1e-7), (
            name
        )


def test_ranks_are_equal(case):
    for name in SYSTEMS:
        for one, two in zip(case.found[1][name], case.found[2][name], strict=True):
            assert one == pytest.approx(two, abs=1e-10), name


def test_an_atom_without_neighbours_has_its_reference_energy(case):
    assert case.found[1]["one atom"].energy == 2.25
    assert case.found[2]["dimer out of reach"].energies.tolist() == [-1.5, 2.25]
    assert case.found[2]["dimer at the cutoff"].forces.any() == (case.potential.spec.pair_cutoff is None)


@pytest.mark.parametrize("ranks", [1, 2])
def test_an_ensemble_is_its_mean(lammps, plugin, tmp_path, ranks):
    first = potential_of(POINTS["mace"], e0=(-1.5, 2.25))
    members = [first, *(Potential(first.spec, dtype=first.dtype, seed=seed) for seed in (21, 22))]
    (tmp_path / "m.eqn").write_bytes(native_bytes(Ensemble(members), 1e-6))
    (tmp_path / "w.data").write_text(data_file(water()))
    run(lammps, f"plugin load {plugin}\n{setup('w')}{EQUIPOT}{results('w')}", tmp_path, ranks)
    found = read("w", tmp_path)
    expected = compute(NativeModel(tmp_path / "m.eqn"), graph_of(found, np.array([True] * 3), first))
    assert found.energies == pytest.approx(expected.energies, abs=1e-9)
    assert found.forces == pytest.approx(expected.forces, abs=1e-9)
    assert found.virial == pytest.approx(six(expected.virial), abs=1e-7)
    assert found.virials == pytest.approx(six(expected.virials), abs=1e-7)


def test_an_exchange_left_out_is_seen(lammps, tmp_path):
    """The same plugin without one of its exchanges: what the tests above would say of it."""
    sources, engine, headers = lammps_plugin._parts()
    broken = tmp_path / "lammps"
    shutil.copytree(sources, broken)
    text = (broken / "pair_equipot.cpp").read_text()
    text = re.sub(r"comm->(forward|reverse)_comm\(this\);", r'if (!getenv("WITHOUT_\1")) comm->\1_comm(this);', text)
    assert text.count("getenv") == 2
    (broken / "pair_equipot.cpp").write_text("#include <cstdlib>\n" + text)
    shutil.copy(engine, tmp_path)
    plugin = tmp_path / "brokenplugin.so"
    lammps_plugin._compile(lammps_plugin.command(lammps, broken, tmp_path / engine.name, headers, plugin), lammps)
    potential = potential_of(POINTS["botnet"])
    (tmp_path / "m.eqn").write_bytes(native_bytes(potential))
    (tmp_path / "a.data").write_text(data_file(triclinic()))
    for variable in ("none", "WITHOUT_forward", "WITHOUT_reverse"):
        run(lammps, f"plugin load {plugin}\n" + setup("a") + EQUIPOT + results("a"), tmp_path, 2, variable=variable)
        energy, forces = worst(read("a", tmp_path), potential)
        assert (forces < FORCES) == (variable == "none")
        assert (energy < ENERGY) == (variable != "WITHOUT_forward")


@pytest.fixture(scope="module")
def liquid(tmp_path_factory) -> tuple[Path, Potential]:
    """A folder with a two-layer model in float64, rows of 21 numbers, and water for it, as types 1, 2, 3: O, H, H."""
    folder = tmp_path_factory.mktemp("liquid")
    first, second = POINTS["different channels"].layers
    layers = (replace(first, irreps="5x0e+2x1o+2x2e"), second)
    potential = potential_of(replace(POINTS["different channels"], layers=layers), e0=(-1.5, 2.25))
    assert native(potential)._lib.eq_row_length(native(potential)._handle, 1) % 2
    (folder / "m.eqn").write_bytes(native_bytes(potential))
    system = water()
    (folder / "w.data").write_text(data_file(system, np.tile([1, 2, 3], len(system.species) // 3), 3))
    return folder, potential


def of_elements(found: Found) -> Found:
    """Types O, H, H as elements; whatever type 4 is, is none of the model's."""
    keep = found.species < 3
    kept = {field: getattr(found, field)[keep] for field in ("forces", "energies", "virials", "positions")}
    return found._replace(species=np.where(found.species[keep] == 0, 1, 0), **kept)


def assert_equal(found: Found, potential: Potential) -> None:
    energy, forces = worst(found, potential)
    assert energy < ENERGY and forces < FORCES


def test_types_of_one_element_units_and_precision(lammps, plugin, liquid):
    folder, potential = liquid
    style = "pair_style equipot {}\npair_coeff * * m.eqn O H H\n"
    script = f"plugin load {plugin}\n" + setup("w") + style.format("float64") + results("w")
    run(lammps, script, folder, 2)
    metal = of_elements(read("w", folder))
    assert_equal(metal, potential)

    run(lammps, script.replace("units metal", "units real"), folder, 2)
    real = of_elements(read("w", folder, unit=23.060549, bar=23.060549 * 68568.415))
    for a, b in zip(metal, real, strict=True):
        assert a == pytest.approx(b, rel=1e-6, abs=1e-8)

    run(lammps, script.replace("float64", "float32"), folder, 2)
    single = of_elements(read("w", folder))
    energy, forces = worst(single, potential)
    assert energy < 5e-6 and 1e-9 < forces < 1e-4


def test_beside_other_styles(lammps, plugin, liquid):
    """In hybrid/overlay with a style that does nothing, and in hybrid with atoms of another style among its own."""
    folder, potential = liquid
    system = water()
    more = System(
        np.concatenate([system.positions, system.positions[::9] + [1.4, 1.5, 1.3]]),
        np.concatenate([system.species, np.zeros(len(system.species[::9]), dtype=int)]),
        system.cell,
    )
    types = np.concatenate([np.tile([1, 2, 3], len(system.species) // 3), np.full(len(more.species) - len(system.species), 4)])
    order = np.random.default_rng(1).permutation(len(types))
    (folder / "mixed.data").write_text(data_file(more._replace(positions=more.positions[order]), types[order], 4))
    overlay = "pair_style hybrid/overlay lj/cut 3.0 equipot\npair_coeff * * equipot m.eqn O H H\npair_coeff * * lj/cut 0 1\n"
    hybrid = "pair_style hybrid equipot lj/cut 3.0\npair_coeff * * equipot m.eqn O H H NULL\npair_coeff * 4 lj/cut 0 1\n"
    script = f"plugin load {plugin}\n" + setup("w") + overlay + results("w") + setup("mixed") + hybrid + results("mixed")
    run(lammps, script, folder, 2)
    for name in ("w", "mixed"):
        found = of_elements(read(name, folder))
        assert_equal(found, potential)
        assert found.energies.sum() == pytest.approx(found.energy, abs=1e-9)


def test_buffers_of_a_second_run(lammps, plugin, tmp_path):
    """Many more ghosts after a first run, whose last exchange was of a layer with shorter rows than another has."""
    potential = potential_of(POINTS["nequip both parities"])
    (tmp_path / "m.eqn").write_bytes(native_bytes(potential))
    system = water((1, 1, 2))
    (tmp_path / "w.data").write_text(data_file(system))
    run(lammps, f"plugin load {plugin}\n" + setup("w") + EQUIPOT + "run 0\nreplicate 8 8 4\n" + results("w"), tmp_path, 2)
    found = read("w", tmp_path)
    once = found.energies[: len(system.species)]
    assert found.energies == pytest.approx(np.tile(once, 256), abs=1e-9)
    expected = predict(potential, neighbour_graph(system.positions, system.species, system.cell, system.pbc, CUTOFF))
    assert once == pytest.approx(expected.site_energy.numpy(), abs=ENERGY)


@pytest.mark.parametrize("ranks", [1, 2])
def test_moving_box_and_changing_atoms(lammps, plugin, liquid, ranks):
    """What a run of NPT, atoms taken away and atoms put in leaves is what Python computes for that state."""
    folder, potential = liquid
    dynamics = """
velocity all create 200 4 loop geom
timestep 0.0002
fix 1 all npt temp 200 200 0.02 tri 0 0 0.2
run 25
region whole block INF INF INF INF INF INF
fix 2 all evaporate 5 2 whole 8
run 25
unfix 2
create_atoms 1 single 1.5 1.6 1.2
run 5
print "before $(pe:%.17g)"
"""
    script = f"plugin load {plugin}\n" + setup("w") + "pair_style equipot\npair_coeff * * m.eqn O H H\nchange_box all triclinic\n"
    output = run(lammps, script + dynamics + results("w"), folder, ranks)
    found = of_elements(read("w", folder))
    assert len(found.forces) == len(water().species) - 10 + 1
    assert np.abs(found.cell[[1, 2, 2], [0, 0, 1]]).min() > 1e-5
    assert_equal(found, potential)
    before = float(re.search(r"^before (\S+)", output, re.MULTILINE)[1])
    assert before == pytest.approx(found.energy, abs=1e-8)


def test_free_dynamics_conserve_energy(lammps, plugin, liquid):
    folder, _ = liquid
    dynamics = """
velocity all create 300 4 loop geom
timestep 0.0001
fix 1 all nve
thermo_style custom step etotal ke
thermo_modify format float %.12g
thermo 10
run 200
"""
    output = run(lammps, f"plugin load {plugin}\n" + setup("w") + "pair_style equipot\npair_coeff * * m.eqn O H H\n" + dynamics, folder, 2)
    rows = np.array(re.findall(r"^\s+\d+ +(-?\d+\.\d+) +(\d+\.\d+) *$", output, re.MULTILINE), dtype=float)
    total, kinetic = rows.T
    assert len(rows) == 21
    assert np.ptp(kinetic) > 1.0
    assert np.ptp(total) < 1e-3 * np.ptp(kinetic)
