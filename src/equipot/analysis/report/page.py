"""From content to one HTML file that needs nothing else."""

import json
import math
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from equipot import __version__
from equipot.analysis.report import citation, data, dynamics, errors, learning, observed, sureness, training, trust
from equipot.analysis.report.blocks import Block, Code, Facts, Note, Section, Tile, significant
from equipot.analysis.report.content import Content

HERE = Path(__file__).parent
TEMPLATE, ASSETS = HERE / "template.html", HERE / "assets"
SECTIONS = (
    *(learning.learning, errors.errors, trust.checks, sureness.sureness, dynamics.dynamics, observed.observables),
    *(training.training, training.model, data.data, training.timing),
)


def render(content: Content) -> str:
    """The page on a run, an evaluation or a simulation."""
    sections = [section for make in SECTIONS if (section := make(content)) is not None] + [origin(content)]
    return compose(content.title, subtitle(content), tiles(content), sections)


def compose(title: str, subtitle: str, tiles: list[Tile], sections: list[Section]) -> str:
    """The page: everything inline, plotly.js and the 3D viewer once and where they are needed."""
    from jinja2 import Environment, select_autoescape
    from plotly.offline import get_plotlyjs

    environment = Environment(autoescape=select_autoescape(default=True, default_for_string=True), trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    blocks = [b for s in sections for b in s.blocks]
    figures = {b.name: {"data": b.data, "layout": b.layout} for b in blocks if b.kind == "figure"}
    views = {b.name: {"animated": b.animated, "scenes": [asdict(scene) for scene in b.scenes]} for b in blocks if b.kind == "viewer"}
    return template.render(
        title=title,
        subtitle=subtitle,
        tiles=tiles,
        sections=sections,
        css=_asset("page.css"),
        figures=_json(figures),
        views=_json(views) if views else "",
        scripts=[
            *([get_plotlyjs()] if figures else []),
            _asset("page.js"),
            *([_asset("vendor/3Dmol-min.js"), _asset("viewer.js")] if views else []),
        ],
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        version=__version__,
    )


def subtitle(content: Content) -> str:
    """What the page is about, in one line."""
    if content.potential is None:
        return str(content.path)
    spec = content.potential.spec
    from ase.data import chemical_symbols

    known = content.provenance
    trained = f", trained on {known['n_train']} structures" if known.get("n_train") else ""
    return f"{spec.preset or 'own'} potential for {', '.join(chemical_symbols[z] for z in spec.elements)}{trained}"


def tiles(content: Content) -> list[Tile]:
    """The figures a reader wants first."""
    found = []
    measures = errors.all_errors(content)
    tests = {name: m for name, m in measures.items() if name not in ("train", "validation")} or measures
    for name, m in list(tests.items())[:3]:
        if "forces_mae" in m:
            found.append(Tile(significant(1000 * m["forces_mae"]), "meV/Å", f"force MAE, {name}"))
        if "energy_per_atom_mae" in m:
            found.append(Tile(significant(1000 * m["energy_per_atom_mae"]), "meV/atom", f"energy MAE, {name}"))
    laws = [r for r in content.checks if r["kind"] == "law"]
    odd = [r for r in content.checks if r["kind"] == "behaviour" and not r["passed"]]
    if laws:
        held = sum(r["passed"] for r in laws)
        found.append(Tile(f"{held} of {len(laws)}", "", "physical laws hold", "good" if held == len(laws) else "bad"))
        found.append(Tile(str(len(odd)), "", "warnings on behaviour", "warn" if odd else "good"))
    drifts = [d for run in content.simulations if math.isfinite(d := run.drift)]
    if drifts:
        found.append(Tile(significant(max(drifts, key=abs), 2), "meV/atom", "energy drift in NVE"))
    elapsed = content.metrics.get("elapsed_s")
    if elapsed is not None and len(elapsed):
        found.append(Tile(training.duration(float(elapsed[-1])), "", "training time"))
    return found


def origin(content: Content) -> Section:
    """Versions, how to cite, and what is missing from the page."""
    known = content.provenance
    facts = {
        "page written by": f"equipot {__version__}",
        "model written by": f"equipot {content.header['equipot']}, torch {known.get('torch', 'unknown')}" if content.header else "",
        "model trained": str(known.get("trained", "")),
        "made from": str(content.path),
    }
    cited = citation.papers(content.potential.spec.preset if content.potential is not None else "")
    blocks: list[Block] = [Facts({k: v for k, v in facts.items() if v})]
    blocks.append(Note("To cite: the program with its version, the data with theirs, and " + "; ".join(p.words for p in cited) + "."))
    blocks.append(Code("BibTeX", "\n\n".join([citation.program(__version__), *(p.bibtex for p in cited)])))
    blocks += [Note(words, "warn") for words in content.missing + hints(content)]
    return Section("origin", "Origin and citation", blocks)


def hints(content: Content) -> list[str]:
    """Parts the page could have, and the command that makes each."""
    model = "MODEL" if content.potential is None else str(content.path / "best.equipot" if content.path.is_dir() else content.path)
    found = []
    if not content.checks:
        found.append(f"Physics checks are not in this page: equipot check {model} --json FOLDER/check.json")
    if not content.simulations:
        found.append(f"No dynamics in this page: equipot md {model} STRUCTURE --out FOLDER/md.extxyz adds it.")
    if content.simulations and not content.observables:
        found.append("No observables: equipot observe TRAJECTORY --out FOLDER/observables adds radial distributions, diffusion, spectra.")
    if not content.sets:
        found.append(f"No parity plots: equipot evaluate {model} DATA --predictions FILE.extxyz, then equipot report FILE.extxyz")
    return found


def _asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")


def _json(data: Any) -> str:
    """JSON that can stand inside a script element."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
