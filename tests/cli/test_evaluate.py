"""`equipot evaluate`: numbers, JSON as DESIGN says it, files without labels, predictions."""

import json
from dataclasses import replace

import ase.io
import numpy as np
import pytest
import typer
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from typer.testing import CliRunner

from equipot.ase import Calculator
from equipot.cli import evaluate
from equipot.errors import UserError
from equipot.model import Potential, save_model
from equipot.presets import nequip

app = typer.Typer()
app.callback()(lambda: None)
evaluate.register(app)


def run(*words):
    return CliRunner().invoke(app, ["evaluate", *map(str, words)], env={"COLUMNS": "120"})


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    found = nequip(n_layers=2, n_channels=4, l_max=1, cutoff=3.5)
    layers = tuple(replace(layer, normaliser=replace(layer.normaliser, value=6.0)) for layer in found.layers)
    spec = replace(found, layers=layers, elements=(1, 8), energy=replace(found.energy, e0=-20.0, scale=5.0))
    path = tmp_path_factory.mktemp("model") / "m.equipot"
    save_model(Potential(spec, seed=1), path)
    return path


def molecules(n: int, labels: bool = True, periodic: bool = False, kinds: tuple[str, ...] = ("cold",)) -> list[Atoms]:
    rng = np.random.default_rng(n)
    made = []
    for i in range(n):
        atoms = Atoms("OHH", np.array([[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]) + rng.normal(0, 0.05, (3, 3)))
        if periodic:
            atoms.set_cell([6.0, 6.0, 6.0])
            atoms.pbc = True
        atoms.info["config_type"] = kinds[i % len(kinds)]
        results = {"energy": -60.0 + rng.normal(), "forces": rng.normal(size=(3, 3))} | (
            {"stress": rng.normal(size=6) * 1e-3} if periodic else {}
        )
        atoms.calc = SinglePointCalculator(atoms, **results) if labels else None
        made.append(atoms)
    return made


@pytest.fixture
def water(tmp_path):
    ase.io.write(tmp_path / "water.xyz", molecules(5, kinds=("cold", "hot")), format="extxyz")
    return tmp_path / "water.xyz"


def test_json_has_the_numbers_of_the_model(model, water, tmp_path):
    """Every measure against one computed here from the calculator, structure by structure."""
    result = run(model, water, "--json", tmp_path / "e.json", "--batch-size", 2)
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "e.json").read_text())["water.xyz"]
    energy, forces = [], []
    for atoms in ase.io.read(water, ":"):
        wanted = atoms.get_potential_energy(), atoms.get_forces()
        atoms.calc = Calculator(model)
        energy.append(atoms.get_potential_energy() - wanted[0])
        forces.append(atoms.get_forces() - wanted[1])
    energy, forces = np.array(energy), np.concatenate(forces)
    expected = {
        "energy_mae": np.abs(energy).mean(), "energy_rmse": np.sqrt((energy**2).mean()),
        "energy_per_atom_mae": np.abs(energy / 3).mean(), "energy_per_atom_rmse": np.sqrt(((energy / 3) ** 2).mean()),
        "forces_mae": np.abs(forces).mean(), "forces_rmse": np.sqrt((forces**2).mean()), "n_structures": 5, "n_atoms": 15,
    }  # fmt: skip
    assert {k: found[k] for k in expected} == pytest.approx(expected, rel=1e-4)
    assert "stress_mae" not in found
    assert set(found["per_element"]) == {"H", "O"} and set(found["per_config_type"]) == {"cold", "hot"}
    assert f"{1000 * expected['forces_mae']:.0f} / {1000 * expected['forces_rmse']:.0f}" in result.output
    assert "meV/Å" in result.output and "cold" in result.output and "O" in result.output


def test_stress_where_it_is_labelled(model, tmp_path):
    ase.io.write(tmp_path / "box.xyz", molecules(2, periodic=True), format="extxyz")
    result = run(model, tmp_path / "box.xyz", "--json", "-")
    found = json.loads(result.stdout)["box.xyz"]
    assert found["stress_mae"] > 0 and found["stress_rmse"] >= found["stress_mae"]


