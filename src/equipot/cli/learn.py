"""`equipot learn`: active learning with an ensemble."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from equipot.learn.run import Outcome


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("learn")(learn)


def learn(
    config: Annotated[Path, typer.Argument(help="A YAML file of active learning, or the folder of one.", show_default=False)],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="KEY=VALUE words over it, such as select.strategy=random rounds=3", show_default=False)
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where it stopped; rounds, goal and budget may be others.")] = False,
    against: Annotated[
        list[Path] | None, typer.Option(help="Folders of other learnings to draw into the same picture.", show_default=False)
    ] = None,
) -> None:
    """Explore with an ensemble, label what it is unsure of, train again, and repeat until the goal or the budget is reached."""
    from equipot.errors import UserError
    from equipot.learn.config_file import read_plan

    words = list(overrides or [])
    plan = read_plan(config, words)
    for folder in against or []:
        if not (folder / "rounds.csv").is_file():
            raise UserError(f"--against {folder}: holds no learning: there is no rounds.csv in it")

    from equipot.learn.run import learn as run
    from equipot.learn.table import PICTURE, draw
    from equipot.train.callbacks import Interrupted

    try:
        outcome = run(plan, resume)
    except (Interrupted, KeyboardInterrupt):
        typer.echo(f"stopped; go on with: {shlex.join(['equipot', 'learn', str(config), *words])} --resume", err=True)
        raise typer.Exit(130) from None
    from rich.console import Console

    Console().print(_table(outcome))
    if against:
        draw([outcome.out, *against], outcome.out / PICTURE)
    typer.echo(f"{outcome.status}: {outcome.reason}")
    typer.echo(f"{outcome.out / f'round-{len(outcome.rounds) - 1}' / 'train' / 'best.equipot'}")


def _table(outcome: "Outcome") -> "Table":
    from rich.box import SIMPLE
    from rich.table import Table

    sets = list(outcome.rounds[0]["train"]["errors"])
    kinds = ("energy_per_atom", "forces") if len(sets) < 2 else ("forces",)  # of more there is no room for both: they are in rounds.csv
    table = Table(title="rounds: MAE in meV/atom and meV/Å", title_justify="left", box=SIMPLE)
    for title in ("round", "labels", *(f"{name}\n{kind.split('_')[0]}" for name in sets for kind in kinds), "above", "taken", "failed"):
        table.add_column(title, justify="right", no_wrap=True)
    for number, record in enumerate(outcome.rounds):
        errors = [_milli(record["train"]["errors"][name], m) for name in sets for m in (f"{kind}_mae" for kind in kinds)]
        explored, selected, labelled = (record.get(step, {}) for step in ("explore", "select", "label"))
        above = f"{explored['n_above']} of {explored['n_samples']}" if explored else "-"
        table.add_row(
            str(number),
            str(record["train"]["n_known"]),
            *errors,
            above,
            str(selected.get("n_selected", "-")),
            str(labelled.get("n_failed", "-")),
        )
    return table


def _milli(errors: dict[str, float], measure: str) -> str:
    return f"{1000 * errors[measure]:.4g}" if measure in errors else "-"
