"""`equipot demo --quick`: the whole loop, and that a stopped or finished one goes on where it was."""

import json

import pytest
import typer
from typer.testing import CliRunner

from equipot.cli import demo
from equipot.errors import UserError

app = typer.Typer()
app.callback()(lambda: None)
demo.register(app)


def run(*words):
    return CliRunner().invoke(app, ["demo", *map(str, words)], env={"COLUMNS": "200"})


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A quick demo that trained for a few hundred updates."""
    folder = tmp_path_factory.mktemp("demo") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            demo,
            "QUICK",
            demo.Scale(
                {"n_layers": 2, "l_max": 1, "n_channels": 8}, "max_updates: 1000", demo.SHORT_TEST, demo.SHORT_HOT, (100, 100), (1.0, 1.0)
            ),
        )
        yield folder, run("--quick", "--out", folder), patch


def test_the_whole_loop(finished):
    folder, result, _ = finished
    assert result.exit_code == 0, (result.output, result.exception)
    for name in (
        "best.equipot",
        "metrics.csv",
        "evaluation.json",
        "predictions.extxyz",
        "check.json",
        "md/langevin.extxyz",
        "md/nve.log.csv",
        "report.html",
    ):
        assert (folder / name).stat().st_size > 0
    assert set(json.loads((folder / "evaluation.json").read_text())) == {"300K", "600K"}
    for title in ("train", "evaluate", "check", "dynamics at 300 K", "energy conservation", "report"):
        assert f"of 6: {title}" in result.output
    assert "force MAE, 600K" in result.output and str(folder / "report.html") in result.output


def test_every_command_shown_is_one(finished):
    """What stands behind the $ is a command line that the program accepts."""
    from equipot.cli import build

    _, result, _ = finished
    commands = [line.removeprefix("$ equipot ").split() for line in result.output.splitlines() if line.startswith("$ ")]
    assert [c[0] for c in commands] == ["train", "evaluate", "check", "md", "md", "report"]
    program = typer.main.get_command(build())
    for words in commands:
        program.commands[words[0]].make_context(words[0], words[1:])


def test_a_second_call_repeats_nothing(finished):
    folder, _, _ = finished
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file() and p.name != "demo.yaml"}
    result = run("--quick", "--out", folder)
    assert result.exit_code == 0 and result.output.count("done before") == 6
    assert before == {p: p.stat().st_mtime_ns for p in before}


def test_only_what_is_missing_is_done_again(finished):
    folder, _, _ = finished
    model = (folder / "best.equipot").stat().st_mtime_ns
    (folder / "predictions.extxyz").unlink()
    result = run("--quick", "--out", folder)
    assert result.output.count("done before") == 4 and (folder / "predictions.extxyz").is_file()
    assert (folder / "best.equipot").stat().st_mtime_ns == model


def test_folders_of_others_are_left_alone(finished, tmp_path):
    folder, _, _ = finished
    result = run("--out", folder)
    assert isinstance(result.exception, UserError) and "holds another demo" in str(result.exception)
    (tmp_path / "mine.txt").write_text("keep")
    assert isinstance(run("--quick", "--force", "--out", tmp_path).exception, UserError)
    assert (tmp_path / "mine.txt").read_text() == "keep"
