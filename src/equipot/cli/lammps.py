"""`equipot lammps`: the plugin for LAMMPS, its path and the lines of an input script."""

from pathlib import Path
from typing import Annotated

import typer

_Lammps = Annotated[
    Path | None,
    typer.Option(
        "--lammps", help="Another LAMMPS than this environment's: executable, environment, installation or source tree.", show_default=False
    ),
]
_Output = Annotated[
    Path | None, typer.Option("-o", "--output", help="Folder of the plugin. [default: in the user's cache]", show_default=False)
]
_Model = Annotated[Path | None, typer.Option("--model", help="Exported model (NAME.eqn) to write the lines for.", show_default=False)]


def register(app: typer.Typer) -> None:
    """Adds the group to the command tree."""
    group = typer.Typer(help="Models in LAMMPS: where the plugin is, the lines of an input script; build compiles it.")

    @group.callback(invoke_without_command=True)
    def lammps(
        context: typer.Context,
        path: _Lammps = None,
        output: _Output = None,
        model: _Model = None,
        plugin_path: Annotated[bool, typer.Option("--plugin-path", help="Print the plugin's path alone.")] = False,
    ) -> None:
        """Print the plugin's path and what an input script and the shell need to use it."""
        if context.invoked_subcommand is None:
            show(path, output, model, plugin_path)

    group.command("build")(build)
    app.add_typer(group, name="lammps")


def build(path: _Lammps = None, output: _Output = None, model: _Model = None) -> None:
    """Compile the plugin for the LAMMPS of this environment, or for another one; a C++ compiler is all it needs."""
    from equipot.interfaces import lammps_plugin
    from equipot.interfaces.lammps_found import find_lammps

    lammps = find_lammps(path)
    lammps_plugin.check(lammps, lammps_plugin.build(lammps, output))
    show(path, output, model)


def show(path: Path | None, output: Path | None, model: Path | None, path_only: bool = False) -> None:
    """The plugin that was built for this LAMMPS, and how it is used; raises UserError if there is none."""
    from equipot.errors import UserError
    from equipot.interfaces.lammps_found import find_lammps
    from equipot.interfaces.lammps_plugin import input_lines, plugin_path

    lammps = find_lammps(path)
    plugin = plugin_path(lammps, output)
    if not plugin.is_file():
        options = "".join(f" {name} {value}" for name, value in (("--lammps", path), ("--output", output)) if value)
        raise UserError(f"no plugin for LAMMPS {lammps.version} and this equipot yet: run equipot lammps build{options}")
    if path_only:
        typer.echo(plugin)
        return
    typer.echo(f"plugin {plugin}\nfor LAMMPS {lammps.version}, {lammps.headers}\n")
    typer.echo("Input script (units metal or real, newton on):")
    for line in input_lines(plugin, str(model or "MODEL.eqn"), _elements(model)):
        typer.echo(f"  {line}")
    typer.echo("\nShell, one rank per core:")
    if lammps.library_folder:
        typer.echo(f"  export LD_LIBRARY_PATH={lammps.library_folder}${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}")
    typer.echo("  export OMP_NUM_THREADS=1")
    typer.echo(f"  {lammps.mpirun or 'mpirun'} -np 2 {lammps.executable or 'lmp'} -in INPUT")


def _elements(model: Path | None) -> str:
    """The model's elements, one for each atom type: the user puts them in their order."""
    if model is None:
        return "ELEMENT ...   # one for each atom type; the model: equipot export MODEL.equipot --to lammps -o MODEL.eqn"
    from ase.data import chemical_symbols

    from equipot.engine.file import read_native

    return " ".join(chemical_symbols[z] for z in read_native(model).header["elements"]) + "   # one for each atom type, in the types' order"
