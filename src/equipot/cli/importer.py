"""`equipot import`: weights of other programs as ordinary models."""

from pathlib import Path
from typing import Annotated

import typer

BUNDLE = typer.Argument(
    help="A bundle: an .npz file with the weights and hyper-parameters of a BOTNet, nequip or mace-torch model.", show_default=False
)
OUTPUT = typer.Option("-o", "--output", help="The model file to write.", metavar="MODEL.equipot", show_default=False)


def register(app: typer.Typer) -> None:
    """Adds the command to the command tree."""
    app.command("import")(import_model)


def import_model(bundle: Annotated[Path, BUNDLE], output: Annotated[Path, OUTPUT]) -> None:
    """Turn another program's model into an equipot model with the same energies, forces and stress.

    The results the bundle carries are computed anew and must agree to 1e-8 eV, 1e-8 eV/Å and 1e-10 eV/Å³; what equipot cannot express is refused.
    """
    from equipot.data.neighbours import neighbour_graph
    from equipot.model import save_model
    from equipot.model.importers import import_bundle, read_bundle
    from equipot.model.importers.verify import deviations, largest, require_agreement

    source = read_bundle(bundle)
    potential, report = import_bundle(source)
    found = deviations(potential, source.frames, neighbour_graph)
    require_agreement(source, found)
    save_model(potential, output, provenance={"import": {**report, "frames": len(found), "deviation": largest(found)}})
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
