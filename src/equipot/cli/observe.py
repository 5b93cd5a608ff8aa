"""`equipot observe`: what a trajectory or crystal shows, with errors, beside a reference."""

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

ROUNDING = 1e-9  # relative: smaller errors are those of sums
_BOND = re.compile(r"^([A-Z][a-z]?)-([A-Z][a-z]?)=(\d*\.?\d+)$")


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("observe")(observe)


def observe(
    trajectory: Annotated[
        str,
        typer.Argument(
            help="Frames: .xyz, .traj, what else ASE reads, .npz, a DeePMD folder; FILE@1000: chooses some.", show_default=False
        ),
    ],
    reference: Annotated[str | None, typer.Option(help="Frames to compare with, read in the same ways.", show_default=False)] = None,
    model: Annotated[
        Path | None, typer.Option(help="Model for phonons, equation of state and elastic constants of a crystal.", show_default=False)
    ] = None,
    crystal: Annotated[
        str | None, typer.Option(help="Structure file of the crystal; TRAJECTORY itself where it holds one structure.", show_default=False)
    ] = None,
    only: Annotated[
        list[str],
        typer.Option(
            help="This only, may be given several times: rdf, coordination, angles, msd, vacf, vdos, traces, eos, elastic, phonons."
        ),
    ] = [],  # noqa: B006
    out: Annotated[Path | None, typer.Option(help="Folder for results.", show_default="NAME.observables beside the trajectory")] = None,
    json_file: Annotated[
        str, typer.Option("--json", help="Write the results as JSON to this file too; - is standard output.", metavar="FILE")
    ] = "",
    dt: Annotated[float | None, typer.Option(help="fs between frames.", show_default="what the frames say")] = None,
    reference_dt: Annotated[
        float | None, typer.Option(help="fs between the reference's frames.", show_default="what the frames say")
    ] = None,
    skip: Annotated[float, typer.Option(help="Frames to leave out at the start, or, below 1, which part of all.")] = 0,
    blocks: Annotated[int, typer.Option(help="Blocks of the trajectory whose spread gives the errors.")] = 8,
    elements: Annotated[str, typer.Option(help="Of mean-square displacements, as Li,S.", show_default="all")] = "",
    r_max: Annotated[float | None, typer.Option(help="Å.", show_default="half the cell, 6 to 10")] = None,
    r_bin: Annotated[float, typer.Option(help="Å.")] = 0.02,
    angle_bin: Annotated[float, typer.Option(help="Degrees.")] = 2.0,
    bond: Annotated[
        list[str],
        typer.Option(help="Bonding distance of two elements, O-H=1.25; may be given several times.", show_default="first minimum of g(r)"),
    ] = [],  # noqa: B006
    fit: Annotated[str, typer.Option(help="ps, lags of the fit for diffusion, as 1:5.", show_default="10 to 50 % of a block")] = "",
    vacf_length: Annotated[float | None, typer.Option(help="ps.", show_default="2, at most half a block")] = None,
    samples: Annotated[int, typer.Option(help="Frames at most for structure, evenly chosen.")] = 2000,
    supercell: Annotated[float, typer.Option(help="Å, least width of the phonons' supercell.")] = 12.0,
    dtype: Annotated[str, typer.Option(help="Of the model: float32 or float64.")] = "float64",
    engine: Annotated[str, typer.Option(help="auto, torch or native.")] = "auto",
    device: Annotated[str, typer.Option(help="cpu, cuda …")] = "cpu",
) -> None:
    """Structure, dynamics and thermodynamics of a trajectory, with errors by blocks, beside a reference; phonons and elasticity of a crystal.

    What the trajectory cannot give is left out, and the reason said.
    """
    from rich.console import Console

    from equipot.analysis.files import require_folder, write_json
    from equipot.analysis.observables import Settings, read_trajectory, write
    from equipot.analysis.observables import observe as run
    from equipot.analysis.observables.write import require_out

    settings = Settings(
        blocks=blocks, r_max=r_max, r_bin=r_bin, angle_bin=angle_bin, bonds=parse_bonds(bond), samples=samples, fit=parse_fit(fit),
        vacf_length=vacf_length, elements=parse_elements(elements), supercell=supercell,
    )  # fmt: skip
    _check_numbers(dt, reference_dt, skip)
    folder = out or default_folder(trajectory)
    require_out(folder)
    require_folder(json_file)
    with Console(stderr=True).status("reading") as status:
        frames = read_trajectory(trajectory, dt, skip, lambda n: status.update(f"reading {trajectory}: {n} frames"))
        other = None
        if reference is not None:
            other = read_trajectory(reference, reference_dt, 0, lambda n: status.update(f"reading {reference}: {n} frames"))
        calculator, atoms = _crystal(model, crystal, dtype, engine, device)
        found = run(frames, settings, reference=other, calculator=calculator, crystal=atoms, only=only, progress=status.update)
        content = write(folder, found, frames, other, settings, status.update)
    if json_file:
        write_json(json_file, content)
    if json_file != "-":
        show(Console(), content, folder)


def show(console: "Console", content: dict[str, Any], folder: Path) -> None:
    """Values, overlaps, remarks and what is missing, on standard output."""
    from rich.markup import escape

    side = content["trajectory"]
    time = "" if side["length_ps"] is None else f", {side['length_ps']:.4g} ps"
    formula = " ".join(f"{e}{n}" for e, n in side["elements"].items())
    console.print(escape(f"{side['name']}: {side['frames']} frames of {formula}{time}"), highlight=False)
    for table in (values(content), overlaps(content)):
        if table.row_count:
            console.print(table)
    remarks = content["notes"] + [note for o in content["observables"].values() for note in o["notes"]]
    for note in remarks:
        console.print(f"[yellow]note:[/] {escape(note)}", highlight=False)
    for name, reason in content["missing"].items():
        console.print(f"[yellow]no {name}:[/] {escape(reason)}", highlight=False)
    for name, reason in content["reference_missing"].items():
        if name in content["observables"]:
            console.print(f"[yellow]no {name} of the reference:[/] {escape(reason)}", highlight=False)
    console.print(escape(f"results in {folder}: {', '.join(content['observables'])}"), highlight=False)


