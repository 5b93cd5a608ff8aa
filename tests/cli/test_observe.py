"""`equipot observe` as a user calls it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from ase import Atoms
from ase.build import bulk
from ase.io import write
from typer.testing import CliRunner, Result

from equipot.analysis.observables import crystal
from equipot.cli import observe
from equipot.cli.observe import default_folder, parse_bonds, parse_elements, parse_fit, with_error
from equipot.errors import UserError
from equipot.model import Potential, save_model
from equipot.presets import nequip

app = typer.Typer()
app.callback()(lambda: None)
observe.register(app)


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["observe", *map(str, words)], env={"COLUMNS": "100"})


def frames(n: int = 200, momenta: bool = True, interval: float | None = 0.002) -> list[Atoms]:
    rng = np.random.default_rng(0)
    cell = bulk("Cu", cubic=True) * (2, 2, 2)
    found = []
    for i in range(n):
        atoms = cell.copy()
        atoms.positions += 0.1 * rng.standard_normal((32, 3))
        if momenta:
            atoms.set_momenta(rng.standard_normal((32, 3)))
        if interval:
            atoms.info["time_ps"] = i * interval
        found.append(atoms)
    return found


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write(tmp_path / "run.xyz", frames())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_values_on_the_screen_and_a_folder_of_results(folder: Path) -> None:
    found = run("run.xyz", "--skip", "0.1", "--json", "all.json", "--elements", "cu")
    assert found.exit_code == 0, found.output
    assert "180 frames of Cu32" in found.output and "n(Cu-Cu)" in found.output and "D(Cu)" in found.output
    assert "results in run.observables: rdf, coordination, angles, msd, vacf, vdos, temperature" in " ".join(found.output.split())
    assert {"rdf.png", "rdf.csv", "observables.json"} <= {p.name for p in (folder / "run.observables").iterdir()}
    assert json.loads((folder / "all.json").read_text())["trajectory"]["frames"] == 180
    again = run("run.xyz", "--only", "rdf", "--out", "run.observables")
    assert again.exit_code == 0 and not (folder / "run.observables" / "msd.csv").exists()


def test_json_on_standard_output_is_all_there_is(folder: Path) -> None:
    found = CliRunner().invoke(app, ["observe", "run.xyz", "--only", "rdf", "--json", "-", "--out", "o"])
    assert json.loads(found.stdout)["observables"].keys() == {"rdf"}


def test_beside_a_reference(folder: Path) -> None:
    write("reference.xyz", frames(80, momenta=False, interval=None))
    found = run("run.xyz", "--reference", "reference.xyz", "--out", "o")
    assert found.exit_code == 0, found.output
    assert "Overlap with the reference" in found.output
    words = " ".join(found.output.split())
    assert "no msd of the reference: the frames do not say their time" in words
    assert "no vdos of the reference: the trajectory holds no velocities" in words


def test_what_is_missing_is_said(folder: Path) -> None:
    write("still.xyz", frames(20, momenta=False, interval=None))
    found = run("still.xyz", "--out", "o")
    words = " ".join(found.output.split())
    assert (
        found.exit_code == 0
        and "no vdos: the trajectory holds no velocities" in words
        and "no msd: the frames do not say their time" in words
    )
    alone = run("still.xyz", "--only", "vdos", "--out", "o2")
    assert isinstance(alone.exception, UserError) and "no velocities" in str(alone.exception)
    assert not (folder / "o2").exists()


def test_a_crystal_of_a_model(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A random model: what comes out is whatever it is, but it comes, or is refused with a reason."""
    monkeypatch.setattr(crystal, "STEPS", 20)
    spec = nequip(n_layers=1, n_channels=4, l_max=1, cutoff=3.5, radial_mlp=(8,))
    layers = tuple(replace(layer, normaliser=replace(layer.normaliser, value=10.0)) for layer in spec.layers)
    spec = replace(spec, layers=layers, elements=(29,), energy=replace(spec.energy, e0=0.0, scale=1.0))
    save_model(Potential(spec, dtype=torch.float64, seed=1), "m.equipot")
    write("cu.xyz", bulk("Cu", cubic=True))
    found = run("cu.xyz", "--model", "m.equipot", "--out", "o", "--supercell", "5", "--engine", "torch")
    assert found.exit_code == 0, found.output
    content = json.loads(Path("o/observables.json").read_text())
    assert {"eos", "elastic", "phonons"} <= content["observables"].keys() | content["missing"].keys()
    refused = run("run.xyz", "--crystal", "cu.xyz", "--out", "o3")
    assert isinstance(refused.exception, UserError) and "--crystal needs a model" in str(refused.exception)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--skip", "-1"), "--skip must be"),
        (("--skip", "2.5"), "--skip must be"),
        (("--dt", "0"), "--dt must be"),
        (("--blocks", "1"), "blocks must be 2"),
        (("--bond", "O=1"), "as O-H=1.25"),
        (("--bond", "Qq-H=1"), "not an element"),
        (("--fit", "1-5"), "as 1:5"),
        (("--fit", "5:1"), "from a lag to a longer one"),
        (("--r-max", "0.05"), "fewer than four bins"),
        (("--elements", "Li"), "no Li in it"),
        (("--only", "gr"), "no observable 'gr'"),
        (("--out", "run.xyz"), "is a file"),
        (("--out", "."), "other things in it"),
        (("--out", "no/where"), "no folder"),
        (("--json", "no/file.json"), "no folder"),
        (("--reference", "nowhere.xyz"), "no such file"),
    ],
)
def test_mistakes_are_told_in_one_line(folder: Path, words: tuple[str, ...], message: str) -> None:
    found = run("run.xyz", *words)
    assert isinstance(found.exception, UserError) and message in str(found.exception) and "\n" not in str(found.exception)
    assert not (folder / "run.observables").exists()


def test_where_results_go(folder: Path) -> None:
    for name in ("a.1.xyz", "b.extxyz.gz"):
        (folder / name).touch()
    assert default_folder("a.1.xyz@3:") == Path("a.1.observables")
    assert default_folder(str(folder / "b.extxyz.gz")) == folder / "b.observables"
    assert default_folder("equipot:ethanol_300K").parent == Path()


def test_options_as_text() -> None:
    assert parse_bonds(["O-H=1.25"]) == {("H", "O"): 1.25}
    assert parse_fit("1:5") == (1.0, 5.0) and parse_fit("") is None
    assert parse_elements("Li, S") == ("Li", "S") and parse_elements("") == ()


def test_a_value_and_its_error() -> None:
    assert with_error(4.1234, 0.0149) == "4.123 ± 0.015"
    assert with_error(1.2345e-5, 1.2e-6) == "(1.23 ± 0.12)e-05"
    assert with_error(12345.6, 230.0) == "12346 ± 230"
    assert with_error(0.75, 1e-17) == "0.75"
    assert with_error(0.5, None) == "0.5" and with_error(None, None) == ""
