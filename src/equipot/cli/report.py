"""`equipot report`: one page on a run, a study, an evaluation or a simulation."""

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
            help="A run's folder, a study, a folder of simulations or observables, an evaluation.json, predictions, a trajectory or a model.",
            show_default=False,
        ),
    ],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write.", show_default="report.html in the folder")] = None,
    compute: Annotated[bool, typer.Option(help="Predict the run's sets and run its checks where they are not there yet.")] = True,
) -> None:
    """Write one self-contained HTML page: opens from disk, needs no network, prints."""
    from rich.console import Console

    from equipot.analysis.report import write_report

    with Console(stderr=True).status("reading") as status:
        written = _study(path, output) if is_study(path) else write_report(path, output, compute, status.update)
    typer.echo(f"{written}")


def is_study(path: Path) -> bool:
    """Whether a folder is that of `equipot study`."""
    return (path / "study.yaml").is_file() and (path / "results.parquet").is_file()


def _study(folder: Path, output: Path | None) -> Path:
    """A study has a page of its own, with tables and plots as files beside it; `output` is a copy."""
    from equipot.analysis.files import require_folder
    from equipot.study.report import write
    from equipot.whole_file import write_whole

    require_folder(output)
    page = write(folder)
    if output is None or output.resolve() == page.resolve():
        return page
    write_whole(output, page.read_bytes())
    return output
