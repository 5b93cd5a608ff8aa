"""What `equipot train --find-batch-size` says."""

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from equipot.train.batch_size import Largest, Limit, Measured
    from equipot.train.config import RunConfig


def show_batch_sizes(settings: "RunConfig", memory: float | None) -> None:
    """A line for every measurement as it is made, and one for each of the two keys."""
    from equipot.train.batch_size import find_batch_sizes

    for found in find_batch_sizes(settings, memory, _say):
        typer.echo(in_words(found))


def _say(key: str, what: "Measured | Limit") -> None:
    from equipot.train.batch_size import MARGIN, Limit

    if isinstance(what, Limit):
        taken = f"; the program and its data set take {what.taken:.2f}" if what.taken else ""
        typer.echo(f"of {what.gib:.2f} GiB, {100 * MARGIN:.0f} % are left free{taken}")
        return
    begin = f"{key} {what.n}: {what.edges} edges, "
    each = "update" if key == "train.batch_size" else "batch"
    full = what.gib == float("inf")
    typer.echo(
        begin
        + ("too little memory" if full else f"{what.gib:.2f} GiB, {what.ms:.1f} ms per {each}, {what.ms / what.n:.2f} ms per structure")
    )


def in_words(found: "Largest") -> str:
    """The result of one key in one line."""
    best, enough = found.best, found.enough
    each = "update" if found.key == "train.batch_size" else "batch"
    whole = ", which is all of them" if best.n == found.n_structures else ""
    costs = f"{best.gib:.2f} GiB, {best.ms:.1f} ms per {each}, {best.ms / best.n:.2f} per structure"
    pays = f"; above {enough.n} an edge costs no less time" if enough.n < best.n else ""
    return f"largest {found.key}: {best.n}{whole} ({best.edges} edges, {costs}){pays}"
