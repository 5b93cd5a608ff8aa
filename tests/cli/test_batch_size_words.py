"""What `equipot train --find-batch-size` says, of measurements that are made up."""

import pytest
import typer
from typer.testing import CliRunner

from equipot.cli import train as commands
from equipot.errors import UserError
from equipot.train import batch_size
from equipot.train.batch_size import Largest, Limit, Measured

CONFIG = "model: {preset: nequip}\ndata: {train: a.xyz}\nout: nowhere\n"


@pytest.fixture
def invoke(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.yaml").write_text(CONFIG)
    app = typer.Typer(pretty_exceptions_enable=False)
    commands.register(app)
    app.callback()(lambda: None)
    return lambda *words: CliRunner().invoke(app, ["train", "a.yaml", *words])


def test_a_line_for_every_measurement_and_one_for_every_key(invoke, monkeypatch):
    measured = [
        Measured(1, 300, 0.5, 10.0),
        Measured(2, 600, 1.0, 15.0),
        Measured(4, 1200, 2.0, 30.0),
        Measured(5, 1500, float("inf"), float("nan")),
    ]

    def found(config, limit, say):
        say("", Limit(limit, 0.25))
        for m in measured:
            say("train.batch_size", m)
        say("train.valid_batch_size", measured[2])
        return [Largest("train.batch_size", measured[2], measured, 9), Largest("train.valid_batch_size", measured[2], measured[2:3], 4)]

    monkeypatch.setattr(batch_size, "find_batch_sizes", found)
    done = invoke("--find-batch-size", "--memory", "2.5")
    assert done.exit_code == 0
    assert done.output.splitlines() == [
        "of 2.50 GiB, 10 % are left free; the program and its data set take 0.25",
        "train.batch_size 1: 300 edges, 0.50 GiB, 10.0 ms per update, 10.00 ms per structure",
        "train.batch_size 2: 600 edges, 1.00 GiB, 15.0 ms per update, 7.50 ms per structure",
        "train.batch_size 4: 1200 edges, 2.00 GiB, 30.0 ms per update, 7.50 ms per structure",
        "train.batch_size 5: 1500 edges, too little memory",
        "train.valid_batch_size 4: 1200 edges, 2.00 GiB, 30.0 ms per batch, 7.50 ms per structure",
        "largest train.batch_size: 4 (1200 edges, 2.00 GiB, 30.0 ms per update, 7.50 per structure); above 2 an edge costs no less time",
        "largest train.valid_batch_size: 4, which is all of them (1200 edges, 2.00 GiB, 30.0 ms per batch, 7.50 per structure)",
    ]


@pytest.mark.parametrize(
    ("words", "said"), [(("--memory", "4"), "--memory states the limit"), (("--profile", "--find-batch-size"), "give one of them")]
)
def test_words_that_do_not_go_together(invoke, words, said):
    refused = invoke(*words)
    assert isinstance(refused.exception, UserError) and said in str(refused.exception)
