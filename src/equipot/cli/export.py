"""`equipot export`: a model in the form of another program."""

from pathlib import Path
from typing import Annotated

import typer

MODEL = typer.Argument(help="Model file (NAME.equipot); several of one specification become an ensemble.", show_default=False)
OUTPUT = typer.Option("-o", "--output", help="The file to write.", metavar="FILE.eqn", show_default=False)
ACCURACY = typer.Option(help="Error of the tabulated radial functions, relative to the largest: a smaller one takes more knots.")
FORMATS = ("lammps", "native")


def register(app: typer.Typer) -> None:
    """Adds the command to the command tree."""
    app.command("export")(export)


def export(
    models: Annotated[list[Path], MODEL],
    output: Annotated[Path, OUTPUT],
    to: Annotated[str, typer.Option(help="lammps, or native: the same file, for equipot's own engine without torch.")] = "lammps",
    accuracy: Annotated[float, ACCURACY] = 1e-8,
) -> None:
    """Write a model for the native engine and LAMMPS: one file, without torch, with radial functions tabulated.

    An ensemble, in one file or as several models, gives the mean of its members, and with ASE their spread.
    What the engine cannot express is refused by name.
    """
    from equipot.engine.file import SUFFIX, read_native
    from equipot.errors import UserError
    from equipot.model import Ensemble, load_model, members_of
    from equipot.model.export import native_bytes
    from equipot.model.file import read_header
    from equipot.whole_file import write_whole

    if to not in FORMATS:
        raise UserError(f"--to {to} is not known: one of {', '.join(FORMATS)}")
    if output.suffix != SUFFIX:
        raise UserError(f"{output}: give the file a name that ends in {SUFFIX}")
    members = [member for model in models for member in members_of(load_model(model))]
    try:
        potential = Ensemble(members) if len(members) > 1 else members[0]
    except ValueError as error:
        raise UserError(f"{', '.join(map(str, models))}: {error}") from None
    origins = [read_header(model).get("provenance") for model in models]
    write_whole(output, native_bytes(potential, accuracy, provenance=origins[0] if len(models) == 1 else {"members": origins}))
    tabulation = read_native(output).header["tabulation"]
    if len(members) > 1:
        typer.echo(f"an ensemble of {len(members)}")
    knots = ", ".join(str(n) for n in tabulation["knots"])
    kinks = sum(tabulation["kinks"])
    typer.echo(f"radial functions of {len(tabulation['knots'])} layers: {knots} knots" + (f", {kinks} kinks" if kinks else ""))
    typer.echo(f"largest error of the tables {max(tabulation['relative_error']):.1e}, relative to the largest value and slope")
    typer.echo(f"wrote {output}, {output.stat().st_size / 1e6:.1f} MB")
