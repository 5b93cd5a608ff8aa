"""The tables of the papers as studies: check what data are there, run `equipot study`, print the published figures beside ours.

    EQUIPOT_DATA=... python benchmarks/papers/run.py 3bpa --budget two-core --dry-run
    python benchmarks/papers/run.py --list

NAME.yaml is the two-core version, an ordinary study; full/NAME.yaml says what the full recipe changes. What is missing in EQUIPOT_DATA is left out,
with a message.
"""

import argparse
import csv
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from equipot.data.readers import resolve
from equipot.errors import UserError
from equipot.study.measured import Measured
from equipot.study.results import read_results
from equipot.study.sheets import label, shown_unit
from equipot.study.significance import estimate
from equipot.study.tables import Entry, Sheet, markdown

HERE = Path(__file__).parent
BUDGETS = ("two-core", "full")


def load(name: str, budget: str, system: str = "") -> dict[str, Any]:
    """The study of a paper as plain data, for a budget and, where there are several, a system."""
    study = _read(HERE / f"{name}.yaml", system)
    if budget == "full":
        change = _read(HERE / "full" / f"{name}.yaml", system)
        recipes = _read(HERE / "full" / "recipes.yaml", system)
        for key in change.pop("remove", []):
            _remove(study, key.split("."))
        study = _merged(study, {k: v for k, v in change.items() if k not in ("base", "variants")})
        study["base"] = _merged(study["base"], _with_recipe(change.get("base", {}), recipes))
        variants = {k: _with_recipe(v, recipes) for k, v in change.get("variants", {}).items()}
        study["variants"] = _merged(study.get("variants", {}), variants)
    return study


