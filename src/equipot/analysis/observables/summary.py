"""A results' folder for those who show it: figures as plotly takes them, tables and remarks, all plain data."""

from pathlib import Path
from typing import Any

from equipot.analysis.observables.write import read_folder
from equipot.analysis.palette import COLOURS, GREY


def summary(folder: str | Path) -> dict[str, Any]:
    """What `equipot observe` wrote to `folder`, ready to be shown.

    `title`; `facts` {name: text}; `figures`, each with `name` (unique), `title`, `data`, `layout` (plotly) and `caption`; `tables`, each with
    `name`, `title`, `columns`, `rows` of numbers, texts and None; `notes` [text]; `missing` {observable: reason}.
    Raises UserError where the folder holds no results.
    """
    content = read_folder(folder)
    figures = [f for name, observable in content["observables"].items() for f in _figures(name, observable)]
    return {
        "title": content["trajectory"]["name"],
        "facts": _facts(content),
        "figures": figures,
        "tables": [t for t in (_values(content), _overlaps(content), *_matrices(content)) if t["rows"]],
        "notes": content["notes"] + [note for o in content["observables"].values() for note in o["notes"]],
        "missing": content["missing"],
    }


def _facts(content: dict[str, Any]) -> dict[str, str]:
    found = {}
    for key in ("trajectory", "reference"):
        side = content[key]
        if side:
            formula = " ".join(f"{e}{n}" for e, n in side["elements"].items())
            length = "" if side["length_ps"] is None else f", {side['length_ps']:.4g} ps, a frame every {side['interval_fs']:g} fs"
            found[key] = f"{side['name']}: {side['frames']} frames of {formula}{length}"
    return found


def _figures(name: str, observable: dict[str, Any]) -> list[dict[str, Any]]:
    """One figure for curves that belong together, else one each."""
    groups = [observable["curves"]] if observable["together"] else [[c] for c in observable["curves"]]
    beside = {c["name"]: c for c in observable["reference"]}
    figures = []
    for group in groups:
        if not group:
            continue
        alone = len(observable["curves"]) == 1 or observable["together"]
        many = len(group) > len(COLOURS) or bool(observable["ticks"])
        data: list[dict[str, Any]] = []
        for i, curve in enumerate(group):
            colour = COLOURS[0 if many else i % len(COLOURS)]
            if curve["name"] in beside:
                data += _traces(
                    beside[curve["name"]], GREY if len(group) == 1 else colour, _label("reference", curve, group), "dash", not many
                )
            data += _traces(
                curve, colour, _label("trajectory", curve, group), "solid", not many and (len(group) > 1 or curve["name"] in beside)
            )
        layout = {"xaxis": {"title": {"text": observable["x"]}}, "yaxis": {"title": {"text": observable["y"]}}}
        if observable["ticks"]:
            layout["xaxis"] |= {"tickvals": [t[0] for t in observable["ticks"]], "ticktext": [t[1] for t in observable["ticks"]]}
        title = observable["title"] if alone else f"{observable['title']}: {group[0]['name']}"
        caption = "; ".join(observable["notes"]) if alone else ""
        figures.append(
            {"name": name if alone else f"{name}-{group[0]['name']}", "title": title, "data": data, "layout": layout, "caption": caption}
        )
    return figures


def _label(side: str, curve: dict[str, Any], group: list[dict[str, Any]]) -> str:
    if len(group) == 1:
        return side
    return curve["name"] if side == "trajectory" else f"{curve['name']}, reference"


def _traces(curve: dict[str, Any], colour: str, label: str, dash: str, legend: bool) -> list[dict[str, Any]]:
    """The line, and below it its error as a band."""
    x, y, error = curve["x"], curve["y"], curve.get("error")
    mode = "markers" if len(x) <= 12 and "fit" not in label else "lines+markers" if len(x) <= 30 else "lines"
    line = {
        "type": "scatter",
        "mode": mode,
        "name": label,
        "x": x,
        "y": y,
        "line": {"color": colour, "width": 1.8, "dash": dash},
        "showlegend": legend,
    }
    if error is None:
        return [line]
    upper = [a + (e or 0.0) for a, e in zip(y, error, strict=True)]
    lower = [a - (e or 0.0) for a, e in zip(y, error, strict=True)]
    band = {
        "type": "scatter",
        "mode": "lines",
        "x": x + x[::-1],
        "y": upper + lower[::-1],
        "fill": "toself",
        "line": {"width": 0, "color": colour},
    }
    return [{**band, "opacity": 0.25, "showlegend": False, "hoverinfo": "skip", "name": label}, line]


def _values(content: dict[str, Any]) -> dict[str, Any]:
    rows = []
    for observable in content["observables"].values():
        beside = {v["name"]: v for v in observable["reference_values"]}
        for v in observable["values"]:
            other = beside.get(v["name"], {})
            rows.append([v["name"], v["value"], v["error"], v["unit"], other.get("value"), other.get("error")])
    columns = ["quantity", "value", "error", "unit", "reference", "its error"]
    return {"name": "observables-values", "title": "Values", "columns": columns, "rows": rows}


def _overlaps(content: dict[str, Any]) -> dict[str, Any]:
    rows = [
        [content["observables"][o["observable"]]["title"], o["curve"], o["overlap"], o["error"], o["floor"], _verdict(o["within_noise"])]
        for o in content["overlaps"]
    ]
    columns = ["observable", "curve", "overlap", "error", "noise alone (95 %)", "differs"]
    return {"name": "observables-overlaps", "title": "Overlap with the reference", "columns": columns, "rows": rows}


def _matrices(content: dict[str, Any]) -> list[dict[str, Any]]:
    matrix = content["observables"].get("elastic", {}).get("data", {}).get("matrix_GPa")
    axes = ["xx", "yy", "zz", "yz", "xz", "xy"]
    rows = [] if matrix is None else [[name, *row] for name, row in zip(axes, matrix, strict=True)]
    return [{"name": "observables-elastic", "title": "Elastic constants, GPa", "columns": ["", *axes], "rows": rows}]


def _verdict(within: bool | None) -> str:
    return "" if within is None else "no more than noise" if within else "yes"
