"""`equipot check`: verdicts, exit status, JSON."""

import json
from dataclasses import replace

import pytest
import torch
import typer
from typer.testing import CliRunner

import equipot.model
from equipot.analysis.checks import CHECKS
from equipot.cli import check
from equipot.errors import UserError
from equipot.model import Potential, save_model
from equipot.presets import nequip

app = typer.Typer()
app.callback()(lambda: None)
check.register(app)
FEW = ["--only", "rotation", "--only", "forces", "--only", "dimers"]


def run(*words: str):
    return CliRunner().invoke(app, ["check", *map(str, words)], env={"COLUMNS": "100"})


def spec():
    found = nequip(n_layers=2, n_channels=4, l_max=1, cutoff=3.5)
    layers = tuple(replace(layer, normaliser=replace(layer.normaliser, value=6.0)) for layer in found.layers)
    return replace(found, layers=layers, elements=(1, 6, 8), energy=replace(found.energy, e0=-20.0, scale=5.0))


class Leaning(Potential):
    """Knows where it is."""

    def forward(self, graph, vectors):
        sites = super().forward(graph, vectors)
        return sites._replace(total=sites.total + 0.01 * graph.positions[:, 0])


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "m.equipot"
    save_model(Potential(spec(), seed=1), path, {"statistics": {"min_distance": {"H-H": 1.5}}})
    return path


def test_laws_hold_and_behaviours_only_warn(model, tmp_path):
    result = run(model, *FEW, "--json", tmp_path / "c.json")
    assert result.exit_code == 0, result.output
    assert "pass" in result.output and "warn" in result.output and "FAIL" not in result.output
    assert "all 2 laws hold" in result.output and "dimers" in result.output.splitlines()[-1] + result.output.splitlines()[-2]
    found = json.loads((tmp_path / "c.json").read_text())
    assert found["passed"] is True and found["strict"] is False
    assert [r["name"] for r in found["results"]] == ["rotation", "forces", "dimers"]
    assert set(found["results"][0]) >= {"name", "kind", "value", "threshold", "unit", "passed", "message"}
    assert found["results"][2]["passed"] is False and "H-H" in found["results"][2]["details"]["curves"]


def test_strict_fails_on_behaviours(model):
    assert run(model, *FEW, "--strict").exit_code == 1
    assert run(model, "--only", "rotation", "--strict").exit_code == 0


def test_a_broken_law_is_exit_status_1(model, monkeypatch):
    monkeypatch.setattr(equipot.model, "load_model", lambda path: Leaning(spec(), dtype=torch.float64))
    result = run(model, "--only", "rotation", "--only", "translation", "--only", "permutation")
    assert result.exit_code == 1
    assert "FAIL" in result.output and "2 of 3 laws broken: rotation, translation" in result.output


def test_json_to_standard_output_is_nothing_else(model):
    result = run(model, "--only", "rotation", "--json", "-")
    assert json.loads(result.stdout)["results"][0]["name"] == "rotation"


def test_all_checks_on_data(model):
    """Everything registered runs through the command on real frames of the packaged set, and each says what it saw."""
    result = run(model, "--data", "equipot:ethanol_300K@:3", "--json", "-")
    results = json.loads(result.stdout)["results"]
    assert {r["name"] for r in results} == set(CHECKS)
    assert all(r["message"] and r["title"] for r in results)
    assert all(r["passed"] for r in results if r["kind"] == "law"), [r for r in results if not r["passed"]]
    assert "ethanol_300K" in results[0]["message"] or "random crystal" in results[0]["message"]


@pytest.mark.parametrize("words, message", [
    (["{model}", "--json", "{folder}/nowhere/x.json"], "there is no folder"),
    (["{model}", "--only", "gravity"], "no check is named 'gravity'"),
    (["{folder}/absent.equipot"], "no such model file"),
    (["{model}", "--data", "{folder}/fe.xyz"], "fe.xyz#0.*Fe"),
])  # fmt: skip
def test_mistakes(model, tmp_path, words, message):
    (tmp_path / "fe.xyz").write_text("2\n\nFe 0 0 0\nH 0 0 1.6\n")
    result = run(*(w.format(model=model, folder=tmp_path) for w in words))
    assert isinstance(result.exception, UserError)
    with pytest.raises(UserError, match=message):
        raise result.exception
