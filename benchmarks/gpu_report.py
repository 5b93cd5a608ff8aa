"""What `benchmarks/gpu.py` found, as lines, tables and summaries."""

import math
import statistics
import sys
from dataclasses import dataclass, field

MODES = ("forward", "with backward", "with double backward")


@dataclass
class Result:
    """One case: `times[name][eager or captured]` in ms per mode; `notes[name]` where something could not be run."""

    case: dict[str, object]
    limits: list[float]
    times: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    errors: dict[str, float] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


def cell(times: list[float]) -> str:
    """Three numbers."""
    return " / ".join(f"{t:.3g}" for t in times) if times else "–"


def report(result: Result) -> None:
    """A line as it is found."""
    shown = {name: {way: cell(t) for way, t in ways.items()} for name, ways in result.times.items()}
    print(
        {k: v for k, v in result.case.items() if k not in ("bytes", "operations")},
        shown,
        result.errors,
        result.notes,
        file=sys.stderr,
        flush=True,
    )


def ratios(result: Result, name: str, way: str) -> list[float]:
    """How many times slower than equipot, per mode."""
    ours = result.times.get("equipot", {}).get(way, [])
    return [a / b for a, b in zip(result.times.get(name, {}).get(way, []), ours, strict=False)]


def table(results: list[Result], way: str) -> list[str]:
    """Equipot's times, their part of the limit, and every other's as a multiple."""
    names = [
        n
        for n in dict.fromkeys(n for r in results for n in r.times)
        if n != "equipot" and any(r.times.get(n, {}).get(way) for r in results)
    ]
    shown = [k for k in results[0].case if k not in ("bytes", "operations")]
    lines = [f"| {' | '.join([*shown, 'equipot, ms', 'limit / time', *names])} |", "|---" * (len(shown) + len(names) + 2) + "|"]
    for r in results:
        ours = r.times.get("equipot", {}).get(way, [])
        part = [limit / t for limit, t in zip(r.limits, ours, strict=False)]
        lines.append(
            f"| {' | '.join([*(str(r.case[k]) for k in shown), cell(ours), cell(part), *(cell(ratios(r, n, way)) for n in names)])} |"
        )
    return lines


def summary(results: list[Result], way: str) -> list[str]:
    """Geometric mean and minimum of the ratios."""
    lines = ["| against | " + " | ".join(f"{m}: mean, least" for m in MODES) + " |", "|---|---|---|---|"]
    fused = [n for n in dict.fromkeys(n for r in results for n in r.times) if n.startswith(("openeq", "cueq"))]
    rows = {n: [ratios(r, n, way) for r in results] for n in dict.fromkeys(n for r in results for n in r.times) if n != "equipot"}
    if fused:
        everything = [[ratios(r, n, way) for n in fused] for r in results]
        rows["the best of the fused"] = [
            [min(x[m] for x in r if len(x) > m) for m in range(3) if any(len(x) > m for x in r)] for r in everything
        ]
    for name, found in rows.items():
        columns = [[x[m] for x in found if len(x) > m] for m in range(3)]
        if any(columns):
            lines.append(f"| {name} | {' | '.join(f'{statistics.geometric_mean(c):.2f}, {min(c):.2f}' if c else '–' for c in columns)} |")
    return lines


def markdown(header: dict, sections: dict[str, list[Result]]) -> str:
    """Everything as a page."""
    lines = [" · ".join(f"{k} {v}" for k, v in header.items()), ""]
    for title, results in sections.items():
        for way in ("captured", "eager"):
            if results:
                lines += [f"### {title}, {way}", "", *table(results, way), "", *summary(results, way), ""]
        worst = max((e for r in results for e in r.errors.values()), default=math.nan)
        lines += [f"Largest distance found between results: {worst:.1e}", ""]
    notes = sorted({f"{n}: {text}" for results in sections.values() for r in results for n, text in r.notes.items()})
    return "\n".join([*lines, *(f"- {n}" for n in notes), ""])
