"""What preflight says: findings, counts of labels, and both as a report."""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import PurePath
from typing import Literal

from rich.console import Console, ConsoleOptions, RenderResult
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from equipot.data.frame import Frame
from equipot.errors import UserError

Level = Literal["error", "warning", "note"]
COLOURS = {"error": "bold red", "warning": "yellow", "note": "cyan"}
WIDE = 110  # columns of a terminal that has room for everything


@dataclass(frozen=True)
class Part:
    """The frames of one file in one role ("train", "validation" or "test NAME"), isolated atoms apart."""

    role: str
    file: str
    frames: list[Frame]
    isolated: list[Frame]

    @property
    def is_train(self) -> bool:
        return self.role == "train"

    @property
    def is_test(self) -> bool:
        return self.role.startswith("test")


@dataclass(frozen=True)
class Finding:
    """One thing found: how bad, a short code, what it is and how to mend it, and where (the first or worst frame, counted from 0)."""

    level: Level
    code: str
    message: str
    file: str = ""
    frame: int | None = None
    frames: tuple[int, ...] = ()  # all frames of the file it is true of

    @classmethod
    def of_frames(cls, level: Level, code: str, message: str, file: str, frames: Sequence[Frame], worst: Frame | None = None) -> "Finding":
        """A finding true of several frames of a file, shown at the worst of them or the first."""
        shown = worst if worst is not None else frames[0]
        return cls(level, code, message, file, shown.index, tuple(f.index for f in frames if f.index is not None))

    @property
    def where(self) -> str:
        parts = [self.file] if self.file else []
        parts += [f"frame {self.frame}"] if self.frame is not None else []
        more = len(self.frames) - 1
        return ", ".join(parts) + (f" (and {more} more)" if more > 0 else "")

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" if self.where else self.message


@dataclass(frozen=True)
class LabelCount:
    """How many structures of a file carry each label."""

    file: str
    role: str
    n_frames: int
    n_atoms: int
    labels: dict[str, int]
    n_isolated: int
    config_types: dict[str, int]
    elements: list[str]


@dataclass(frozen=True)
class Report:
    """The findings of preflight, the worst first, and the labels counted per file; a rich console prints it as tables."""

    findings: list[Finding]
    counts: list[LabelCount]

    @property
    def errors(self) -> list[Finding]:
        return [f for f in self.findings if f.level == "error"]

    @property
    def warnings(self) -> list[Finding]:
        return [f for f in self.findings if f.level == "warning"]

    def raise_errors(self) -> None:
        """Raises UserError with the first error and how many more there are, if there are any."""
        errors = self.errors
        if errors:
            more = (
                f" (and {len(errors) - 1} more error{'s' if len(errors) > 2 else ''}: see `equipot data check`)" if len(errors) > 1 else ""
            )
            raise UserError(f"{errors[0]}{more}")

    def to_dict(self) -> dict:
        """Plain data for JSON."""
        return {"findings": [asdict(f) for f in self.findings], "counts": [asdict(c) for c in self.counts]}

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield counts_table(self.counts, wide=options.max_width >= WIDE)
        for finding in self.findings:
            yield Text.assemble((f"{finding.level}", COLOURS[finding.level]), (f" [{finding.code}] ", "dim"), str(finding))
        if not self.findings:
            yield Text("nothing found", "green")


def counts_table(counts: Sequence[LabelCount], wide: bool = True) -> Table:
    """Labels per file and property; elements and config types too where there is room."""
    table = Table(title="labels: structures that have them", title_justify="left")
    table.add_column("file", overflow="fold")
    table.add_column("set", overflow="fold", min_width=5)
    for name in ("structures", "energy", "forces", "stress", "isolated"):
        table.add_column(name, justify="right", no_wrap=True)
    if wide:
        table.add_column("elements", overflow="fold")
        table.add_column("config_type", overflow="fold")
    names = short_names([c.file for c in counts])
    for c in counts:
        kinds = escape(", ".join(f"{kind} {n}" for kind, n in c.config_types.items()))
        labels = [str(c.labels[name]) for name in ("energy", "forces", "stress")]
        table.add_row(
            escape(names[c.file]),
            escape(c.role),
            str(c.n_frames),
            *labels,
            str(c.n_isolated),
            *([" ".join(c.elements), kinds] if wide else []),
        )
    return table


def short_names(files: Sequence[str]) -> dict[str, str]:
    """Each file without the folders that all of them share."""
    paths = {file: PurePath(file) for file in files}
    if len({p.is_absolute() for p in paths.values()}) != 1:
        return {file: file for file in files}
    common = os.path.commonpath([p.parent for p in paths.values()])
    return {file: str(p.relative_to(common)) if common else file for file, p in paths.items()}
