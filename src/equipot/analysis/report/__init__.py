"""One self-contained HTML page on a run, an evaluation or a simulation."""

from collections.abc import Callable
from pathlib import Path

from equipot.analysis.report.collect import collect
from equipot.analysis.report.compute import complete
from equipot.analysis.report.content import Content
from equipot.analysis.report.page import render

__all__ = ["Content", "collect", "complete", "render", "write_report"]


def write_report(
    path: str | Path, output: str | Path | None = None, compute: bool = True, announce: Callable[[str], None] = lambda _: None
) -> Path:
    """Write the page on `path` (see `collect`) and return its file: `output`, or report.html in the folder, or beside the file.

    compute: of a run, predict its sets and run its checks where they are not there. `announce` hears of what is being done.
    Raises UserError where there is nothing to report, or the page could not be written.
    """
    from equipot.analysis.files import require_folder
    from equipot.model.file import write_whole

    path = Path(path)
    default = path / "report.html" if path.is_dir() else path.with_name(path.name.split(".")[0] + "-report.html")
    target = Path(output) if output is not None else default
    require_folder(target)
    content = collect(path)
    if compute:
        complete(content, announce)
    announce("writing the page")
    write_whole(target, render(content).encode())
    return target
