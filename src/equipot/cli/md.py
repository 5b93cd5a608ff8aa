"""equipot md, equipot relax."""

import sys
import time
from dataclasses import fields
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from equipot.interfaces.md import MDSummary
    from equipot.interfaces.md_log import Sample
    from equipot.interfaces.relax import RelaxStep

_Model = Annotated[Path, typer.Argument(help="Model file (NAME.equipot), or an exported one (NAME.eqn, NAME.pt2).", show_default=False)]
_Structure = Annotated[
    str, typer.Argument(help="Structure: any file ASE reads (its last frame, or FILE@12), .npz, a DeePMD folder.", show_default=False)
]
_Dtype = Annotated[str | None, typer.Option(help="float32 or float64.", show_default="the model's own")]
_Engine = Annotated[str, typer.Option(help="auto, torch or native; auto is native on a CPU where it can run the model.")]
_Device = Annotated[str, typer.Option(help="cpu, cuda …")]
_Force = Annotated[bool, typer.Option("--force", help="Overwrite files that are there.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command("md")(md)
    app.command("relax")(relax)


def md(
    context: typer.Context,
    model: _Model,
    structure: _Structure,
    out: Annotated[
        Path, typer.Option(help="Trajectory: .xyz, .extxyz or .traj. Log and restart file are written beside it.", show_default=False)
    ],
    ensemble: Annotated[str | None, typer.Option(help="nve, langevin, nvt or npt.", show_default="nve")] = None,
    steps: Annotated[int | None, typer.Option(help="Steps in all.", show_default="10000")] = None,
    timestep: Annotated[float | None, typer.Option(help="fs.", show_default="0.5")] = None,
    temperature: Annotated[float | None, typer.Option(help="K; of the thermostat and of drawn velocities.", show_default="300")] = None,
    pressure: Annotated[float | None, typer.Option(help="GPa (npt).", show_default="0")] = None,
    friction: Annotated[float | None, typer.Option(help="1/ps (langevin).", show_default="10")] = None,
    tau: Annotated[float | None, typer.Option(help="fs, of the thermostat (nvt, npt).", show_default="100 timesteps")] = None,
    pressure_tau: Annotated[float | None, typer.Option(help="fs, of the barostat (npt).", show_default="1000 timesteps")] = None,
    barostat: Annotated[
        str | None, typer.Option(help="isotropic or full: may the cell change its shape (npt)?", show_default="isotropic")
    ] = None,
    velocities: Annotated[str | None, typer.Option(help="file, draw or auto: the file's where it has some.", show_default="auto")] = None,
    seed: Annotated[int | None, typer.Option(help="Of velocities and thermostat.", show_default="0")] = None,
    interval: Annotated[int | None, typer.Option(help="Steps between frames.", show_default="10")] = None,
    restart_interval: Annotated[int | None, typer.Option(help="Steps between restart files.", show_default="1000")] = None,
    max_temperature: Annotated[
        float | None, typer.Option(help="K; above it the run has blown up and ends.", show_default="20 temperatures, at least 10000")
    ] = None,
    dtype: _Dtype = None,
    engine: _Engine = "auto",
    device: _Device = "cpu",
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out exactly; --steps may be more than before.")] = False,
    force: _Force = False,
) -> None:
    """Molecular dynamics. Killed or stopped by Ctrl-C, a run continues with --resume to the same trajectory."""
    from equipot.errors import UserError
    from equipot.interfaces.md import resume_md, run_md
    from equipot.interfaces.md_settings import MDSettings

    if resume and force:
        raise UserError("--resume continues a run and --force overwrites it: give one of them")
    given = {f.name: context.params[f.name] for f in fields(MDSettings) if context.params[f.name] is not None}
    progress = Progress()
    try:
        if resume:
            summary = resume_md(model, out, given, engine=engine, device=device, on_sample=progress)
        else:
            summary = run_md(model, structure, out, MDSettings(**given), engine=engine, device=device, force=force, on_sample=progress)
    finally:
        progress.end()
    _report(summary)
    if not summary.finished:
        raise typer.Exit(130)


def relax(
    model: _Model,
    structure: _Structure,
    out: Annotated[Path, typer.Option(help="The relaxed structure, in the format of its suffix: .xyz, .cif, .vasp …", show_default=False)],
    cell: Annotated[bool, typer.Option("--cell", help="Relax the cell too.")] = False,
    pressure: Annotated[float, typer.Option(help="GPa, with --cell.")] = 0.0,
    fmax: Annotated[float, typer.Option(help="eV/Å: converged when no force is larger.")] = 0.01,
    smax: Annotated[float, typer.Option(help="GPa: and, with --cell, no component of the stress is further off.")] = 0.05,
    steps: Annotated[int, typer.Option(help="At most.")] = 500,
    optimizer: Annotated[str, typer.Option(help="fire, bfgs or lbfgs.")] = "fire",
    dtype: _Dtype = None,
    engine: _Engine = "auto",
    device: _Device = "cpu",
    force: _Force = False,
) -> None:
    """Relax a structure. Exit status 1 if it did not converge; the last structure is written all the same."""
    from equipot.interfaces.relax import relax as run

    summary = run(
        model, structure, out, cell=cell, pressure=pressure, fmax=fmax, smax=smax, steps=steps,
        optimizer=optimizer, dtype=dtype, engine=engine, device=device, force=force, on_step=_show_relaxation,
    )  # fmt: skip
    last = summary.last
    state = "converged" if summary.converged else "NOT converged"
    stress = "" if last.max_stress is None else f", largest stress {last.max_stress:.3g} GPa off"
    energies = f"energy {summary.first.energy:.6f} -> {last.energy:.6f} eV"
    typer.echo(f"{state} after {last.step} steps: {energies}, largest force {last.max_force:.4g} eV/Å{stress}")
    typer.echo(f"structure {summary.structure}, path {summary.path}")
    if not summary.converged:
        raise typer.Exit(1)


def _report(summary: "MDSummary") -> None:
    """What became of a run, on standard output."""
    from equipot.interfaces.md_log import read_log

    log = read_log(summary.files.log)
    time_ps = summary.step * summary.settings.timestep * 1e-3
    if summary.finished:
        typer.echo(f"finished: {summary.step} steps, {time_ps:.6g} ps")
    else:
        typer.echo(f"stopped at step {summary.step} of {summary.settings.steps} ({time_ps:.6g} ps): continue with --resume")
    drift = float(log["drift_meV_per_atom"][-1])
    typer.echo(f"mean temperature {log['temperature_K'].mean():.1f} K" + ("" if isnan(drift) else f", drift {drift:+.4f} meV/atom"))
    typer.echo(f"trajectory {summary.files.trajectory} ({len(log['step'])} frames), log {summary.files.log}")


def _show_relaxation(step: "RelaxStep") -> None:
    stress = "" if step.max_stress is None else f"  stress {step.max_stress:.3g} GPa off"
    typer.echo(f"step {step.step:4d}  energy {step.energy:.6f} eV  force {step.max_force:.4g} eV/Å{stress}", err=True)


class Progress:
    """The state of a run on standard error: one line that is rewritten on a terminal, at most a line in ten seconds elsewhere."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._next = 0.0
        self._before: tuple[int, float] | None = None

    def __call__(self, sample: "Sample", steps: int) -> None:
        """Show `sample` of a run of `steps` steps in all."""
        now = time.monotonic()
        if self._before is None:
            self._before = (sample.step, now)
        if now < self._next and sample.step != steps:
            return
        self._next = now + (0.5 if self._terminal else 10.0)
        line = self._line(sample, steps, now)
        sys.stderr.write(f"\r{line:<110}" if self._terminal else f"{line}\n")
        sys.stderr.flush()

    def _line(self, sample: "Sample", steps: int, now: float) -> str:
        parts = [f"step {sample.step}/{steps}", f"{sample.time_ps:.3f} ps", f"{sample.temperature_K:.0f} K"]
        parts.append(f"{sample.total_eV_per_atom:.5f} eV/atom")
        if sample.pressure_GPa is not None:
            parts.append(f"{sample.pressure_GPa:.2f} GPa")
        if sample.drift_meV_per_atom is not None:
            parts.append(f"drift {sample.drift_meV_per_atom:+.3f} meV/atom")
        if sample.ns_per_day is not None:
            parts.append(f"{sample.steps_per_s:.1f} steps/s = {sample.ns_per_day:.3g} ns/day")
        done, seconds = sample.step - self._before[0], now - self._before[1]
        if done:
            parts.append(f"{_clock(seconds * (steps - sample.step) / done)} left")
        return "  ".join(parts)

    def end(self) -> None:
        """Leave the rewritten line."""
        if self._terminal and self._before:
            sys.stderr.write("\n")


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
