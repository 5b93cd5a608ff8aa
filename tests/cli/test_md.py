"""equipot md, relax and info as a user calls them."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import typer
from ase.build import molecule
from ase.io import read
from typer.testing import CliRunner, Result

from equipot.cli import info, md
from equipot.errors import UserError
from equipot.model import Potential, save_model
from equipot.presets import nequip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model and a structure, where the commands run."""
    spec = nequip(n_layers=1, n_channels=4, l_max=1, cutoff=4.0, radial_mlp=(8,))
    layers = tuple(replace(layer, normaliser=replace(layer.normaliser, value=10.0)) for layer in spec.layers)
    spec = replace(spec, layers=layers, elements=(1, 8), energy=replace(spec.energy, e0=0.0, scale=1.0))
    save_model(Potential(spec, dtype=torch.float64, seed=1), tmp_path / "m.equipot")
    molecule("H2O").write(tmp_path / "water.xyz")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> Result:
    app = typer.Typer()
    md.register(app)
    info.register(app)
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_md_writes_its_files_and_resumes(folder: Path) -> None:
    options = ("--ensemble", "langevin", "--temperature", "200", "--timestep", "0.25", "--interval", "2", "--seed", "3")
    first = run("md", "m.equipot", "water.xyz", "--out", "a.xyz", "--steps", "6", *options)
    assert first.exit_code == 0, first.output
    assert "finished: 6 steps, 0.0015 ps" in first.output
    assert sorted(p.name for p in folder.iterdir()) == ["a.log.csv", "a.restart", "a.xyz", "m.equipot", "water.xyz"]
    second = run("md", "m.equipot", "water.xyz", "--out", "a.xyz", "--steps", "10", "--resume")
    assert second.exit_code == 0, second.output
    assert [f.info["step"] for f in read("a.xyz", ":")] == [0, 2, 4, 6, 8, 10]
    refused = run("md", "m.equipot", "water.xyz", "--out", "a.xyz", "--steps", "12", "--resume", "--temperature", "300")
    assert isinstance(refused.exception, UserError)
    assert "started with temperature 200.0" in str(refused.exception)


def test_options_reach_the_run(folder: Path) -> None:
    found = run(
        "md", "m.equipot", "water.xyz", "--out", "a.traj", "--ensemble", "nvt", "--steps", "3", "--timestep", "0.2", "--temperature", "77",
        "--tau", "33", "--seed", "5", "--interval", "3", "--restart-interval", "2", "--max-temperature", "9999", "--velocities", "draw",
        "--dtype", "float32",
    )  # fmt: skip
    assert found.exit_code == 0, found.output
    settings = json.loads(run("info", "a.restart", "--json", "-").output)["settings"]
    expected = {
        "ensemble": "nvt", "steps": 3, "timestep": 0.2, "temperature": 77.0, "tau": 33.0, "seed": 5, "interval": 3, "restart_interval": 2,
        "max_temperature": 9999.0, "velocities": "draw", "dtype": "float32",
    }  # fmt: skip
    assert {k: v for k, v in settings.items() if v is not None} == expected


def test_interrupted_by_a_signal(folder: Path) -> None:
    code = "import typer; from equipot.cli import md; app = typer.Typer(); md.register(app); app()"
    arguments = ["md", "m.equipot", "water.xyz", "--out", "a.xyz", "--steps", "1000000", "--interval", "5"]
    process = subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True, env=dict(os.environ))
    end = time.monotonic() + 60
    while not (Path("a.log.csv").is_file() and len(Path("a.log.csv").read_text().splitlines()) > 4):
        assert time.monotonic() < end
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=30)[0]
    assert process.returncode == 130
    assert "continue with --resume" in output
    step = json.loads(run("info", "a.restart", "--json", "-").output)["step"]
    assert run("md", "m.equipot", "water.xyz", "--out", "a.xyz", "--steps", str(step + 5), "--resume").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("md", "nothing.equipot", "water.xyz", "--out", "a.xyz"), "nothing.equipot: no such model file"),
        (("md", "m.equipot", "nothing.xyz", "--out", "a.xyz"), "nothing.xyz: no such file"),
        (("md", "m.equipot", "water.xyz", "--out", "a.foo"), "ends in"),
        (("md", "m.equipot", "water.xyz", "--out", "a.xyz", "--steps", "0"), "steps must be 1 or more"),
        (("md", "m.equipot", "water.xyz", "--out", "a.xyz", "--timestep", "0"), "timestep must be a positive"),
        (("md", "m.equipot", "water.xyz", "--out", "a.xyz", "--ensemble", "npt"), "molecule or a slab"),
        (("md", "m.equipot", "water.xyz", "--out", "a.xyz", "--ensemble", "nvv"), "'nvv' is not known"),
        (("md", "m.equipot", "water.xyz", "--out", "a.xyz", "--engine", "gpu"), "'gpu' is not known"),
        (("md", "m.equipot", "water.xyz", "--out", "a.xyz", "--dtype", "half"), "float32 or float64"),
        (("md", "m.equipot", "water.xyz", "--out", "a.xyz", "--resume"), "nothing to resume"),
        (("md", "m.equipot", "water.xyz", "--out", "a.xyz", "--resume", "--force"), "one of them"),
        (("relax", "m.equipot", "water.xyz", "--out", "a.xyz", "--cell"), "molecule or a slab"),
        (("relax", "m.equipot", "water.xyz", "--out", "a.xyz", "--fmax", "-1"), "fmax must be a positive"),
        (("info", "nothing"), "no such file"),
        (("info", "m.equipot", "--json", "no/where.json"), "no folder"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(folder: Path, arguments: tuple[str, ...], message: str) -> None:
    found = run(*arguments)
    assert isinstance(found.exception, UserError), found.output
    assert message in str(found.exception)
    assert "\n" not in str(found.exception)
    assert sorted(p.name for p in folder.iterdir()) == ["m.equipot", "water.xyz"]


def test_relax_tells_by_its_exit_status(folder: Path) -> None:
    short = run("relax", "m.equipot", "water.xyz", "--out", "a.xyz", "--steps", "1", "--fmax", "1e-6")
    assert short.exit_code == 1
    assert "NOT converged after 1 steps" in short.output
    assert len(read("a.xyz")) == 3
    done = run("relax", "m.equipot", "water.xyz", "--out", "a.xyz", "--fmax", "0.05", "--force")
    assert done.exit_code == 0, done.output
    assert "\nconverged after" in "\n" + done.output
    assert len(read("a.path.xyz", ":")) > 1


def test_info_shows_the_model(folder: Path) -> None:
    text = run("info", "m.equipot").output
    for word in ("nequip", "H O", "4 Å", "unbounded", "C2", "exact", "float64", "4x0e"):
        assert word in text, text
    found = json.loads(run("info", "m.equipot", "--json", "-").output)
    assert found["elements"] == ["H", "O"]
    assert run("info", "m.equipot", "--json", "m.json").exit_code == 0
    assert json.loads(Path("m.json").read_text()) == found
    assert "structures, atoms" in run("info", "water.xyz").output
