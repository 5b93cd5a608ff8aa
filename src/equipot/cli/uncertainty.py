"""`equipot uncertainty`: a model learns how sure it is."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from equipot.data.frame import Frame

DATA = "as for evaluate: files, folders, FILE@0:100, equipot:NAME"


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("uncertainty")(uncertainty)


def uncertainty(
    model: Annotated[
        Path, typer.Argument(help="The folder of a run, which knows its data, or a model file, NAME.equipot.", show_default=False)
    ],
    train: Annotated[list[str], typer.Option(help=f"The structures a model file was trained on, {DATA}.")] = [],  # noqa: B006
    validation: Annotated[list[str], typer.Option(help="Labelled structures it was not trained on, to calibrate on.")] = [],  # noqa: B006
    output: Annotated[Path | None, typer.Option("-o", "--output", help="The file to write; default: MODEL itself.", metavar="FILE")] = None,
    forces: Annotated[bool, typer.Option(help="Count the training forces too, not the energies alone.")] = True,
    regulariser: Annotated[
        float | None, typer.Option(min=1e-14, help="Relative to the mean eigenvalue; default: chosen on the validation data.")
    ] = None,
    keys: Annotated[str, typer.Option(help="Names of labels in the files: energy=E,forces=F,…")] = "",
    units: Annotated[str, typer.Option(help="Units of the files: energy=Ha,length=bohr,…")] = "",
) -> None:
    """Put into a model file how sure it is of energies: last-layer uncertainties, calibrated on validation data."""
    from rich.progress import track

    from equipot.analysis.files import require_folder
    from equipot.model import load_model, read_header, save_model
    from equipot.train.uncertainty import last_layer_uncertainty

    file = model / "best.equipot" if model.is_dir() else model
    target = output or file
    require_folder(target)
    potential, provenance = load_model(file), read_header(file).get("provenance") or {}
    sets = _of_run(model, train or validation) if model.is_dir() else _read(train, validation, keys, units)
    steps = iter(track(range(sum(map(len, sets))), description="features", transient=True))
    potential.last_layer = last_layer_uncertainty(
        potential, *sets, provenance, forces, regulariser, step=lambda n: [next(steps, None) for _ in range(n)]
    )
    save_model(potential, target, provenance)
    facts = potential.last_layer.facts
    typer.echo(
        f"{facts['n_features']} features; covariance of {facts['n_train']} structures (weights: energy {facts['weights']['energy']:g}, forces "
        f"{facts['weights']['forces']:g}); calibrated on {facts['n_validation']}: scale {facts['scale']:.3g}, regulariser {facts['regulariser']:.1g}"
    )
    typer.echo(f"wrote {target}")


def _of_run(folder: Path, given: list[str]) -> "list[list[Frame]]":
    """Training and validation structures of a run, split as they were."""
    from equipot.errors import UserError
    from equipot.train.config_file import read_config
    from equipot.train.setup import read_checked

    if given:
        raise UserError(f"{folder}: a run knows its data: leave --train and --validation out, or give the model file in it")
    checked = read_checked(read_config(folder / "config.yaml"))
    return [checked.train, checked.validation]


def _read(train: list[str], validation: list[str], keys: str, units: str) -> "list[list[Frame]]":
    """The structures of files, without isolated atoms."""
    from equipot.cli.data import _keys, _units
    from equipot.data.elements import separate_isolated
    from equipot.data.readers import read_frames
    from equipot.errors import UserError

    if not train or not validation:
        raise UserError("a model file does not hold its data: give --train and --validation, or the folder of the run instead of the file")
    how = _keys(keys), _units(units)
    return [separate_isolated(read_frames(files, *how))[0] for files in (train, validation)]