def with_what_is_there(study: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The study without the sets, probes and variants whose files are missing, and what was left out. Raises UserError where the rest is no study."""
    left_out: list[str] = []

    def there(what: str, files: Any) -> bool:
        missing = [f for f in _listed(files) if not _exists(f)]
        if missing:
            left_out.append(f"{what}: there is no {os.path.expandvars(missing[0])}")
        return not missing

    data = study["base"]["data"]
    for key in ("train", "isolated_atoms"):
        if key in data and not there("the study", data[key]):
            raise UserError(left_out[-1])
    sets = {k: v for k, v in study.get("evaluate", {}).items() if there(f"set {k}", v["file"] if isinstance(v, dict) else v)}
    probes = {k: v for k, v in study.get("probes", {}).items() if there(f"probe {k}", _probe_files(v))}
    variants = {k: v for k, v in study["variants"].items() if there(f"variant {k}", (v or {}).get("data.train", []))}
    if not variants or not (sets or probes):
        raise UserError("; ".join(left_out) or "the study has no variants or no sets")
    return {**study, "evaluate": sets, "probes": probes, "variants": variants}, left_out


def compare(name: str, system: str, out: Path) -> str:
    """Our figures beside the published ones, as a table in Markdown."""
    measured = Measured.from_records(read_results(out).to_dict("records"))
    published = [r for r in _published() if r["study"] == name and r["system"] in (system, r["system"] if not system else "")]
    models = list(dict.fromkeys(r["model"] for r in published))
    rows, sources = [], list(dict.fromkeys(r["source"] for r in published))
    for where in measured.sets:
        for measure in dict.fromkeys(r["measure"] for r in published if r["set"] == where):
            known = [r for r in published if (r["set"], r["measure"]) == (where, measure)]
            factor, unit = shown_unit(measure, measured.units.get(measure, "eV"))
            for size in measured.sizes:
                same = [r for r in known if int(r["size"]) == size]
                ours = [measured.values(where, measure, v, size) for v in measured.variants]
                cells = [Entry(estimate([factor * x for x in values.values()])) if values else None for values in ours]
                theirs = [next((_words(r) for r in same if r["model"] == m), "") for m in models]
                rows.append([f"{where}, {label(measure, unit)}", size, *cells, *theirs])
            for size in sorted({int(r["size"]) for r in known} - set(measured.sizes)):
                theirs = [next((_words(r) for r in known if r["model"] == m and int(r["size"]) == size), "") for m in models]
                rows.append([f"{where}, {label(measure, unit)}", size, *([None] * len(measured.variants)), *theirs])
    columns = ["", "structures", *(f"{v} (ours)" for v in measured.variants), *models]
    note = "Ours: mean ± standard error over seeds; published: as printed, with the deviation the source gives. " + " · ".join(sources)
    return markdown(Sheet("published", f"{name} {system}".strip() + ": published figures beside ours", columns, rows, note))


def run(name: str, system: str, arguments: argparse.Namespace) -> int:
    """One study: checked, run, compared. Returns an exit status."""
    title = " ".join(filter(None, (name, system)))
    try:
        study, left_out = with_what_is_there(load(name, arguments.budget, system))
    except UserError as error:
        print(f"{title}: skipped: {error}")
        return 0
    for words in left_out:
        print(f"{title}: left out: {words}")
    out = Path(study["out"])
    if not arguments.compare:
        file = out.with_name(f"{out.name}.study.yaml")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(yaml.safe_dump(study, sort_keys=False, allow_unicode=True), encoding="utf-8")
        options = ["--dry-run"] if arguments.dry_run else ["--resume"] if (out / "plan.json").is_file() else []
        status = subprocess.call([sys.executable, "-m", "equipot", "study", str(file), *options])
        if status or arguments.dry_run:
            return status
    try:
        table = compare(name, system, out)
    except UserError as error:
        print(f"{title}: {error}", file=sys.stderr)
        return 2
    (out / "published.md").write_text(table, encoding="utf-8")
    print(table)
    return 0


def main() -> int:
    index = _read(HERE / "index.yaml", "")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?", choices=[*index, "all"], help="a study of this folder")
    parser.add_argument("--budget", choices=BUDGETS, default="two-core")
    parser.add_argument("--system", help="of a study of several, such as aspirin; none given: all of them")
    parser.add_argument("--dry-run", action="store_true", help="show the runs and the time they will take")
    parser.add_argument("--compare", action="store_true", help="run nothing: print the published figures beside those that are there")
    parser.add_argument("--list", action="store_true", help="the studies and what they cost")
    arguments = parser.parse_args()
    if arguments.list or arguments.name is None:
        for name, entry in index.items():
            systems = f", for each of {', '.join(s for names in entry['for'].values() for s in names)}" if "for" in entry else ""
            print(f"{name}: {entry['title']}{systems}\n    two-core: {entry['two-core']} h of one core; full: {entry.get('full', 'none')}")
        return 0
    if "EQUIPOT_DATA" not in os.environ:
        print("EQUIPOT_DATA is not set: let it name the folder that holds 3bpa/, acac/, ethanol/, rmd17/ and the rest", file=sys.stderr)
        return 2
    statuses = []
    for name in index if arguments.name == "all" else [arguments.name]:
        systems = [s for names in index[name].get("for", {}).values() for s in names] or [""]
        if arguments.system and arguments.system not in systems:
            print(f"{name}: no system {arguments.system}; it has {', '.join(filter(None, systems)) or 'one only'}", file=sys.stderr)
            return 2
        if arguments.budget == "full" and not (HERE / "full" / f"{name}.yaml").is_file():
            print(f"{name}: has no full recipe")
            continue
        statuses += [run(name, s, arguments) for s in systems if arguments.system in (None, s)]
    return max(statuses, default=0)


def _read(file: Path, system: str) -> dict[str, Any]:
    text = file.read_text(encoding="utf-8").replace("${MOLECULE}", system)
    return yaml.safe_load(text)


def _published() -> list[dict[str, str]]:
    with (HERE / "published.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _words(row: dict[str, str]) -> str:
    return f"{float(row['value']):g}" + (f" ({row['spread']})" if row["spread"] else "")


def _with_recipe(part: dict[str, Any], recipes: dict[str, Any]) -> dict[str, Any]:
    own = {k: v for k, v in part.items() if k != "recipe"}
    return _merged(recipes[part["recipe"]], own) if "recipe" in part else own


def _merged(base: Any, over: Any) -> Any:
    if not isinstance(base, dict) or not isinstance(over, dict):
        return over
    return base | {k: _merged(base.get(k), v) for k, v in over.items()}


def _remove(data: dict[str, Any], path: list[str]) -> None:
    for key in path[:-1]:
        data = data[key]
    data.pop(path[-1], None)


def _listed(files: Any) -> list[str]:
    return [files] if isinstance(files, str) else list(files or [])


def _probe_files(probe: dict[str, Any]) -> list[str]:
    made = next(iter((probe.get("generate") or {}).values()), {})
    return _listed(probe.get("frames")) + [made[k] for k in ("frame", "towards") if k in made]


def _exists(file: str) -> bool:
    try:
        resolve(os.path.expandvars(file))
    except UserError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