def values(content: dict[str, Any]) -> "Table":
    """Values with errors, the reference's beside them."""
    from rich.table import Table

    table = Table(caption="Errors: one standard deviation, by blocks.", caption_justify="left")
    both = bool(content["reference"])
    for heading in ("", "value", *(("reference",) if both else ()), "unit"):
        table.add_column(heading, justify="left" if heading in ("", "unit") else "right", no_wrap=True)
    for observable in content["observables"].values():
        beside = {v["name"]: v for v in observable["reference_values"]}
        for v in observable["values"]:
            other = beside.get(v["name"], {})
            cells = (with_error(other.get("value"), other.get("error")),) if both else ()
            table.add_row(v["name"], with_error(v["value"], v["error"]), *cells, v["unit"])
    return table


def overlaps(content: dict[str, Any]) -> "Table":
    """Overlaps with the reference, and what noise alone would give."""
    from rich.table import Table

    table = Table(title="Overlap with the reference", title_justify="left", caption_justify="left")
    table.caption = "1 is equal. Two samples of one system reach the noise level or more in 95 % of cases."
    for heading in ("", "curve", "overlap", "noise level", ""):
        table.add_column(heading, justify="left" if heading in ("", "curve") else "right", no_wrap=True)
    for o in content["overlaps"]:
        verdict = {True: "[green]same[/]", False: "[yellow]differs[/]", None: ""}[o["within_noise"]]
        table.add_row(o["observable"], o["curve"], with_error(o["overlap"], o["error"]), _text(o["floor"], 4), verdict)
    return table


def with_error(value: float | None, error: float | None) -> str:
    """1.234 ± 0.012, or (1.23 ± 0.12)e-05: the error with two figures, the value to the same place."""
    if value is None or not math.isfinite(value):
        return ""
    if error is None or not (math.isfinite(error) and error > ROUNDING * abs(value)):
        return _text(value)
    power = math.floor(math.log10(max(abs(value), error)))
    power = 0 if -4 < power < 6 else power
    places = max(0, 1 + power - math.floor(math.log10(error)))
    text = f"{value / 10**power:.{places}f} ± {error / 10**power:.{places}f}"
    return f"({text})e{power:+03d}" if power else text


def parse_bonds(texts: list[str]) -> dict[tuple[str, str], float]:
    """{("H", "O"): 1.25} of ["O-H=1.25"]; raises UserError for anything else."""
    from equipot.data.frame import to_numbers
    from equipot.errors import UserError

    found: dict[tuple[str, str], float] = {}
    for text in texts:
        match = _BOND.match(text.replace(" ", ""))
        if not match:
            raise UserError(f"--bond {text}: write two elements and a length in Å, as O-H=1.25")
        to_numbers([match[1], match[2]])
        a, b = sorted((match[1], match[2]))
        found[a, b] = float(match[3])
    return found


def parse_fit(text: str) -> tuple[float, float] | None:
    """(1.0, 5.0) of "1:5"; raises UserError for anything else."""
    from equipot.errors import UserError

    if not text:
        return None
    try:
        first, last = (float(part) for part in text.split(":"))
    except ValueError:
        raise UserError(f"--fit {text}: write two lags in ps, as 1:5") from None
    return first, last


def parse_elements(text: str) -> tuple[str, ...]:
    """("Li", "S") of "Li,S"; raises UserError for what is no element."""
    from ase.data import chemical_symbols

    from equipot.data.frame import to_numbers

    return tuple(chemical_symbols[z] for z in to_numbers([part for part in text.replace(",", " ").split() if part]))


def default_folder(trajectory: str) -> Path:
    """NAME.observables beside NAME.xyz, of a packaged set or a folder in the working directory."""
    from equipot.data.readers import resolve

    path, _ = resolve(trajectory)
    beside = path.parent if path.is_file() and not trajectory.startswith("equipot:") else Path()
    name = path.with_suffix("") if path.suffix in (".gz", ".bz2", ".xz") else path
    return beside / f"{name.stem if path.is_file() else name.name}.observables"


def _check_numbers(dt: float | None, reference_dt: float | None, skip: float) -> None:
    from equipot.errors import UserError

    for name, value in (("--dt", dt), ("--reference-dt", reference_dt)):
        if value is not None and not 0 < value < math.inf:
            raise UserError(f"{name} must be a positive number of fs, not {value:g}")
    if not 0 <= skip < math.inf or (skip >= 1 and skip != int(skip)):
        raise UserError(f"--skip must be a number of frames, or a part of all below 1, not {skip:g}")


def _crystal(model: Path | None, crystal: str | None, dtype: str, engine: str, device: str) -> tuple[Any, Any]:
    """The model's calculator and the crystal's atoms, or None."""
    from equipot.errors import UserError

    if model is None:
        if crystal is not None:
            raise UserError("--crystal needs a model, --model: phonons, equation of state and elastic constants are computed with it")
        return None, None
    from equipot.interfaces.ase_calculator import Calculator
    from equipot.interfaces.structure import read_structure

    return Calculator(model, dtype=dtype, device=device, engine=engine), None if crystal is None else read_structure(crystal)


def _text(value: float | None, digits: int = 5) -> str:
    if value is None or not math.isfinite(value):
        return ""
    return f"{value:.{digits}g}"
