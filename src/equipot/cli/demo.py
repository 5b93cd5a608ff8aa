"""`equipot demo`: the whole loop on the packaged data, each step with the command that does the same."""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from equipot.cli.check import check
from equipot.cli.evaluate import evaluate
from equipot.cli.report import report
from equipot.errors import UserError

LEARN, TEST, HOT = "equipot:ethanol_300K@:130", "300K=equipot:ethanol_300K@130:", "600K=equipot:ethanol_600K"
START = "equipot:ethanol_300K@-1"
SHORT_TEST, SHORT_HOT = "300K=equipot:ethanol_300K@130:150", "600K=equipot:ethanol_600K@:20"
CONFIG = """\
# 100 ethanol structures at 300 K (PBE/def2-SVP) to train on, 30 to choose the best weights by.
name: {name}
model: {{preset: nequip, cutoff: 4.5, n_layers: {n_layers}, l_max: {l_max}, n_channels: {n_channels}}}
data:
  train: {learn}
  validation: 30
  n_train: 100
  isolated_atoms: equipot:ethanol_isolated_atoms
loss: {{energy: 1.0, forces: 10.0, schedule: [{{from_fraction: 0.6, energy: 30.0}}]}}
train: {{{budget}, max_epochs: 100000, batch_size: 5}}
out: {out}
"""
TEMPERATURE = 300.0  # K
SPEED_STEPS = 20


@dataclass(frozen=True)
class Scale:
    """How much the demo does."""

    model: dict[str, int]
    budget: str  # of the training; the quick one counts updates, so that a busy machine gives the same model
    test: str
    hot: str
    most_steps: tuple[int, int]  # Langevin, NVE
    seconds: tuple[float, float]  # that they may take


FULL = Scale({"n_layers": 3, "l_max": 2, "n_channels": 32}, 'max_time: "00:05:00"', TEST, HOT, (10_000, 4_000), (90.0, 40.0))
QUICK = Scale({"n_layers": 2, "l_max": 1, "n_channels": 8}, "max_updates: 1000", SHORT_TEST, SHORT_HOT, (200, 100), (10.0, 10.0))


@dataclass(frozen=True)
class Step:
    """One part of the loop: what it does, the command that does the same, whether it is done already, and how to do it."""

    title: str
    what: str
    command: str
    done: bool
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

    began = time.monotonic()
    console = Console(highlight=False)
    if force:
        _clear(out)
    plan = Plan(out, QUICK if quick else FULL, console)
    plan.prepare("ethanol-quick" if quick else "ethanol")
    for number, step in enumerate(plan.steps(), start=1):
        console.rule(f"[bold]{number} of {plan.n_steps}: {step.title}[/]", align="left")
        console.print(step.what)
        console.print(f"[bold]$ {step.command}[/]\n", soft_wrap=True)
        if step.done:
            console.print("[dim]done before; --force does everything anew[/]\n")
            continue
        since = time.monotonic()
        step.run()
        console.print(f"[dim]{time.monotonic() - since:.0f} s[/]\n")
    plan.summary(time.monotonic() - began)


