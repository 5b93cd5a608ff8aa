"""Plots and the page of a study, from rows whose answers are known."""

import json
import re

import numpy as np
import pandas
import pytest
from synthetic import measured, rows, write_curves

from equipot.errors import UserError
from equipot.study import plots
from equipot.study.drawing import figure
from equipot.study.measured import Measured
from equipot.study.plots import pareto
from equipot.study.probe_curves import read_curves
from equipot.study.report import write, write_measured


def test_the_pareto_front_by_hand():
    points = np.array([[1, 5], [2, 3], [2, 4], [3, 3], [4, 1], [5, 2], [1, 6]], dtype=float)
    assert pareto(points).tolist() == [0, 1, 4]


def test_an_ablation_has_one_mark_a_variant():
    (energy, forces) = plots.ablations(measured(noise=0.0), 100)
    assert [s.name for s in forces.series] == ["l0", "l1", "l2"] and forces.log_x and forces.log_y
    assert forces.series[0].x == pytest.approx([200 * 4**-0.3]) and forces.series[0].y == pytest.approx([800 * 4**-0.3])
    assert energy.x.startswith("cold: energy per atom MAE, meV")


def test_learning_curves_carry_their_law():
    drawing = next(d for d in plots.learning_curves(measured(noise=0.0)) if d.name == "curve-cold-forces_mae")
    marks, line = drawing.series[:2]
    assert marks.y == pytest.approx(200 * (np.array([25, 50, 100, 200]) / 25) ** -0.3)
    assert line.name == "l0: b = 0.30 [0.30, 0.30]" and line.y[-1] == pytest.approx(marks.y[-1])


def test_one_size_has_no_learning_curve():
    assert plots.learning_curves(measured(sizes=(50,))) == []


def test_the_front_of_a_cost_holds_what_is_cheap_and_what_is_good():
    drawing = next(d for d in plots.costs(measured(), 100) if d.name == "cost-train_seconds-cold-n100")
    front = drawing.series[0]
    assert front.x.tolist()[:3] == [10.0, 20.0, 20.0] and front.y[0] == front.y[1] > front.y[2] and drawing.caption


def test_logarithmic_axes_are_labelled_where_the_values_are():
    from equipot.study.drawing import log_ticks

    assert log_ticks(np.array([22.0, 180.0])) == pytest.approx([20, 50, 100, 200])
    assert log_ticks(np.array([0.2, 3000.0])) == pytest.approx([1, 10, 100, 1000])
    assert log_ticks(np.array([21.0, 23.0])) == [21.0, 21.5, 22.0, 22.5, 23.0]
    assert log_ticks(np.array([9872.0, 11024.0])) == [10000, 10500, 11000]
    assert log_ticks(np.array([7.0, 7.0])) == [7.0]


def test_probe_curves_count_from_their_zero(tmp_path):
    write_curves(tmp_path, rows())
    found = read_curves(tmp_path, measured(), "dimers", 100)
    assert [c.variant for c in found] == ["l0", "l1", "l2"] and found[0].n_seeds == 4 and found[0].reference is None
    assert found[0].predicted.min() == pytest.approx(1.0, abs=0.1)
    (drawing,) = plots.probes("dimers", found, ["l0", "l1", "l2"])
    assert drawing.y == "E − zero, eV" and drawing.name == "probe-dimers"


def test_a_figure_is_plain_data():
    for drawing in [*plots.ablations(measured(), 50), *plots.learning_curves(measured()), *plots.costs(measured(), 50)]:
        json.dumps([figure(drawing).data, figure(drawing).layout], allow_nan=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("study")
    some = rows(seeds=(0, 1, 2), sizes=(25, 50, 100))
    write_curves(out, some)
    pandas.DataFrame([r.__dict__ for r in some]).to_parquet(out / "results.parquet")
    (out / "study.yaml").write_text("name: <b>bold</b> study\n")
    (out / "tables").mkdir()
    (out / "tables" / "errors-n9999-mae.md").write_text("of an earlier study")
    write(out)
    return out


def test_everything_is_written(folder):
    tables = {f.name for f in (folder / "tables").iterdir()}
    for name in (
        "summary",
        "errors-n100-mae",
        "errors-n25-rmse",
        "curve-hot-forces_mae",
        "cost",
        "spread-n100",
        "runs",
        "probe-dimers-n100",
    ):
        assert {f"{name}.md", f"{name}.csv", f"{name}.tex"} <= tables
    assert "errors-n9999-mae.md" not in tables
    files = {f.name for f in (folder / "plots").iterdir()}
    for name in ("ablation-hot-forces_mae-n100", "curve-cold-forces_mae", "cost-parameters-cold-n100", "probe-dimers"):
        assert {f"{name}.png", f"{name}.pdf"} <= files
    assert (folder / "plots" / "curve-cold-forces_mae.png").read_bytes()[:4] == b"\x89PNG"


def test_the_page_stands_alone_and_says_what_can_be_said(folder):
    page = (folder / "report.html").read_text()
    assert "<b>bold</b> study" not in page and "&lt;b&gt;bold" in page
    assert not re.search(r"<(script|link)[^>]+(src|href)=[\"']https?:", page)
    assert "The loss is not a number" not in page and "the loss is not a number" in page
    assert "Smallest mean, no winner" in page  # l1 and l2 are alike
    names = re.findall(r'data-figure="([^"]+)"', page)
    assert len(names) == len(set(names)) and "curve-cold-forces_mae" in names


def test_all_runs_failed_is_still_a_report(tmp_path):
    failed = [r for r in rows() if r.status == "failed" and not r.set]
    page = write_measured(tmp_path, Measured(failed)).read_text()
    assert "the loss is not a number" in page


def test_nothing_measured_is_said(tmp_path):
    with pytest.raises(UserError, match="no run of this study has ended"):
        write_measured(tmp_path, Measured([]))


def test_a_frame_of_pandas_with_gaps_is_read():
    frame = pandas.DataFrame(
        [{"run": "a", "variant": "v", "size": 5, "seed": 0, "status": "failed", "reason": "x", "value": None, "set": None}]
    )
    (row,) = Measured.from_records(frame.to_dict("records")).rows
    assert row.set == "" and row.value != row.value and row.reason == "x"
