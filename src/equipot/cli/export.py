"""`equipot export`: a model in the form of another program."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from equipot.model import Ensemble, Potential

MODEL = typer.Argument(help="Model file (NAME.equipot); several of one specification become an ensemble.", show_default=False)
OUTPUT = typer.Option("-o", "--output", help="The file to write.", metavar="FILE.eqn|FILE.pt2", show_default=False)
ACCURACY = typer.Option(
    help="Error of the tabulated radial functions, relative to the largest: a smaller one takes more knots (not for torch)."
)
TO = typer.Option(
    help="native: for equipot's own engine and LAMMPS, without torch (lammps: the same file). torch: compiled by torch, for programs that have "
    "torch, in C++ or Python, but not equipot."
)
FORMATS = ("native", "lammps", "torch")


def register(app: typer.Typer) -> None:
    """Adds the command to the command tree."""
    app.command("export")(export)


def export(
    models: Annotated[list[Path], MODEL],
    output: Annotated[Path, OUTPUT],
    to: Annotated[str, TO] = "native",
    accuracy: Annotated[float, ACCURACY] = 1e-8,
    device: Annotated[str, typer.Option(help="For torch: what the package is compiled for, cpu or cuda.")] = "cpu",
    dtype: Annotated[str, typer.Option(help="For torch: float32 or float64.", show_default="the model's own")] = "",
) -> None:
    """Write a model for other programs: in one file for the native engine and LAMMPS, or compiled as a torch package.

    An ensemble, in one file or as several models, gives the mean of its members, and with ASE their spread.
    What cannot be expressed is refused by name. A torch package is compiled, which takes a C++ compiler and minutes, and compared with the model; it
    runs on the kind of machine it was made on.
    """
    from equipot.engine.file import SUFFIX
    from equipot.engine.package import PACKAGE_SUFFIX
    from equipot.errors import UserError
    from equipot.model import Ensemble, load_model, members_of
    from equipot.model.file import read_header

    if to not in FORMATS:
        raise UserError(f"--to {to} is not known: one of {', '.join(FORMATS)}")
    suffix = PACKAGE_SUFFIX if to == "torch" else SUFFIX
    if output.suffix != suffix:
        raise UserError(f"{output}: give the file a name that ends in {suffix}")
    if to != "torch" and (dtype or device != "cpu"):
        raise UserError(f"--{'dtype' if dtype else 'device'} is for --to torch: other exports leave it to the program that runs them")
    members = [member for model in models for member in members_of(load_model(model, dtype or None))]
    try:
        potential = Ensemble(members) if len(members) > 1 else members[0]
    except ValueError as error:
        raise UserError(f"{', '.join(map(str, models))}: {error}") from None
    origins = [read_header(model).get("provenance") for model in models]
    provenance = origins[0] if len(models) == 1 else {"members": origins}
    if len(members) > 1:
        typer.echo(f"an ensemble of {len(members)}")
    if to == "torch":
        _write_package(potential, output, device, provenance)
    else:
        _write_native(potential, output, accuracy, provenance)
    typer.echo(f"wrote {output}, {output.stat().st_size / 1e6:.1f} MB")


def _write_native(potential: "Potential | Ensemble", output: Path, accuracy: float, provenance: dict[str, Any] | None) -> None:
    from equipot.engine.file import read_native
    from equipot.model.export import native_bytes
    from equipot.whole_file import write_whole

    write_whole(output, native_bytes(potential, accuracy, provenance=provenance))
    tabulation = read_native(output).header["tabulation"]
    knots = ", ".join(str(n) for n in tabulation["knots"])
    kinks = sum(tabulation["kinks"])
    typer.echo(f"radial functions of {len(tabulation['knots'])} layers: {knots} knots" + (f", {kinks} kinks" if kinks else ""))
    typer.echo(f"largest error of the tables {max(tabulation['relative_error']):.1e}, relative to the largest value and slope")


def _write_package(potential: "Potential | Ensemble", output: Path, device: str, provenance: dict[str, Any] | None) -> None:
    from equipot.model.export.torch_package import torch_package
    from equipot.whole_file import write_whole

    package = torch_package(potential, device, provenance)
    write_whole(output, package.content)
    typer.echo(f"compiled for {package.facts['device']} in {package.facts['dtype']}, with torch {package.facts['torch']}")
    typer.echo(
        f"largest deviation from the model: {package.deviation.energy:.1e} eV/atom, {package.deviation.forces:.1e} eV/Å, "
        f"{package.deviation.stress:.1e} eV/Å³"
    )
