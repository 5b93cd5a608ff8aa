"""`equipot data check|info|convert`: look at labelled structures before training on them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from equipot.errors import UserError

if TYPE_CHECKING:
    from equipot.data.labels import Keys
    from equipot.data.units import Units

app = typer.Typer(no_args_is_help=True, help="Look at labelled structures: check them, show what they hold, convert them.")

DATA = typer.Argument(help="Files or folders; FILE@0:100 takes a slice, equipot:NAME a packaged set.", show_default=False)
KEYS = typer.Option("--keys", help="Names of labels in the file: energy=E,forces=F,stress=S,virial=V,config_type=C")
UNITS = typer.Option("--units", help="Units of the file: energy=Ha,length=bohr,forces=Ha/bohr,stress=GPa")
JSON = typer.Option("--json", help="Write the result as JSON to this file; - is standard output.", metavar="FILE")
ISOLATED = typer.Option("--isolated-atoms", help="A file of isolated atoms, for reference energies.", metavar="FILE")
VALIDATION = typer.Option(help="A file kept for validation.", metavar="FILE")
TEST = typer.Option(help="A test file.", metavar="[NAME=]FILE")
LABELS = typer.Option(help="Labels the training will ask for; default: energy, forces, and stress if some frame has it.")


def register(root: typer.Typer) -> None:
    """Adds the commands to the command tree."""
    root.add_typer(app, name="data")


@app.command()
def check(
    data: Annotated[list[str], DATA],
    validation: Annotated[list[str] | None, VALIDATION] = None,
    test: Annotated[list[str] | None, TEST] = None,
    isolated_atoms: Annotated[list[str] | None, ISOLATED] = None,
    labels: Annotated[str, LABELS] = "",
    keys: Annotated[str, KEYS] = "",
    units: Annotated[str, UNITS] = "",
    json_file: Annotated[str, JSON] = "",
) -> None:
    """Find what is wrong with training data. Exit status 1 where there are errors."""
    from equipot.analysis.files import require_folder
    from equipot.data.elements import separate_isolated
    from equipot.data.preflight import preflight
    from equipot.data.readers import read_frames
    from equipot.data.references import reference_energies

    require_folder(json_file)
    how = _keys(keys), _units(units)
    frames = read_frames([*data, *(isolated_atoms or [])], *how)
    train, isolated = separate_isolated(frames)
    tests = {name: read_frames(file, *how) for name, file in map(_named, test or [])}
    held = read_frames(validation, *how) if validation else []
    if labels:
        requested = {part.strip() for part in labels.split(",")}
    else:
        requested = {"energy", "forces"} | ({"stress"} if any(f.stress is not None for f in train) else set())
    references = reference_energies(train, isolated) if isolated and train else None
    report = preflight(frames, held, tests, requested, references)
    _show(report, report.to_dict(), json_file)
    if report.errors:
        raise typer.Exit(1)


@app.command()
def info(
    data: Annotated[list[str], DATA],
    cutoff: Annotated[float, typer.Option(help="Cutoff in Å, for the numbers of neighbours.")] = 5.0,
    isolated_atoms: Annotated[list[str] | None, ISOLATED] = None,
    keys: Annotated[str, KEYS] = "",
    units: Annotated[str, UNITS] = "",
    json_file: Annotated[str, JSON] = "",
) -> None:
    """Show what a data set holds: labels, energies, forces, distances, neighbours and reference energies."""
    from equipot.analysis.files import require_folder
    from equipot.data.readers import read_frames
    from equipot.data.summary import summary, summary_table

    require_folder(json_file)
    found = summary(read_frames([*data, *(isolated_atoms or [])], _keys(keys), _units(units)), cutoff)
    _show(summary_table(found), found, json_file)


@app.command()
def convert(
    data: Annotated[list[str], DATA],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write: .extxyz or .xyz, also with .gz; in eV and Å.")],
    config_type: Annotated[list[str] | None, typer.Option(help="Keep frames of this config type only.")] = None,
    elements: Annotated[str, typer.Option(help="Keep frames of these elements only, e.g. H,C,O.")] = "",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
    keys: Annotated[str, KEYS] = "",
    units: Annotated[str, UNITS] = "",
    json_file: Annotated[str, JSON] = "",
) -> None:
    """Write structures and labels as extended xyz in eV and Å, under the usual names."""
    from equipot.analysis.files import require_folder
    from equipot.data.readers import read_frames
    from equipot.data.summary import config_types
    from equipot.data.writer import check_target, write_frames

    check_target(output, overwrite)
    require_folder(json_file)
    frames = read_frames(data, _keys(keys), _units(units))
    chosen = [f for f in frames if not config_type or f.config_type in config_type]
    if elements:
        allowed = {part.strip().capitalize() for part in elements.split(",")}
        chosen = [f for f in chosen if allowed.issuperset(f.symbols)]
    if not chosen:
        raise UserError(f"none of the {len(frames)} frames is selected; their config types are {', '.join(config_types(frames))}")
    write_frames(chosen, output, overwrite)
    result = {"file": str(output), "written": len(chosen), "read": len(frames)}
    _show(f"{output}: {len(chosen)} of {len(frames)} frames", result, json_file)


def _pairs(text: str, option: str) -> dict[str, str]:
    parts = [part.partition("=") for part in text.split(",") if part.strip()]
    for name, equals, value in parts:
        if not equals or not value.strip():
            raise UserError(f"{option}: {name.strip()!r} is not NAME=VALUE")
    return {name.strip(): value.strip() for name, _, value in parts}


def _keys(text: str) -> "Keys":
    from equipot.data.labels import Keys

    return Keys.from_mapping(_pairs(text, "--keys"))


def _units(text: str) -> "Units | None":
    from equipot.data.units import Units

    return Units.from_mapping(_pairs(text, "--units")) if text else None


def _named(text: str) -> tuple[str, str]:
    name, equals, file = text.partition("=")
    return (name, file) if equals and file else (Path(text).name, text)


def _show(shown: Any, result: dict, json_file: str) -> None:
    from rich.console import Console

    from equipot.analysis.files import STANDARD_OUTPUT, write_json

    if json_file:
        write_json(json_file, result)
    if json_file != STANDARD_OUTPUT:
        Console().print(shown, soft_wrap=isinstance(shown, str))
