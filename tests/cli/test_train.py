"""The commands around training, as a user types them."""

import json

import pytest
import typer
from typer.testing import CliRunner

from equipot.cli import train as commands
from equipot.errors import UserError

runner = CliRunner()


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer(pretty_exceptions_enable=False)
    commands.register(app)
    return app


def test_preset_and_train_go_together(app, tmp_path, monkeypatch):
    """What `preset` prints trains when it is told its data."""
    import ase.io
    import numpy as np
    from ase import Atoms
    from ase.calculators.emt import EMT
    from ase.calculators.singlepoint import SinglePointCalculator

    monkeypatch.chdir(tmp_path)
    rng, frames = np.random.default_rng(0), []
    for _ in range(8):
        atoms = Atoms("CuAlAl", positions=np.array([[0.0, 0, 0], [2.5, 0, 0], [0.5, 2.4, 0]]) + rng.normal(0, 0.1, (3, 3)))
        atoms.calc = EMT()
        atoms.calc = SinglePointCalculator(atoms, energy=atoms.get_potential_energy(), forces=atoms.get_forces())
        frames.append(atoms)
    ase.io.write("frames.xyz", frames)
    printed = runner.invoke(app, ["preset", "nequip"])
    assert printed.exit_code == 0
    (tmp_path / "nequip.yaml").write_text(printed.stdout)
    small = ["model.n_layers=1", "model.l_max=1", "model.n_channels=4", "train.max_updates=4", "data.reference_energies={Cu: 0, Al: 0}"]
    words = ["train", "nequip.yaml", "data.train=frames.xyz", "data.validation=2", "data.test=frames.xyz", *small]
    done = runner.invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert (tmp_path / "runs" / "nequip" / "best.equipot").is_file()
    assert "meV/Å" in done.output
    assert json.loads((tmp_path / "runs" / "nequip" / "evaluation.json").read_text())["test"]["n_structures"] == 8
    again = runner.invoke(app, words)
    assert isinstance(again.exception, UserError)
    assert "--resume" in str(again.exception)
    profiled = runner.invoke(app, [*words, "out=nowhere", "--profile"], catch_exceptions=False)
    assert profiled.exit_code == 0 and "edge convolution" in profiled.output and "perceptrons" in profiled.output
    assert not (tmp_path / "nowhere").exists()
    longer = runner.invoke(app, [*words, "train.max_updates=6", "--resume"], catch_exceptions=False)
    assert longer.exit_code == 0
    (tmp_path / "runs" / "nequip").rename(tmp_path / "moved")
    moved = runner.invoke(app, ["train", "moved", "train.max_updates=8", "--resume"], catch_exceptions=False)
    assert moved.exit_code == 0 and not (tmp_path / "runs" / "nequip").exists()
    assert (tmp_path / "moved" / "metrics.csv").read_text().splitlines()[-1].split(",")[1] == "8"
    assert runner.invoke(app, [*words, "--overwrite"], catch_exceptions=False).exit_code == 0


def test_schema_is_json(app):
    found = json.loads(runner.invoke(app, ["schema"]).stdout)
    assert found["properties"].keys() >= {"model", "data", "loss", "train", "out"}


def test_a_mistake_reaches_the_command_line_as_one(app, tmp_path):
    (tmp_path / "c.yaml").write_text("model: {preset: nequip}\ndata: {train: a.xyz}\ntrain: {batchsize: 3}\n")
    with pytest.raises(UserError, match="c.yaml, line 3: train.batchsize: not a key of train: did you mean 'batch_size'"):
        runner.invoke(app, ["train", str(tmp_path / "c.yaml")], catch_exceptions=False)
    with pytest.raises(UserError, match="no such configuration"):
        runner.invoke(app, ["train", str(tmp_path / "none.yaml")], catch_exceptions=False)
