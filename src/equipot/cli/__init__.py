"""The command line: thin. Each file registers its commands; nothing heavy is imported before a command runs."""

import errno
import importlib
import logging
import os
import sys

import typer

from equipot import __version__
from equipot.errors import UserError, ran_out_of_memory

_COMMANDS = (
    "demo",
    "train",
    "evaluate",
    "uncertainty",
    "md",
    "check",
    "observe",
    "report",
    "info",
    "data",
    "importer",
    "export",
    "lammps",
    "study",
    "learn",
)


def build() -> typer.Typer:
    """The command tree."""
    app = typer.Typer(
        name="equipot",
        help="Train, run and study E(3)-equivariant interatomic potentials: ACE, NequIP, BOTNet and MACE as points of one design space.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
    )

    @app.callback(invoke_without_command=True)
    def _root(
        version: bool = typer.Option(False, "--version", help="Print the version and leave."),
        debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error. Can also stand behind a command."),
    ) -> None:
        if version:
            typer.echo(f"equipot {__version__}")
            raise typer.Exit

    for name in _COMMANDS:
        importlib.import_module(f"equipot.cli.{name}").register(app)
    return app


def main() -> None:
    """Entry point: exit status 0 on success, 2 on a user's mistake with one line on standard error, 1 on a failed check."""
    debug = "--debug" in sys.argv or bool(os.environ.get("EQUIPOT_DEBUG"))
    argv = [a for a in sys.argv[1:] if a != "--debug"]
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for noisy in ("lightning", "lightning.pytorch", "lightning.fabric", "matplotlib"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        build()(args=argv, prog_name="equipot")
    except UserError as error:
        if debug:
            raise
        typer.echo(f"equipot: {error}", err=True)
        sys.exit(2)
    except BrokenPipeError:
        sys.exit(1)
    except (OSError, MemoryError, RuntimeError) as error:
        words = in_words(error)
        if debug or words is None:
            raise
        typer.echo(f"equipot: {words}", err=True)
        sys.exit(2)


def in_words(error: Exception) -> str | None:
    """One line on what the machine refused, with the file where it is known; None for what is a mistake of the program."""
    if isinstance(error, OSError):
        file = f"{error.filename}: " if error.filename else ""
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        remedy = ": make room for it; what was written whole is kept, and a run goes on with --resume where it has begun" if full else ""
        return f"{file}{error.strerror or error}{remedy}"
    if ran_out_of_memory(error):
        batches = "train.batch_size, which train --find-batch-size measures; evaluate --batch-size"
        return f"out of memory: take smaller batches ({batches}), a smaller model or cutoff, or fewer atoms"
    return None
