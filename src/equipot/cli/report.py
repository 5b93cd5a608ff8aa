"""`equipot report`: one page on a run, an evaluation or a simulation."""

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("report")(report)


def report(
    path: Annotated[
        Path,
        typer.Argument(
            help="A run's folder, a folder of simulations, an evaluation.json, predictions (.xyz) or a model.", show_default=False
        ),
    ],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write.", show_default="report.html in the folder")] = None,
    compute: Annotated[bool, typer.Option(help="Predict the run's sets and run its checks where they are not there yet.")] = True,
) -> None:
    """Write one self-contained HTML page: opens from disk, needs no network, prints."""
    from rich.console import Console

    from equipot.analysis.report import write_report

    with Console(stderr=True).status("reading") as status:
        written = write_report(path, output, compute, status.update)
    typer.echo(f"{written}")
