"""What `equipot info` says of a model, a run, a simulation and a data set."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
from ase import Atoms
from random_models import random_potential

from equipot.errors import UserError
from equipot.interfaces.describe import describe
from equipot.interfaces.md import run_md
from equipot.interfaces.md_settings import MDSettings
from equipot.model import Potential, save_model
from equipot.model.export import native_bytes
from equipot.presets import botnet


def test_a_model(tmp_path: Path) -> None:
    path = tmp_path / "m.equipot"
    potential = random_potential()
    save_model(potential, path, {"name": "trial", "metrics": {"valid_forces_mae": 0.02}})
    found = describe(path)
    assert json.loads(json.dumps(found)) == found
    assert (found["kind"], found["preset"], found["dtype"]) == ("model", "nequip", "float64")
    assert found["e0"] == {"H": -0.3, "C": 0.2, "O": 0.7}
    assert (found["cutoff"], found["receptive_field"]) == (4.0, 8.0)
    assert (found["body_order"], found["correlation_order"]) == (None, [None, None])
    assert found["n_parameters"] == sum(p.numel() for p in potential.parameters())
    assert found["parameters"]["layer 2"] == sum(p.numel() for p in potential.layers[1].parameters()) > 0
    assert found["provenance"]["name"] == "trial"


def test_the_body_order_of_a_body_ordered_model(tmp_path: Path) -> None:
    spec = botnet(n_layers=3, l_max=1, n_channels=2, radial_mlp=(4,))
    layers = [replace(layer, normaliser=replace(layer.normaliser, value=5.0)) for layer in spec.layers]
    layers[-1] = replace(layers[-1], readout=layers[0].readout)
    spec = replace(spec, elements=(1,), energy=replace(spec.energy, e0=0.0, scale=1.0), layers=tuple(layers))
    save_model(Potential(spec), tmp_path / "m.equipot")
    found = describe(tmp_path / "m.equipot")
    assert (found["body_order"], found["correlation_order"]) == (4, [1, 2, 3])


def test_an_exported_model(tmp_path: Path) -> None:
    path = tmp_path / "m.eqn"
    path.write_bytes(native_bytes(random_potential(), 1e-4, {"name": "trial"}))
    found = describe(path)
    assert json.loads(json.dumps(found)) == found
    assert (found["kind"], found["preset"], found["dtype"], found["n_layers"]) == ("exported", "nequip", "float64", 2)
    assert (found["elements"], found["cutoff"], found["provenance"]) == (["H", "C", "O"], 4.0, {"name": "trial"})
    assert 0.0 < max(found["tabulation"]["relative_error"]) <= 1e-4
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match="damaged"):
        describe(path)


def test_a_run_folder(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("name: trial\nmodel: {preset: nequip}\n")
    (tmp_path / "metrics.csv").write_text("epoch,updates,valid_loss,note\n0,10,2.5,\n1,20,1.5,\n")
    found = describe(tmp_path)
    assert (found["kind"], found["epochs"], found["model"], found["resumable"]) == ("run", 2, None, False)
    assert found["last"] == {"epoch": 1.0, "updates": 20.0, "valid_loss": 1.5}
    assert found["config"]["model"] == {"preset": "nequip"}
    save_model(random_potential(), tmp_path / "best.equipot")
    (tmp_path / "last.ckpt").touch()
    found = describe(tmp_path)
    assert found["resumable"]
    assert found["model"]["elements"] == ["H", "C", "O"]


def test_the_configuration_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty, with what JSON does not know, or something else; and the table of metrics is closed again."""
    config, files, read = tmp_path / "config.yaml", [], csv.DictReader
    monkeypatch.setattr(csv, "DictReader", lambda file: files.append(file) or read(file))
    (tmp_path / "metrics.csv").write_text("epoch\n0\n")
    for text, expected in (("", {}), ("# nothing\n", {}), ("name: 2026-01-01\n", {"name": "2026-01-01"})):
        config.write_text(text)
        assert describe(tmp_path)["config"] == expected
    assert len(files) == 3 and all(file.closed for file in files)
    config.write_text("- a\n- b\n")
    with pytest.raises(UserError, match="config.yaml: not a configuration"):
        describe(tmp_path)


def test_a_simulation(model_file: Path, ethanol: Atoms, tmp_path: Path) -> None:
    summary = run_md(model_file, ethanol, tmp_path / "a.xyz", MDSettings(steps=3, interval=1))
    found = describe(summary.files.restart)
    assert (found["kind"], found["step"], found["formula"], found["settings"]["steps"]) == ("simulation", 3, "C2H6O", 3)
    assert found["time_ps"] == pytest.approx(0.0015)
    assert json.loads(json.dumps(found)) == found


def test_a_data_set(model_file: Path, ethanol: Atoms, tmp_path: Path) -> None:
    summary = run_md(model_file, ethanol, tmp_path / "a.xyz", MDSettings(steps=3, interval=1))
    found = describe(summary.files.trajectory)
    assert (found["kind"], found["n_structures"], found["n_forces"], found["n_stresses"]) == ("data", 4, 4, 0)
    assert found["atoms_by_element"] == {"H": 24, "C": 8, "O": 4}


def test_what_is_none_of_them(tmp_path: Path) -> None:
    (tmp_path / "a.equipot").write_text("no")
    (tmp_path / "a.restart").write_text("no")
    (tmp_path / "a.xyz").write_text("")
    for name in ("a.equipot", "a.restart", "a.xyz", "nothing", "."):
        with pytest.raises(UserError) as caught:
            describe(tmp_path / name)
        assert "\n" not in str(caught.value)