def test_several_files_and_names(model, water, tmp_path):
    (tmp_path / "b").mkdir()
    for target in (tmp_path / "b" / "water.xyz", tmp_path / "a=b.xyz"):
        target.write_bytes(water.read_bytes())
    result = run(model, water, tmp_path / "b" / "water.xyz", f"hot={water}@:2", tmp_path / "a=b.xyz", "--json", "-")
    found = json.loads(result.stdout)
    assert list(found) == [str(water), str(tmp_path / "b" / "water.xyz"), "hot", "a=b.xyz"]
    assert found["hot"]["n_structures"] == 2


def test_brackets_in_names_are_not_markup(model, water, tmp_path):
    odd = tmp_path / "a[b].xyz"
    odd.write_bytes(water.read_bytes())
    shown = run(model, odd, f"hot[red]={water}").stdout
    assert "a[b].xyz" in shown and "hot[red]" in shown


def test_without_labels_it_predicts_and_says_so(model, tmp_path):
    ase.io.write(tmp_path / "bare.xyz", molecules(2, labels=False), format="extxyz")
    result = run(model, tmp_path / "bare.xyz", "--json", tmp_path / "e.json", "--predictions", tmp_path / "p.extxyz")
    assert result.exit_code == 0
    assert "bare.xyz: no labels, predictions only" in result.output
    assert not any(k.endswith(("_mae", "_rmse")) for k in json.loads((tmp_path / "e.json").read_text())["bare.xyz"])
    atoms = ase.io.read(tmp_path / "p.extxyz", "0")
    predicted = atoms.get_potential_energy()
    atoms.calc = Calculator(model)
    assert predicted == pytest.approx(atoms.get_potential_energy(), abs=1e-5)


def test_partial_labels_are_said(model, tmp_path):
    ase.io.write(tmp_path / "part.xyz", molecules(2) + molecules(1, labels=False), format="extxyz")
    assert "part.xyz: labelled in part (energy of 2, forces of 2 of 3 structures)" in run(model, tmp_path / "part.xyz").output


def test_other_names_and_dtype(model, water, tmp_path):
    renamed = ase.io.read(water, ":")
    for atoms in renamed:
        atoms.info["E"], atoms.arrays["F"] = atoms.get_potential_energy(), atoms.get_forces()
        atoms.calc = None
    ase.io.write(tmp_path / "renamed.xyz", renamed, format="extxyz")
    wanted = json.loads(run(model, water, "--json", "-", "--dtype", "float64").stdout)["water.xyz"]
    found = json.loads(run(model, tmp_path / "renamed.xyz", "--json", "-", "--keys", "energy=E,forces=F", "--dtype", "float64").stdout)[
        "renamed.xyz"
    ]
    assert found["forces_mae"] == pytest.approx(wanted["forces_mae"], rel=1e-6)
    assert found["energy_mae"] == pytest.approx(wanted["energy_mae"], rel=1e-6)


@pytest.mark.parametrize("words, message", [
    (["{folder}/iron.xyz"], "iron.xyz#1.*Fe"),
    (["{folder}/water.xyz", "--predictions", "{folder}/p.json"], "must end in"),
    (["{folder}/water.xyz", "--predictions", "{folder}/nowhere/p.xyz"], "there is no folder"),
    (["{folder}/water.xyz", "--dtype", "float16"], "float32 or float64"),
    (["{folder}/water.xyz", "--keys", "energie=E"], "energie"),
    (["{folder}/absent.xyz"], "no such file"),
    (["{folder}/water.xyz", "{folder}/water.xyz"], "water.xyz: is given twice"),
    (["hot={folder}/water.xyz", "hot={folder}/water.xyz"], "water.xyz: is given twice"),
])  # fmt: skip
def test_mistakes_leave_nothing_behind(model, water, tmp_path, words, message):
    ase.io.write(tmp_path / "iron.xyz", [*molecules(1), Atoms("FeH", [[0, 0, 0], [0, 0, 1.6]])], format="extxyz")
    result = run(model, *(w.format(folder=tmp_path) for w in words), "--json", tmp_path / "e.json")
    assert isinstance(result.exception, UserError)
    with pytest.raises(UserError, match=message):
        raise result.exception
    assert not (tmp_path / "e.json").exists()
