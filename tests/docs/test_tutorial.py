"""docs/tutorial.md: its commands are the demo's, and they run, each as it stands but for less of everything."""

import contextlib
import io
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from equipot import cli
from equipot.cli import demo

PAGE = Path(__file__).resolve().parents[2] / "docs" / "tutorial.md"
QUICKER = {  # what stands in the page: what the test does; each must be there
    "n_layers: 3, l_max: 2, n_channels: 32": "n_layers: 2, l_max: 1, n_channels: 8",
    demo.FULL.budget: "max_updates: 400",
    "300K=equipot:ethanol_300K@130: 600K=equipot:ethanol_600K ": "300K=equipot:ethanol_300K@130:140 600K=equipot:ethanol_600K@:10 ",
    "--data equipot:ethanol_300K@130: ": "--data equipot:ethanol_300K@130:132 ",
    "--steps 10000": "--steps 30",
    "--steps 4000": "--steps 100",
}


def blocks(text: str) -> list[tuple[str, str, str]]:
    """(language, title, content) of the page's code blocks."""
    return re.findall(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', text, re.M | re.S)


def test_the_commands_are_the_demos(tmp_path):
    text = PAGE.read_text()
    plan = demo.Plan(Path("runs/demo"), demo.FULL, None)
    shown = [line for language, _, content in blocks(text) if language == "bash" for line in content.splitlines()]
    commands = [f"equipot evaluate {plan.model} {demo.TEST} {demo.HOT} --json {plan.errors} --predictions {plan.predictions}"]
    commands += [f"equipot check {plan.model} --data {demo.TEST.partition('=')[2]} --json {plan.checks}", f"equipot report {plan.out}"]
    assert set(commands) <= set(shown)
    settings = {"budget": demo.FULL.budget, "out": '"runs/demo"', "learn": demo.LEARN, **demo.FULL.model}
    assert [content for _, title, content in blocks(text) if title == "demo.yaml"] == [demo.CONFIG.format(name="ethanol", **settings)]
    steps = [line for line in shown if line.startswith("equipot md ")]
    assert all(f"--steps {n} " in line for n, line in zip(demo.FULL.most_steps, steps, strict=True)) and demo.START in steps[0]


def run(line: str) -> None:
    """One line of a shell; the program itself in this process, which has it loaded."""
    if not line.startswith("equipot "):
        subprocess.run(line, shell=True, check=True)
        return
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as said:
        patch.setattr(sys, "argv", shlex.split(line))
        try:
            cli.main()
        except SystemExit as end:
            assert end.code in (0, None), f"{line}: exit status {end.code}\n{said.getvalue()}"


def test_every_block_runs(tmp_path, monkeypatch):
    text = PAGE.read_text()
    for slow, quick in QUICKER.items():
        assert text.count(slow) == 1, slow
        text = text.replace(slow, quick)
    monkeypatch.chdir(tmp_path)
    for language, title, content in blocks(text):
        if title:
            Path(title).write_text(content)
        elif language == "bash":
            for line in content.splitlines():
                run(line)
        else:
            assert language == "python"
            exec(compile(content, str(PAGE), "exec"), {})
    made = ("best.equipot", "evaluation.json", "predictions.extxyz", "check.json", "md/nve.log.csv", "observables/observables.json")
    assert all((Path("runs/demo") / name).is_file() for name in made)
    page = Path("runs/demo/report.html").read_text()
    for section in ("Errors", "Physics checks", "Molecular dynamics", "Observables", "The training", "The model", "The data"):
        assert f"<h2>{section}</h2>" in page
