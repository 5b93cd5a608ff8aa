"""What comes out of a study: tables, plots and one page with all of it, written into its folder."""

import logging
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from equipot import __version__
from equipot.analysis.report.blocks import Block, Code, Facts, Note, Section, Tile
from equipot.analysis.report.page import compose
from equipot.errors import UserError
from equipot.study import curves, drawing_files, plots, sheets, significance, spread
from equipot.study.drawing import Drawing, figure
from equipot.study.measured import COST, Measured
from equipot.study.probe_curves import read_curves
from equipot.study.tables import FORMATS, Sheet, block
from equipot.whole_file import write_whole

log = logging.getLogger("equipot.study")
REPORT, TABLES, PLOTS = "report.html", "tables", "plots"
Part = Sheet | Drawing | Note


def write(out: str | Path) -> Path:
    """Write tables (`tables/`, each as .md, .csv and .tex), plots (`plots/`, .png and .pdf) and report.html from results.parquet.

    Returns the page. What an earlier call wrote is replaced. Raises UserError where there are no results, or nothing has been measured yet.
    """
    from equipot.study.results import read_results

    out = Path(out)
    measured = Measured.from_records(read_results(out).to_dict("records"))
    return write_measured(out, measured)


def write_measured(out: Path, measured: Measured) -> Path:
    """The same from rows that have been read."""
    if not measured.rows:
        raise UserError(f"{out}: no run of this study has ended yet: there is nothing to report")
    sections = [(name, title, parts) for name, title, parts in _sections(out, measured) if parts]
    everything = [part for _, _, parts in sections for part in parts]
    in_files = [s for n in measured.sizes[:-1] for k in sheets.STATISTICS if (s := sheets.errors(measured, n, k))]
    _write_tables(out / TABLES, [sheets.everything(measured), *in_files, *(p for p in everything if isinstance(p, Sheet))])
    missing = _write_plots(out / PLOTS, [p for p in everything if isinstance(p, Drawing)])
    page = [Section(name, title, [_block(part) for part in parts]) for name, title, parts in sections]
    page.append(_origin(out, missing))
    write_whole(out / REPORT, compose(_name(out), _subtitle(measured), _tiles(measured), page).encode())
    return out / REPORT


def _sections(out: Path, measured: Measured) -> Iterator[tuple[str, str, list[Part]]]:
    largest = measured.sizes[-1]
    yield "findings", "What can be said", _findings(measured, largest)
    yield "errors", "Errors", [s for k in sheets.STATISTICS if (s := sheets.errors(measured, largest, k))]
    measures = [(where, f"{q}_{plots.STATISTIC}") for where in measured.sets for q in sheets.QUANTITIES]
    tables = [s for where, m in measures if m in measured.measures(where) and (s := sheets.curve(measured, where, m))]
    yield "curves", "Learning curves", [*plots.learning_curves(measured), *tables]
    apart = sheets.spreads(measured, largest, plots.STATISTIC)
    yield "domains", "In and out of domain", [*plots.ablations(measured, largest), *([apart] if apart else [])]
    cost = sheets.costs(measured)
    yield "cost", "Cost", [*plots.costs(measured, largest), *([cost] if cost else [])]
    yield "probes", "Probes", [part for name in measured.probes for part in _probe(out, measured, name)]
    yield "runs", "Runs", [sheets.runs(measured)]


def _findings(measured: Measured, size: int) -> list[Part]:
    """Sentences: winners, slopes, spreads; each with the claim it allows."""
    words = []
    for where in measured.sets:
        for quantity, name in sheets.QUANTITIES.items():
            judged = sheets.verdict(measured, where, f"{quantity}_{plots.STATISTIC}", size)
            if judged is not None and len(measured.variants) > 1:
                lead = "Best" if judged.significant else "Smallest mean, no winner"
                words.append(f"{where}, {name}, {size} structures. {lead}: {judged.best}. {judged.why}.")
    for where in measured.sets:
        laws = {v: law for v in measured.variants if (law := curves.fit(measured.curve(where, f"forces_{plots.STATISTIC}", v)))}
        steepest = curves.steepest(laws)
        if steepest is not None and len(laws) > 1:
            lead = "Steepest" if steepest.significant else "Largest exponent, no claim"
            words.append(f"Learning curve of the forces, {where}. {lead}: {steepest.best}. {steepest.why}.")
    words += [c.words for c in spread.compare(measured, f"forces_{plots.STATISTIC}", size)]
    return [Note(f"{w[0].upper()}{w[1:]}") for w in words] + [Note(m) for m in _methods(measured)]


