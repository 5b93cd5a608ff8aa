"""`equipot export`: a model in the form of another program."""

from pathlib import Path
from typing import Annotated

import typer

MODEL = typer.Argument(help="Model file (NAME.equipot).", show_default=False)
OUTPUT = typer.Option("-o", "--output", help="The file to write.", metavar="FILE.eqn", show_default=False)
ACCURACY = typer.Option(help="Error of the tabulated radial functions, relative to the largest: a smaller one takes more knots.")
FORMATS = ("lammps", "native")


def register(app: typer.Typer) -> None:
    """Adds the command to the command tree."""
    app.command("export")(export)


def export(
    model: Annotated[Path, MODEL],
    output: Annotated[Path, OUTPUT],
    to: Annotated[str, typer.Option(help="lammps, or native: the same file, for equipot's own engine without torch.")] = "lammps",
    accuracy: Annotated[float, ACCURACY] = 1e-8,
) -> None:
    """Write a model for the native engine and LAMMPS: one file, without torch, with radial functions tabulated.

    What the engine cannot express is refused by name.
    """
    from equipot.engine.file import SUFFIX, read_native
    from equipot.errors import UserError
    from equipot.model import load_model
    from equipot.model.export import native_bytes
    from equipot.model.file import read_header
    from equipot.whole_file import write_whole

    if to not in FORMATS:
        raise UserError(f"--to {to} is not known: one of {', '.join(FORMATS)}")
    if output.suffix != SUFFIX:
        raise UserError(f"{output}: give the file a name that ends in {SUFFIX}")
    potential = load_model(model)
    write_whole(output, native_bytes(potential, accuracy, provenance=read_header(model).get("provenance")))
    tabulation = read_native(output).header["tabulation"]
    knots = ", ".join(str(n) for n in tabulation["knots"])
    kinks = sum(tabulation["kinks"])
    typer.echo(f"radial functions of {len(tabulation['knots'])} layers: {knots} knots" + (f", {kinks} kinks" if kinks else ""))
    typer.echo(f"largest error of the tables {max(tabulation['relative_error']):.1e}, relative to the largest value and slope")
    typer.echo(f"wrote {output}, {output.stat().st_size / 1e6:.1f} MB")