class Plan:
    """The steps of a demo in one folder."""

    n_steps = 6

    def __init__(self, out: Path, scale: Scale, console: Any) -> None:
        self.out, self.scale, self.console = out, scale, console
        self.config, self.model = out / "demo.yaml", out / "best.equipot"
        self.errors, self.predictions, self.checks = out / "evaluation.json", out / "predictions.extxyz", out / "check.json"

    def prepare(self, name: str) -> None:
        """The configuration in the folder; raises UserError where it is another demo's."""
        text = CONFIG.format(name=name, learn=LEARN, budget=self.scale.budget, out=json.dumps(str(self.out)), **self.scale.model)
        if self.config.is_file() and self.config.read_text(encoding="utf-8") != text:
            raise UserError(f"{self.out}: holds another demo (quick, or of another version): --force replaces it, or give another --out")
        self.out.mkdir(parents=True, exist_ok=True)
        self.config.write_text(text, encoding="utf-8")

    def steps(self) -> Iterator[Step]:
        """One after the other; each is made when those before it are done."""
        trained = self.out / "trained"
        what = f"A NequIP potential learns from 100 structures of ethanol at 300 K; 30 more tell which weights are best. {self.config} says how."
        yield Step("train", what, f"equipot train {self.config}", trained.is_file(), lambda: self.train(trained))

        data, probes = f"{self.scale.test} {self.scale.hot}", self.scale.test.partition("=")[2]
        yield Step(
            "evaluate",
            "Errors on structures it has not seen: others at 300 K, and at 600 K, hotter than anything it learned from.",
            f"equipot evaluate {self.model} {data} --json {self.errors} --predictions {self.predictions}",
            _newer(self.model, self.errors, self.predictions),
            lambda: evaluate(self.model, data.split(), str(self.errors), self.predictions),
        )
        yield Step(
            "check",
            "Laws that hold for any good potential (symmetry, derivatives, locality), and behaviours to be aware of.",
            f"equipot check {self.model} --data {probes} --json {self.checks}",
            _newer(self.model, self.checks),
            lambda: self.check(probes),
        )
        hot, cold = self.out / "md" / "langevin.extxyz", self.out / "md" / "nve.extxyz"
        what = "Langevin molecular dynamics from a structure of the test set."
        yield self.dynamics("dynamics at 300 K", what, START, hot, {"ensemble": "langevin", "temperature": TEMPERATURE, "timestep": 1.0}, 0)
        what = "NVE dynamics from where that ended, in double precision: the total energy must stay."
        yield self.dynamics(
            "energy conservation",
            what,
            str(hot),
            cold,
            {"ensemble": "nve", "temperature": TEMPERATURE, "timestep": 0.5, "dtype": "float64"},
            1,
        )

        page = self.out / "report.html"
        done = all(_newer(file, page) for file in (self.model, self.errors, self.checks, hot, cold))
        yield Step("report", "Everything on one page.", f"equipot report {self.out}", done, lambda: report(self.out))

    def train(self, trained: Path) -> None:
        """Train, or go on where a stopped demo was."""
        from equipot.train.callbacks import LAST, Interrupted
        from equipot.train.config_file import read_config
        from equipot.train.run import train

        resume = (self.out / LAST).is_file()
        try:
            train(read_config(self.config), resume=resume, overwrite=not resume)
        except Interrupted:
            _stop()
        trained.touch()

    def check(self, probes: str) -> None:
        """The checks; a broken law is shown and does not end the demo."""
        try:
            check(self.model, [probes], json_file=str(self.checks))
        except typer.Exit:
            self.console.print("[bold red]a law is broken: this is a defect, please report it[/]")

    def dynamics(self, title: str, what: str, start: str, out: Path, given: dict[str, Any], index: int) -> Step:
        """A simulation: of as many steps as the time allows, or the rest of one that was begun with this model."""
        from equipot.interfaces.md import MDFiles
        from equipot.interfaces.md_restart import model_hash, read_restart
        from equipot.interfaces.md_settings import MDSettings

        restart = MDFiles.of(out).restart
        begun = read_restart(restart) if restart.is_file() else None
        if begun is not None and begun.model_hash == model_hash(self.model):
            settings, done = begun.settings, begun.step >= begun.settings.steps
        else:
            steps = self.affordable(start, given.get("dtype"), index)
            settings, begun, done = MDSettings(steps=steps, **given), None, False
        words = " ".join(f"--{name} {value:g}" if isinstance(value, float) else f"--{name} {value}" for name, value in given.items())
        command = f"equipot md {self.model} {start} {words} --steps {settings.steps} --out {out}"
        return Step(title, what, command, done, lambda: self.run_dynamics(start, out, settings, resume=begun is not None))

    def run_dynamics(self, start: str, out: Path, settings: Any, resume: bool) -> None:
        """The simulation itself, with its progress."""
        from equipot.cli.md import Progress
        from equipot.interfaces.md import resume_md, run_md

        progress = Progress()
        try:
            if resume:
                summary = resume_md(self.model, out, on_sample=progress)
            else:
                summary = run_md(self.model, start, out, settings, force=True, on_sample=progress)
        finally:
            progress.end()
        if not summary.finished:
            _stop()
        self.console.print(f"{summary.step} steps, {summary.step * settings.timestep / 1000:g} ps, into {out}")

    def affordable(self, start: str, dtype: str | None, index: int) -> int:
        """Steps that fit into the time for simulation `index`, in hundreds, by the speed of a few."""
        from equipot.interfaces.ase_calculator import Calculator
        from equipot.interfaces.structure import read_structure

        atoms = read_structure(start)
        atoms.calc = Calculator(self.model, dtype=dtype)
        atoms.get_forces()
        began = time.perf_counter()
        for _ in range(SPEED_STEPS):
            atoms.positions += 1e-6
            atoms.get_forces()
        fitting = self.scale.seconds[index] / (time.perf_counter() - began) * SPEED_STEPS
        return int(min(self.scale.most_steps[index], max(100, fitting // 100 * 100)))

    def summary(self, seconds: float) -> None:
        """The figures, and where the page is."""
        from equipot.analysis.report import collect
        from equipot.analysis.report.page import tiles

        self.console.rule("[bold]what came of it[/]", align="left")
        for tile in tiles(collect(self.out)):
            self.console.print(f"  {tile.label:<60} [bold]{tile.value}[/] {tile.unit}")
        self.console.print(f"  {'this demo took':<60} [bold]{seconds / 60:.1f}[/] min")
        self.console.print(f"\nopen [bold]{(self.out / 'report.html').resolve()}[/] in a browser", soft_wrap=True)


def _newer(older: Path, *files: Path) -> bool:
    """Whether all files are there and none is older than `older`."""
    return older.is_file() and all(f.is_file() and f.stat().st_mtime >= older.stat().st_mtime for f in files)


def _clear(out: Path) -> None:
    """Remove a demo, and nothing that is not one."""
    if not out.exists():
        return
    if not (out / "demo.yaml").is_file():
        raise UserError(f"{out}: is not the folder of a demo, so --force does not remove it: give another --out")
    shutil.rmtree(out)


def _stop() -> None:
    typer.echo("stopped; the same command goes on from here", err=True)
    raise typer.Exit(130)