def _methods(measured: Measured) -> list[str]:
    return [significance.METHOD, *([curves.METHOD] if len(measured.sizes) > 1 else [])]


def _probe(out: Path, measured: Measured, name: str) -> list[Part]:
    size = measured.sizes[-1]
    drawn = plots.probes(name, read_curves(out, measured, name, size), measured.variants)
    sheet = sheets.probe(measured, name, size)
    return [*drawn, *([sheet] if sheet else [])]


def _block(part: Part) -> Block:
    if isinstance(part, Sheet):
        return block(part)
    return figure(replace(part, name=_file_name(part.name))) if isinstance(part, Drawing) else part


def _write_tables(folder: Path, made: list[Sheet]) -> None:
    _empty(folder, tuple(FORMATS))
    for sheet in made:
        for suffix, form in FORMATS.items():
            write_whole(folder / f"{_file_name(sheet.name)}{suffix}", form(sheet).encode())


def _write_plots(folder: Path, drawings: list[Drawing]) -> list[str]:
    """The plots as files; what could not be done, in words."""
    _empty(folder, (".png", ".pdf"))
    try:
        for drawing in drawings:
            drawing_files.write(replace(drawing, name=_file_name(drawing.name)), folder)
    except UserError as error:
        log.warning("%s", error)
        return [f"{error}."]
    return []


def _empty(folder: Path, suffixes: tuple[str, ...]) -> None:
    """Remove what an earlier report wrote: a variant or set that is gone shall not live on in a file."""
    for file in folder.glob("*") if folder.is_dir() else ():
        if file.suffix in suffixes:
            file.unlink()


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.+=-]+", "_", name)


def _tiles(measured: Measured) -> list[Tile]:
    failed = {r.run for r in measured.failures if not r.set}
    settled = [r.value for r in measured.rows if r.set == COST and r.measure == "converged"]
    found = [
        Tile(str(len(measured.runs) - len(failed)), "", "runs done"),
        Tile(str(len(failed)), "", "runs failed", "bad" if failed else "good"),
        Tile(str(len(measured.variants)), "", "variants"),
        Tile(str(len(measured.sizes)), "", "sizes"),
        Tile(str(len(measured.seeds)), "", "seeds", "" if len(measured.seeds) >= significance.FEWEST else "warn"),
    ]
    return found + ([Tile(f"{sum(v > 0.5 for v in settled)} of {len(settled)}", "", "runs converged")] if settled else [])


def _subtitle(measured: Measured) -> str:
    sizes = ", ".join(map(str, measured.sizes))
    return f"Study of {len(measured.variants)} variants on {sizes} training structures with {len(measured.seeds)} seeds"


def _name(out: Path) -> str:
    return str(_definition(out).get("name") or out.resolve().name)


def _definition(out: Path) -> dict:
    import yaml

    try:
        found = yaml.safe_load((out / "study.yaml").read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    return found if isinstance(found, dict) else {}


def _origin(out: Path, missing: list[str]) -> Section:
    blocks: list[Block] = [Facts({"page written by": f"equipot {__version__}", "made from": str(out)})]
    file = out / "study.yaml"
    if file.is_file():
        blocks.append(Code("study.yaml", file.read_text(encoding="utf-8")))
    blocks.append(Note(f"Every table is in {TABLES}/ as Markdown, CSV and LaTeX, every plot in {PLOTS}/ as PNG and PDF."))
    return Section("origin", "Origin", blocks + [Note(words, "warn") for words in missing])
