"""`equipot train`, `equipot preset`, `equipot schema`."""

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from equipot.cli.batch_size import show_batch_sizes
from equipot.errors import UserError

if TYPE_CHECKING:
    from rich.table import Table

    from equipot.train.config import RunConfig
    from equipot.train.evaluation import Evaluation

CONFIG = typer.Argument(help="A YAML configuration, or the folder of a run.", show_default=False)
OVERRIDES = typer.Argument(help="KEY=VALUE words over it, such as data.train=a.xyz train.max_time=00:15:00", show_default=False)


def register(app: typer.Typer) -> None:
    """Adds the commands to the command tree."""
    app.command()(train)
    app.command()(preset)
    app.command()(schema)


def train(
    config: Annotated[Path, CONFIG],
    overrides: Annotated[list[str] | None, OVERRIDES] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the run in the folder stopped.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a run that is already in the folder.")] = False,
    profile: Annotated[bool, typer.Option("--profile", help="Only show where the time of an update goes; nothing is written.")] = False,
    find_batch_size: Annotated[
        bool, typer.Option("--find-batch-size", help="Only measure the largest batches that fit in memory; nothing is written.")
    ] = False,
    memory: Annotated[float | None, typer.Option(help="GiB for --find-batch-size.", show_default="what is free")] = None,
) -> None:
    """Train a potential. The run's folder holds the model, the metrics and the state."""
    from equipot.train.config_file import read_config

    words = list(overrides or [])
    if config.is_dir():
        here = [f"out={json.dumps(str(config), ensure_ascii=False)}"]  # the folder may have been moved, or be seen from elsewhere
        settings = read_config(config / "config.yaml", here + words)
    else:
        settings = read_config(config, words)

    if memory is not None and not find_batch_size:
        raise UserError("--memory states the limit of --find-batch-size: give both or neither")
    if profile and find_batch_size:
        raise UserError("--profile and --find-batch-size are two questions: give one of them")
    if find_batch_size:
        return show_batch_sizes(settings, memory)
    if profile:
        return _show_profile(settings)

    from equipot.train.callbacks import Interrupted  # slow to import: a mistake in the configuration is told before
    from equipot.train.run import train as run

    try:
        result = run(settings, resume=resume, overwrite=overwrite)
    except Interrupted:
        typer.echo(f"stopped; go on with: {shlex.join(['equipot', 'train', str(config), *words])} --resume", err=True)
        raise typer.Exit(130) from None
    if result.evaluations:
        from rich.console import Console

        Console().print(evaluation_table(result.evaluations))
    typer.echo(f"{result.folder / 'best.equipot'}")


def _show_profile(settings: "RunConfig") -> None:
    import torch
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    from equipot.train.profile import profile_updates

    if settings.train.threads is not None:
        torch.set_num_threads(settings.train.threads)
    found = profile_updates(settings)
    threads = torch.get_num_threads()
    typer.echo(f"one update: {found.update_ms:.1f} ms, and {found.batch_ms:.1f} ms to put its batch together, on {threads} threads")
    table = Table(box=SIMPLE)
    table.add_column("part")
    table.add_column("ms", justify="right")
    table.add_column("share", justify="right")
    whole = sum(found.parts.values())
    for part, ms in found.parts.items():
        table.add_row(part, f"{ms:.1f}", f"{100 * ms / whole:.0f} %")
    Console().print(table)
    if found.backend != "cpu":
        typer.echo(f"the operations of backend {found.backend} run inside torch and are not told apart")


COLUMNS = (("energy", "energy\nmeV"), ("energy_per_atom", "energy\nmeV/atom"), ("forces", "forces\nmeV/Å"), ("stress", "stress\nmeV/Å³"))


def evaluation_table(evaluations: "dict[str, Evaluation]") -> "Table":
    """Errors of several sets as a table, MAE / RMSE, in meV and meV/Å; what no set has labels of is left out."""
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table(title="errors, MAE / RMSE", title_justify="left", box=SIMPLE)
    shown = [(name, title) for name, title in COLUMNS if any(f"{name}_mae" in e.measures for e in evaluations.values())]
    for title in ("set", "structures", *(title for _, title in shown)):
        table.add_column(title, justify="left" if title == "set" else "right", no_wrap=True)
    for name, evaluation in evaluations.items():
        columns = [_pair(evaluation.measures, quantity) for quantity, _ in shown]
        table.add_row(name, str(evaluation.measures["n_structures"]), *columns)
    return table


def _pair(measures: dict[str, float], name: str) -> str:
    if f"{name}_mae" not in measures:
        return "-"
    return f"{1000 * measures[f'{name}_mae']:.4g} / {1000 * measures[f'{name}_rmse']:.4g}"


def preset(name: Annotated[str, typer.Argument(help="nequip, nequip_linear, botnet, mace, ace or schnet_like.")] = "nequip") -> None:
    """Print a configuration that needs only data.train."""
    from equipot.train.preset_text import preset_config

    sys.stdout.write(preset_config(name))


def schema() -> None:
    """Print the JSON Schema of the configuration, for editors."""
    from equipot.train.config_file import json_schema

    sys.stdout.write(json.dumps(json_schema(), indent=1) + "\n")
