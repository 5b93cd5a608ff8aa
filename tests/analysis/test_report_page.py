"""The report: what is read, what the page says, and that nothing of a user's text becomes markup."""

import json
import os
import re
from pathlib import Path

import broken_models as broken
import numpy as np
import pytest

from equipot.analysis.checks import iterate_checks, run_checks, summary
from equipot.analysis.files import write_json
from equipot.analysis.predictions import write_predictions
from equipot.analysis.report import collect, compute, write_report
from equipot.analysis.report.blocks import number, significant
from equipot.analysis.report.citation import papers
from equipot.analysis.report.content import Content, PredictedSet
from equipot.analysis.report.page import hints, render, tiles
from equipot.analysis.report.plots import MOST_POINTS, histogram, lines, representative
from equipot.analysis.report.sureness import known_first, sureness
from equipot.data.frame import Frame
from equipot.data.readers import read_frames
from equipot.data.writer import write_frames
from equipot.errors import UserError
from equipot.model import save_model
from equipot.train.evaluation import evaluate_frames


def molecules(n: int) -> list[Frame]:
    rng = np.random.default_rng(n)
    base = np.array([[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
    label = {"energy": -3.0, "forces": rng.normal(size=(3, 3))}
    return [
        Frame(np.array([8, 1, 1]), base + rng.normal(0, 0.05, (3, 3)), np.zeros((3, 3)), np.zeros(3, bool), source=f"w.xyz#{i}", **label)
        for i in range(n)
    ]


@pytest.fixture
def run_folder(tmp_path):
    """A run's folder with every file a report can read, without a training."""
    potential = broken.small_potential(scale=2.0)
    write_folder(tmp_path, potential)
    return tmp_path


def write_folder(folder, potential) -> None:
    statistics = {
        "n_atoms": 30,
        "n_energies": 10,
        "n_forces": 10,
        "n_stresses": 0,
        "rms_forces": 1.0,
        "mean_interaction": -1.0,
        "std_interaction": 0.1,
    }
    statistics |= {"mean_neighbours": 2.0, "atoms_by_element": {"H": 20, "O": 10}, "min_distance": {"H-O": 0.9}}
    provenance = {
        "name": "<b>water</b>",
        "n_train": 10,
        "n_validation": 2,
        "statistics": statistics,
        "data": {"w.xyz": "ab" * 32},
        "epoch": 3,
        "elapsed_s": 60.0,
    }
    save_model(potential, folder / "best.equipot", provenance)
    (folder / "config.yaml").write_text("name: water\ndata: {train: gone.xyz}\n")
    columns = [
        "epoch",
        "updates",
        "elapsed_s",
        "step_ms",
        "learning_rate",
        "train_loss",
        "valid_loss",
        "train_forces_rmse_meV_A",
        "valid_forces_rmse_meV_A",
    ]
    rows = [[i, 10 * i, 5.0 * i, 7.0, 0.01, 1 / (i + 1), 2 / (i + 1), 100 / (i + 1), ""] for i in range(20)]
    (folder / "metrics.csv").write_text("\n".join(",".join(map(str, row)) for row in [columns, *rows]))
    frames = molecules(12)
    evaluation = evaluate_frames(potential, frames)
    write_predictions(
        {"cold": (frames[:6], evaluation.predictions[:6]), "hot": (frames[6:], evaluation.predictions[6:])}, folder / "predictions.extxyz"
    )
    (folder / "evaluation.json").write_text(json.dumps({"cold": evaluation.to_dict()}))
    (folder / "md").mkdir()
    log = "step,time_ps,temperature_K,potential_eV,kinetic_eV,total_eV_per_atom,pressure_GPa,volume_A3,drift_meV_per_atom,steps_per_s,ns_per_day\n"
    (folder / "md" / "nve.log.csv").write_text(log + "".join(f"{i},{i / 2000},{300 + i},-1,1,0,,,{0.01 * i},50,2.16\n" for i in range(10)))
    results = run_checks(potential, only=["rotation", "isolated atom", "dimers"])
    write_json(folder / "check.json", summary(results, "best.equipot"))
    (folder / "run.log").write_text("2026-01-01 00:00:00,000 INFO fine\n2026-01-01 00:00:00,000 WARNING odd labels\n")


def test_the_page_has_every_part_and_is_whole(run_folder):
    page = write_report(run_folder).read_text()
    for title in (
        "Errors",
        "Physics checks",
        "Molecular dynamics",
        "The training",
        "The model",
        "The data",
        "Timing",
        "Origin and citation",
    ):
        assert f"<h2>{title}</h2>" in page
    assert "odd labels" in page and "Batzner" in page
    assert not re.findall(r'(?:src|href)="(?!#|data:)[^"]*"', page.split("<script>")[0])
    drawn = figures(page)
    for name in (
        "parity-energy",
        "parity-forces",
        "errors-energy",
        "errors-forces",
        "parity-forces-0",
        "errors-forces-0",
        "data-forces",
        "curve-forces-rmse-meV-A",
        "curve-rate",
        "md-0-temperature",
        "dimers",
    ):
        assert drawn[name]["data"]
    assert len(page) < 8_000_000


def figures(page: str) -> dict:
    return embedded(page, "figures")


def embedded(page: str, name: str) -> dict:
    """The data a page carries for its scripts."""
    return json.loads(re.search(rf'<script type="application/json" id="{name}">(.*?)</script>', page, re.DOTALL)[1])


def test_text_is_text(run_folder):
    page = write_report(run_folder, compute=False).read_text()
    assert "&lt;b&gt;water&lt;/b&gt;" in page and "<b>water</b>" not in page


def test_what_is_missing_is_said(run_folder):
    page = write_report(run_folder, compute=True).read_text()
    assert "gone.xyz" in page or "split.json" not in page
    (run_folder / "md" / "nve.log.csv").unlink()
    content = collect(run_folder)
    assert any("equipot md" in hint for hint in hints(content)) and not any("parity" in hint for hint in hints(content))


def test_each_set_is_read_for_itself(run_folder):
    """A validation set given as a list of frames, and a test set that has moved away: the others are predicted."""
    frames, config = molecules(6), run_folder / "config.yaml"
    for name in ("w", "t"):
        write_frames(frames, run_folder / f"{name}.extxyz")
    known = [f.source for f in read_frames(str(run_folder / "w.extxyz"))]
    (run_folder / "held.txt").write_text("1 4")
    (run_folder / "split.json").write_text(json.dumps({"train": [known[i] for i in (0, 2, 3, 5)], "validation": [known[1], known[4]]}))
    data = {"train": f"{run_folder}/w.extxyz", "validation": f"{run_folder}/held.txt"}
    config.write_text(json.dumps({"data": data | {"test": {"gone": f"{run_folder}/gone.xyz", "here": f"{run_folder}/t.extxyz"}}}))
    content = collect(run_folder)
    compute.complete(content)
    counts = {s.name: len(s.frames) for s in content.sets}
    assert {name: counts.get(name) for name in ("train", "validation", "gone", "here")} == {
        "train": 4,
        "validation": 2,
        "gone": None,
        "here": 6,
    }
    assert len(content.missing) == 1 and content.missing[0].startswith("Parity plots of the gone set: ")
    config.write_text(json.dumps({"data": data | {"train": f"{run_folder}/gone.xyz", "validation": f"{run_folder}/w.extxyz"}}))
    content = collect(run_folder)
    compute.complete(content)
    assert [s.name for s in content.sets][:1] == ["train"] and content.missing[0].startswith("Parity plots of the train set: ")


def test_checks_are_run_where_there_are_none_or_the_model_is_newer(run_folder, monkeypatch):
    monkeypatch.setattr(compute, "iterate_checks", lambda context, announce: iterate_checks(context, ["translation"], announce))
    known = run_folder / "check.json"
    assert "moving the whole structure" not in write_report(run_folder).read_text()
    os.utime(run_folder / "best.equipot", ns=(2**62, 2**62))
    assert "moving the whole structure" in write_report(run_folder).read_text()
    assert [r["name"] for r in json.loads(known.read_text())["results"]] == ["translation"]
    known.unlink()
    write_report(run_folder, compute=False)
    assert not known.exists()
    write_report(run_folder)
    assert known.exists()


def test_numbers_are_those_of_the_evaluation(run_folder):
    content = collect(run_folder)
    found = {tile.label: tile for tile in tiles(content)}
    assert found["force MAE, cold"].value == significant(1000 * content.errors["cold"]["forces_mae"])
    assert found["energy drift in NVE"].value == "0.050"  # 0.07 less 0.02
    table = re.search(r"<table class=\"sortable\">.*?</table>", render(content), re.DOTALL)[0]
    assert f'data-key="{1000 * content.errors["cold"]["forces_mae"]}"' in table


def test_other_things_can_be_reported(run_folder, tmp_path):
    for name, expected in (
        ("evaluation.json", "Errors"),
        ("predictions.extxyz", "Errors"),
        ("best.equipot", "The model"),
        ("md/nve.log.csv", "Molecular dynamics"),
        ("md", "Molecular dynamics"),
    ):
        target = write_report(run_folder / name, tmp_path / "page.html")
        assert f"<h2>{expected}</h2>" in target.read_text()


@pytest.mark.parametrize("name, content, message", [
    ("empty", None, "nothing to report"),
    ("absent", ..., "no such folder or file"),
    ("x.json", '{"a": 1}', "neither errors"),
    ("x.json", "{", "neither errors"),
    ("x.log.csv", "step,time_ps\n1,two\n", "not a table of numbers"),
    ("x.png", "x", "not something to report on"),
])  # fmt: skip
def test_nothing_to_report(tmp_path, name, content, message):
    path = tmp_path / name
    if content is None:
        path.mkdir()
    elif content is not ...:
        path.write_text(content)
    with pytest.raises(UserError, match=message):
        write_report(path)
    with pytest.raises(UserError, match="no folder"):
        write_report(path, tmp_path / "nowhere" / "x.html")


def test_significant():
    assert [significant(v) for v in (0, 0.012345, 1.2345, 12.345, 1234.5, 1e-5, 12345678.0)] == [
        "0",
        "0.0123",
        "1.23",
        "12.3",
        "1,234",
        "1.00e-05",
        "1.23e+07",
    ]
    assert significant(0.001, 2) == "0.0010"
    assert number(float("nan")).text == "" and number(None).text == ""


def test_logarithmic_axes_say_their_numbers_in_full():
    axis = lines("x", "x", [("a", np.arange(3.0), np.array([0.02, 0.3, 4.0]))], "x", "y", log=True).layout["yaxis"]
    named = dict(zip(axis["ticktext"], axis["tickvals"], strict=True))
    assert named["0.02"] == pytest.approx(0.02) and named["5"] == 5 and named["10"] == 10
    wide = lines("x", "x", [("a", np.arange(2.0), np.array([1e-6, 1.0]))], "x", "y", log=True).layout["yaxis"]
    assert "10<sup>-5</sup>" in wide["ticktext"] and "0.01" in wide["ticktext"] and "0.02" not in wide["ticktext"]


def test_no_two_curves_look_alike():
    many = lines("x", "x", [(str(i), np.arange(2.0), np.ones(2)) for i in range(20)], "x", "y")
    assert len({(t["line"]["color"], t["line"]["dash"]) for t in many.data}) == 20


def test_citations():
    assert [p.key for p in papers("botnet")] == [p.key for p in papers("")] == ["batatia2025design"]
    assert [p.key for p in papers("nequip_linear")] == ["batzner2022nequip", "batatia2025design"]
    entry = papers("mace")[0].bibtex
    assert entry.startswith("@article{batatia2022mace,") and "doi" not in entry and entry.count("{") == entry.count("}")


def test_stated_deviations_are_judged(run_folder):
    content = collect(run_folder)
    assert sureness(content) is None
    rng = np.random.default_rng(0)
    for s in content.sets:
        for frame, prediction in zip(s.frames, s.predictions, strict=True):
            prediction["forces"] = frame.forces + rng.normal(0, 0.2, (3, 3))
            prediction["forces_std"] = np.full(3, 0.1 * np.sqrt(3.0))
    section = sureness(content)
    table = section.blocks[0]
    assert [row[0] for row in table.rows] == ["cold", "hot"] and all(1.5 < row[2].sort < 2.5 for row in table.rows)
    assert {b.name for b in section.blocks if b.kind == "figure"} >= {"calibration-forces", "error-uncertainty-forces", "alarms-forces"}
    named = [PredictedSet(name, [], [], 0) for name in ("train", "hot", "validation")]
    assert [s.name for s in known_first(named)] == ["validation", "hot"]
    assert "How sure the model is" in render(content)


def test_active_learning_shows_its_rounds_and_the_last_model(run_folder, tmp_path):
    table = "round,n_labels,held_forces_mae,new_forces_mae,n_labelled\n0,20,0.3,0.5,10\n1,30,0.2,,\n2,30,,,\n"
    (tmp_path / "learning" / "round-1").mkdir(parents=True)
    (tmp_path / "learning" / "rounds.csv").write_text(table)
    (tmp_path / "learning" / "round-1" / "train").symlink_to(run_folder)
    content = collect(tmp_path / "learning")
    assert content.potential is not None and content.path.name == "train"
    page = render(content)
    drawn = figures(page)["rounds-forces-mae"]["data"]
    assert {t["name"]: t["y"] for t in drawn} == {"held": [300.0, 200.0], "newly labelled": [500.0]}
    assert "<h2>Active learning</h2>" in page and "<h2>The model</h2>" in page


def test_an_ensemble_shows_its_members(run_folder):
    for name in ("member-0", "member-1"):
        (run_folder / name).mkdir()
        (run_folder / name / "metrics.csv").write_text("epoch,valid_loss,valid_forces_rmse_meV_A\n0,2,100\n1,1,50\n")
    (run_folder / "metrics.csv").unlink()
    drawn = figures(render(collect(run_folder)))
    assert [t["name"] for t in drawn["curve-forces-rmse-meV-A"]["data"]] == ["member-0", "member-1"]


def test_the_worst_points_are_always_drawn():
    reference = np.arange(10 * MOST_POINTS, dtype=float)
    predicted = reference.copy()
    predicted[[7, 4321]] += 1.0
    chosen = representative(reference, predicted)
    assert len(chosen) == MOST_POINTS == len(set(chosen)) and {7, 4321} <= set(chosen)


def test_histograms_count_everything_within_reach():
    values = np.random.default_rng(0).normal(size=1000)
    figure = histogram("h", "h", [("a", values)], "x")
    assert sum(figure.data[0]["y"]) == pytest.approx(99.0, abs=0.2)


def test_numbers_that_are_not_finite_do_not_break_the_page():
    bad = {
        "name": "dimers",
        "kind": "behaviour",
        "value": None,
        "threshold": 0.05,
        "unit": "eV",
        "passed": False,
        "message": "x",
        "title": "t",
    }
    bad["details"] = {"curves": {"H-H": {"r": [0.1, 0.2], "energy": [None, 1.0], "closest_in_data": 0.15}}}
    content = Content(title="x", path=Path("x"), checks=[bad])
    assert figures(render(content))["dimers"]["data"][0]["y"] == [None, 1.0]
