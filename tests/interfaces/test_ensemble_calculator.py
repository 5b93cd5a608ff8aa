"""Ensembles behind the calculator, in simulations, and on the command line."""

import json
import logging
from pathlib import Path

import ase.io
import numpy as np
import pytest
import typer
from ase import Atoms
from random_models import random_potential
from typer.testing import CliRunner

from equipot.ase import Calculator
from equipot.cli import evaluate, info
from equipot.engine.library import library
from equipot.interfaces.engines import _say_once
from equipot.interfaces.md import resume_md, run_md
from equipot.interfaces.md_log import read_log
from equipot.interfaces.md_settings import MDSettings
from equipot.model import Ensemble, save_model

app = typer.Typer()
app.callback()(lambda: None)
evaluate.register(app)
info.register(app)


@pytest.fixture(scope="module")
def ensemble_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ensemble") / "ensemble.equipot"
    save_model(Ensemble([random_potential(seed) for seed in (1, 2, 3)]), path)
    return path


def test_the_calculator_gives_mean_and_spread(ensemble_file, crystal):
    each = []
    for seed in (1, 2, 3):
        crystal.calc = Calculator(random_potential(seed), engine="torch")
        each.append((crystal.get_potential_energy(), crystal.get_forces(), crystal.get_stress()))
    crystal.calc = Calculator(ensemble_file, engine="torch")
    energies, forces, stresses = (np.stack(parts) for parts in zip(*each, strict=True))
    assert crystal.get_potential_energy() == pytest.approx(energies.mean(), abs=1e-10)
    assert crystal.get_forces() == pytest.approx(forces.mean(0), abs=1e-10)
    assert crystal.get_stress() == pytest.approx(stresses.mean(0), abs=1e-12)
    results = crystal.calc.results
    assert results["energy_std"] == pytest.approx(energies.std(ddof=1), rel=1e-8)
    assert results["forces_std"] == pytest.approx(np.sqrt(forces.var(0, ddof=1).sum(1)), rel=1e-8)
    assert results["forces_std"].min() > 0.01
    assert crystal.calc.get_property("energy_std", crystal) == results["energy_std"]


def test_one_model_has_no_spread(model_file, crystal):
    crystal.calc = Calculator(model_file, engine="torch")
    crystal.get_forces()
    assert not {"energy_std", "forces_std"} & crystal.calc.results.keys()
    assert "energy_std" not in crystal.calc.implemented_properties


def test_a_molecule_has_a_spread_too(ensemble_file, ethanol):
    ethanol.calc = Calculator(ensemble_file)
    ethanol.get_forces()
    assert ethanol.calc.results["forces_std"].shape == (9,)


def test_what_runs_an_ensemble_is_said(ensemble_file, crystal, caplog):
    _say_once.cache_clear()
    caplog.set_level(logging.WARNING, logger="equipot")
    calculator = Calculator(ensemble_file)
    assert calculator.engine.uncertainties == ("energy_std", "forces_std")
    if calculator.engine.name == "torch":
        assert "ensemble" in caplog.text


def test_dynamics_logs_the_spread(ensemble_file, model_file, ethanol, tmp_path):
    ethanol.calc = None
    settings = MDSettings(ensemble="langevin", temperature=200.0, steps=4, timestep=0.2, interval=2)
    run_md(ensemble_file, ethanol, tmp_path / "md.xyz", settings, engine="torch")
    resume_md(ensemble_file, tmp_path / "md.xyz", {"steps": 6}, engine="torch")
    log = read_log(tmp_path / "md.log.csv")
    assert log["step"].tolist() == [0, 2, 4, 6]
    last = ase.io.read(tmp_path / "md.xyz", index=-1)
    last.calc = Calculator(ensemble_file, engine="torch")
    last.get_forces()
    assert log["forces_std_eV_A"][-1] == pytest.approx(last.calc.results["forces_std"].max(), rel=1e-4)
    assert log["energy_std_meV_per_atom"][-1] == pytest.approx(1000 * last.calc.results["energy_std"] / 9, rel=1e-4)
    run_md(model_file, ethanol, tmp_path / "one.xyz", settings, engine="torch")
    assert np.isnan(read_log(tmp_path / "one.log.csv")["forces_std_eV_A"]).all()


def test_evaluate_and_info_tell_of_it(ensemble_file, crystal, tmp_path):
    from ase.calculators.singlepoint import SinglePointCalculator

    from equipot.analysis.predictions import read_predictions

    frames: list[Atoms] = []
    for shift in (0.0, 0.1):
        atoms = crystal.copy()
        atoms.positions[0] += shift
        atoms.calc = SinglePointCalculator(atoms, energy=-1.0, forces=np.zeros((8, 3)))
        frames.append(atoms)
    ase.io.write(tmp_path / "data.xyz", frames)
    words = ["evaluate", str(ensemble_file), str(tmp_path / "data.xyz"), "--json", str(tmp_path / "e.json")]
    shown = CliRunner().invoke(app, [*words, "--predictions", str(tmp_path / "p.xyz")], env={"COLUMNS": "150"})
    assert shown.exit_code == 0, shown.output
    assert "spread" in shown.output
    assert "errors are" in shown.output
    measures = json.loads((tmp_path / "e.json").read_text())["data.xyz"]
    predictions = read_predictions(tmp_path / "p.xyz")["data.xyz"][1]
    variances = np.concatenate([p["forces_std"] ** 2 for p in predictions]) / 3
    assert measures["forces_spread"] == pytest.approx(np.sqrt(variances.mean()), rel=1e-5)
    energies = [p["energy_std"] for p in predictions]
    assert measures["energy_spread"] == pytest.approx(np.sqrt(np.mean(np.square(energies))), rel=1e-5)
    shown = CliRunner().invoke(app, ["info", str(ensemble_file)], env={"COLUMNS": "150"})
    assert "3 members" in shown.output


@pytest.mark.skipif(library() is None, reason="the native engine was not built")
@pytest.mark.parametrize("structure", ["crystal", "ethanol"])
def test_the_native_engine_agrees(ensemble_file, structure, request):
    atoms = request.getfixturevalue(structure)
    found = {}
    for engine in ("torch", "native"):
        atoms.calc = Calculator(ensemble_file, engine=engine)
        atoms.get_forces()
        found[engine] = atoms.calc.results
    assert found["native"].keys() == found["torch"].keys()
    for name, value in found["torch"].items():
        assert found["native"][name] == pytest.approx(value, abs=1e-6), name
