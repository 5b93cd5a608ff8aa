"""`equipot demo`: the whole loop on the packaged data, each step with the command that does the same."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from equipot.errors import UserError

LEARN, TEST, HOT = "equipot:ethanol_300K@:130", "equipot:ethanol_300K@130:", "equipot:ethanol_600K"
SHORT_TEST, SHORT_HOT = "equipot:ethanol_300K@130:150", "equipot:ethanol_600K@:20"
CONFIG = """\
# 100 ethanol structures at 300 K (PBE/def2-SVP) to train on, 30 to choose the best weights by.
name: {name}
model: {{preset: nequip, cutoff: 4.5, n_layers: {n_layers}, l_max: {l_max}, n_channels: {n_channels}}}
data:
  train: {learn}
  validation: 30
  n_train: 100
  isolated_atoms: equipot:ethanol_isolated_atoms
loss: {{energy: 1.0, forces: 100.0}}
train: {{max_time: "{max_time}", max_epochs: 100000, batch_size: 5, learning_rate: 0.01}}
out: {out}
"""
TIMESTEP, TEMPERATURE = 0.5, 300.0  # fs, K
SPEED_STEPS = 20


@dataclass(frozen=True)
class Scale:
    """How much the demo does."""

    model: dict[str, int]
    max_time: str
    test: str
    hot: str
    most_steps: tuple[int, int]  # Langevin, NVE
    seconds: tuple[float, float]  # that they may take


FULL = Scale({"n_layers": 3, "l_max": 2, "n_channels": 32}, "00:07:00", TEST, HOT, (10_000, 4_000), (75.0, 35.0))
QUICK = Scale({"n_layers": 2, "l_max": 1, "n_channels": 8}, "00:00:15", SHORT_TEST, SHORT_HOT, (200, 100), (10.0, 10.0))


@dataclass(frozen=True)
class Step:
    """One part of the loop: what it does, the command that does the same, whether it is done, and how to do it."""

    title: str
    what: str
    command: str
    done: Callable[[], bool]
    run: Callable[[], None]


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("demo")(demo)


def demo(
    out: Annotated[Path, typer.Option(help="Folder of the run.")] = Path("runs/demo"),
    quick: Annotated[bool, typer.Option("--quick", help="In about a minute, with a model that is good for nothing.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Do everything anew.")] = False,
) -> None:
    """The whole loop on packaged data: train, evaluate, check, molecular dynamics, report. Stopped, it goes on where it was."""
    from rich.console import Console

    start = time.monotonic()
    console = Console(highlight=False)
    if force:
        _clear(out)
    plan = Plan(out, QUICK if quick else FULL, console)
    plan.prepare(quick)
    steps = plan.steps()
    for number, step in enumerate(steps, start=1):
        console.rule(f"[bold]{number} of {len(steps)}: {step.title}[/]", align="left")
        console.print(step.what)
        console.print(f"[bold]$ {step.command}[/]\n", soft_wrap=True)
        began = time.monotonic()
        if step.done():
            console.print("[dim]done before; --force does it anew[/]\n")
            continue
        step.run()
        console.print(f"[dim]{time.monotonic() - began:.0f} s[/]\n")
    plan.summary(time.monotonic() - start)


class Plan:
    """The steps of a demo in one folder."""

    def __init__(self, out: Path, scale: Scale, console: Any) -> None:
        self.out, self.scale, self.console = out, scale, console
        self.config, self.model = out / "demo.yaml", out / "best.equipot"
        self.langevin, self.nve = out / "md" / "langevin.extxyz", out / "md" / "nve.extxyz"

    def prepare(self, quick: bool) -> None:
        """The configuration in the folder; raises UserError where it is another demo's."""
        name = "ethanol-quick" if quick else "ethanol"
        text = CONFIG.format(name=name, learn=LEARN, max_time=self.scale.max_time, out=json.dumps(str(self.out)), **self.scale.model)
        if self.config.is_file() and self.config.read_text(encoding="utf-8") != text:
            raise UserError(f"{self.out}: holds another demo (quick or of another version): --force replaces it, or give another --out")
        self.out.mkdir(parents=True, exist_ok=True)
        self.config.write_text(text, encoding="utf-8")

    def steps(self) -> list[Step]:
        """All of them, in order."""
        o, m, s = self.out, self.model, self.scale
        report = o / "report.html"
        return [
            Step(
                "train",
                f"A NequIP potential learns from 100 structures of ethanol at 300 K; 30 more tell which weights are best. {self.config} says how.",
                f"equipot train {self.config}",
                (o / "trained").is_file,
                self.train,
            ),
            Step(
                "evaluate",
                "Errors on structures it has not seen: the rest at 300 K, and at 600 K, which is hotter than anything it learned from.",
                f"equipot evaluate {m} {s.test} {s.hot} --json {o / 'evaluation.json'} --predictions {o / 'predictions.extxyz'}",
                lambda: _newer(m, o / "evaluation.json", o / "predictions.extxyz"),
                self.evaluate,
            ),
            Step(
                "check",
                "Laws that hold for any good potential (symmetry, derivatives, locality), and behaviours to be aware of.",
                f"equipot check {m} --data {s.test} --json {o / 'check.json'}",
                lambda: _newer(m, o / "check.json"),
                self.check,
            ),
            Step(
                "dynamics at 300 K",
                "Langevin molecular dynamics, started from a structure of the test set.",
                self.md_command("langevin", self.langevin, f"{s.test.split('@')[0]}@-1"),
                lambda: self.md_done(self.langevin),
                lambda: self.md("langevin", self.langevin, f"{s.test.split('@')[0]}@-1", 0),
            ),
            Step(
                "energy conservation",
                "NVE dynamics from where that ended, in double precision: the total energy must stay.",
                self.md_command("nve", self.nve, str(self.langevin)),
                lambda: self.md_done(self.nve),
                lambda: self.md("nve", self.nve, str(self.langevin), 1),
            ),
            Step(
                "report",
                "Everything on one page.",
                f"equipot report {o}",
                lambda: _newer(m, report) and _newer(self.nve, report) and _newer(o / "check.json", report),
                self.report,
            ),
        ]

    def train(self) -> None:
        """Train, or go on where a stopped demo was."""
        from equipot.train.callbacks import LAST, Interrupted
        from equipot.train.config_file import read_config
        from equipot.train.run import train

        resume = (self.out / LAST).is_file()
        try:
            train(read_config(self.config), resume=resume, overwrite=not resume)
        except Interrupted:
            typer.echo("stopped; the same command goes on from here", err=True)
            raise typer.Exit(130) from None
        (self.out / "trained").touch()

    def evaluate(self) -> None:
        """Errors in and out of domain, with predictions for the report."""
        from equipot.cli.evaluate import evaluate

        evaluate(self.model, [self.scale.test, self.scale.hot], str(self.out / "evaluation.json"), self.out / "predictions.extxyz")

    def check(self) -> None:
        """The checks; a broken law is shown and does not end the demo."""
        from equipot.cli.check import check

        try:
            check(self.model, [self.scale.test], json_file=str(self.out / "check.json"))
        except typer.Exit:
            self.console.print("[bold red]a law is broken: this is a defect of the program, please report it[/]")

    def md_command(self, ensemble: str, out: Path, start: str) -> str:
        """The command of a simulation; its number of steps is what fits into the time, where it has not begun."""
        index = ("langevin", "nve").index(ensemble)
        steps = self.planned(out) or self.scale.most_steps[index]
        extra = " --dtype float64" if ensemble == "nve" else ""
        return f"equipot md {self.model} {start} --ensemble {ensemble} --temperature {TEMPERATURE:g} --steps {steps} --timestep {TIMESTEP} --out {out}{extra}"

    def planned(self, out: Path) -> int | None:
        """Steps of a simulation that has begun."""
        from equipot.interfaces.md import MDFiles
        from equipot.interfaces.md_restart import read_restart

        restart = MDFiles.of(out).restart
        return read_restart(restart).settings.steps if restart.is_file() else None

    def md_done(self, out: Path) -> bool:
        """Whether a simulation by this model has reached its end."""
        from equipot.interfaces.md import MDFiles
        from equipot.interfaces.md_restart import model_hash, read_restart

        restart = MDFiles.of(out).restart
        if not restart.is_file() or not self.model.is_file():
            return False
        found = read_restart(restart)
        return found.step >= found.settings.steps and found.model_hash == model_hash(self.model)

    def md(self, ensemble: str, out: Path, start: str, index: int) -> None:
        """A simulation, or the rest of it."""
        from equipot.cli.md import Progress
        from equipot.interfaces.md import MDFiles, resume_md, run_md
        from equipot.interfaces.md_settings import MDSettings

        dtype = "float64" if ensemble == "nve" else None
        progress = Progress()
        try:
            if MDFiles.of(out).restart.is_file() and not self.md_stale(out):
                summary = resume_md(self.model, out, on_sample=progress)
            else:
                steps = self.affordable(start, dtype, self.scale.most_steps[index], self.scale.seconds[index])
                settings = MDSettings(ensemble=ensemble, steps=steps, timestep=TIMESTEP, temperature=TEMPERATURE, dtype=dtype)
                summary = run_md(self.model, start, out, settings, force=True, on_sample=progress)
        finally:
            progress.end()
        if not summary.finished:
            typer.echo("stopped; the same command goes on from here", err=True)
            raise typer.Exit(130)
        self.console.print(f"{summary.step} steps, {summary.step * TIMESTEP / 1000:g} ps, into {out}")
