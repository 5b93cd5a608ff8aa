"""`equipot study`: many runs from one file, and what comes out of them."""

import shlex
from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("study")(study)


def study(
    file: Annotated[Path, typer.Argument(help="A study's YAML file, or the folder of a study.", show_default=False)],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="KEY=VALUE words over it, such as seeds=[0,1] budget.max_updates=2000 base.model.l_max=1", show_default=False),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the runs, their parameters and the time they will take; run nothing.")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Do what is missing or failed; new seeds, sizes and variants join in.")] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Runs at a time.", show_default="as many as fit")] = None,
    only: Annotated[
        str, typer.Option(help="Do this run alone, by its name or number, in this process: for queueing systems.", metavar="RUN")
    ] = "",
    list_runs: Annotated[bool, typer.Option("--list", help="Print the names of the runs, one per line.")] = False,
) -> None:
    """Train every variant with every size and seed, evaluate all, and gather the results. Exit status 1 where runs failed."""
    words = list(overrides or [])
    if list_runs or dry_run:
        return _list(file, words) if list_runs else _dry_run(file, workers, words)

    from equipot.study.run import run_only, run_study

    if only:
        found = run_only(file, only, words)
        raise typer.Exit({"done": 0, "interrupted": 130}.get(found, 1))
    try:
        outcome = run_study(file, resume, workers, words)
    except KeyboardInterrupt:
        again = ["equipot", "study", str(file), *words, *(["--workers", str(workers)] if workers else []), "--resume"]
        typer.echo(f"stopped; go on with: {shlex.join(again)}", err=True)
        raise typer.Exit(130) from None
    typer.echo(f"{outcome.n_done} of {outcome.n_runs} runs done; results in {outcome.out / 'results.parquet'}")
    for name, reason in outcome.failed.items():
        typer.echo(f"failed: {name}: {reason}", err=True)
    if outcome.failed:
        raise typer.Exit(1)


def _list(file: Path, words: list[str]) -> None:
    from equipot.study.run import load

    for run in load(file, None, words)[1].runs:
        typer.echo(run.name)


def _dry_run(file: Path, workers: int | None, words: list[str]) -> None:
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    from equipot.study.estimate import estimates, in_words
    from equipot.study.executor_local import slots
    from equipot.study.run import load
    from equipot.study.spec import ExecutorSpec
    from equipot.study.state import state

    study_, plan = load(file, workers, words)
    out = Path(study_.spec.out)
    with Console(stderr=True).status("measuring"):
        found = list(estimates(out, plan))
    table = Table(title=f"{plan.name}: {len(found)} runs into {out}", title_justify="left", box=SIMPLE)
    for title in ("run", "structures", "parameters", "updates", "time", "state"):
        table.add_column(title, justify="left" if title in ("run", "state") else "right", no_wrap=True)
    states = {run.name: state(out, plan, run) for run in plan.runs}
    for e in found:
        known = ("-", "-") if e.updates is None else (str(e.n_parameters), str(e.updates))
        table.add_row(e.run.name, str(e.run.size), *known, in_words(e.seconds), states[e.run.name])
    Console().print(table)
    left = [e for e in found if states[e.run.name] not in ("done", "running")]
    total = sum(e.seconds or 0.0 for e in left)
    options = ExecutorSpec.model_validate(plan.executor)
    at_a_time = options.workers or (len(slots(options, len(left))) if options.kind == "local" else 1)
    typer.echo(f"{len(left)} runs to do: {in_words(total)} one after the other, about {in_words(total / at_a_time)} {at_a_time} at a time")
    if any(e.seconds is None for e in left):
        typer.echo("the time of least-squares fits is not in it")
