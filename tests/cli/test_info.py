"""`equipot info`: what it prints and writes. What is found out is tested in tests/interfaces."""

import json

import pytest
import typer
from typer.testing import CliRunner

from equipot.cli import info
from equipot.errors import UserError

app = typer.Typer()
app.callback()(lambda: None)
info.register(app)


def run(*words):
    return CliRunner().invoke(app, ["info", *map(str, words)])


@pytest.mark.parametrize("text", ["", "# nothing\n", "train:\n", "train: [a]\n"])
def test_a_run_whose_configuration_says_little(tmp_path, text):
    (tmp_path / "config.yaml").write_text(text)
    result = run(tmp_path)
    assert result.exit_code == 0, result.exception
    assert "no checkpoint yet" in result.output and "no best model yet" in result.output


def test_facts_as_json(tmp_path):
    """The same on standard output and in a file, whose folder is looked for first."""
    (tmp_path / "metrics.csv").write_text("epoch,valid_loss\n0,nan\n")
    facts = json.loads(run(tmp_path, "--json", "-").stdout)
    assert facts["kind"] == "run" and facts["last"] == {"epoch": 0.0, "valid_loss": None}
    assert "last epoch" in " ".join(run(tmp_path, "--json", tmp_path / "facts.json").output.split())  # however the title is wrapped
    assert json.loads((tmp_path / "facts.json").read_text()) == facts
    result = run("absent", "--json", tmp_path / "no" / "facts.json")
    assert isinstance(result.exception, UserError) and "there is no folder" in str(result.exception)
