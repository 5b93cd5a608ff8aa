"""`equipot import`: weights of other programs as ordinary models."""

from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer


class Source(StrEnum):
    """Who wrote the file."""

    bundle = "bundle"
    mace = "mace"
    nequip = "nequip"


FILE = typer.Argument(
    help="A bundle (.npz), a model that mace-torch saved (.model), or a checkpoint (.ckpt) or package (.nequip.zip) of nequip.",
    show_default=False,
)
SOURCE = typer.Option("--from", help="What wrote the file.")
PYTHON = typer.Option(
    help="The Python of an environment that has mace-torch or nequip, which reads its own files there; this one if not given.",
    show_default=False,
)
OUTPUT = typer.Option("-o", "--output", help="The model file to write.", metavar="MODEL.equipot", show_default=False)


def register(app: typer.Typer) -> None:
    """Adds the command to the command tree."""
    app.command("import")(import_model)


def import_model(
    file: Annotated[Path, FILE],
    output: Annotated[Path, OUTPUT],
    source: Annotated[Source, SOURCE] = Source.bundle,
    python: Annotated[Path | None, PYTHON] = None,
) -> None:
    """Turn another program's model into an equipot model with the same energies, forces and stress.

    The results the bundle carries, or that the program itself gives for a few structures, are computed anew and must agree to 1e-8 eV, 1e-8 eV/Å and
    1e-10 eV/Å³; what equipot cannot express is refused. Files of mace and nequip can run code when they are loaded: import only what you trust.
    """
    from equipot.errors import UserError
    from equipot.model.importers.programs import write_bundle_of

    if source is Source.bundle:
        if python is not None:
            raise UserError("--python goes with --from mace or --from nequip: a bundle is read without another program")
        _import_bundle(file, output, file.name)
        return
    with TemporaryDirectory() as folder:
        bundle = Path(folder) / f"{file.name}.npz"
        write_bundle_of(file, source.value, python, bundle)
        try:
            _import_bundle(bundle, output, file.name)
        except UserError as error:
            raise UserError(
                str(error).replace(str(bundle), str(file)).replace("the bundle is not imported", "it is not imported")
            ) from error


def _import_bundle(bundle: Path, output: Path, name: str) -> None:
    """Read, fill, compare, write and say so; `name` is the file's that the provenance tells."""
    from equipot.data.neighbours import neighbour_graph
    from equipot.model import save_model
    from equipot.model.importers import import_bundle, read_bundle
    from equipot.model.importers.verify import deviations, largest, require_agreement

    source = read_bundle(bundle)
    potential, report = import_bundle(source)
    found = deviations(potential, source.frames, neighbour_graph)
    require_agreement(source, found)
    save_model(potential, output, provenance={"import": {**report, "source": name, "frames": len(found), "deviation": largest(found)}})
    n_parameters = sum(p.numel() for p in potential.parameters())
    typer.echo(
        f"{report['package']}: {len(potential.layers)} layers, {n_parameters} parameters, {report['original_parameters'] or '?'} in the original"
    )
    if found:
        worst = "  ".join(f"{name} {value:.1e}" for name, value in largest(found).items())
        typer.echo(f"largest difference on its {len(found)} frames: {worst}  (eV, eV/Å, eV/Å³)")
    else:
        typer.echo("the bundle carries no results to compare with")
    typer.echo(f"wrote {output}")
