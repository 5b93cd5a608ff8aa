"""Tables: figures, what is bold, and that every format says the same."""

import csv
import io

import pytest
from synthetic import measured

from equipot.study import sheets
from equipot.study.significance import Estimate
from equipot.study.tables import Entry, Sheet, block, comma_separated, latex, markdown, plus_minus


@pytest.mark.parametrize(
    ("mean", "error", "text"),
    [
        (12.345, 0.4321, "12.35 ± 0.43"),
        (1234.5, 56.7, "1234 ± 57"),
        (0.012345, 0.00012, "0.01235 ± 0.00012"),
        (5.0, None, "5.00"),
        (5.0, 0.0, "5.00"),
    ],
)
def test_the_mean_has_the_decimals_that_its_error_gives_it(mean, error, text):
    assert plus_minus(mean, error) == text


def entries(sheet: Sheet, column: str) -> dict[str, Entry | None]:
    i = next(i for i, c in enumerate(sheet.columns) if column in c)
    return {row[0]: row[i] for row in sheet.rows}


def test_errors_are_in_milli_and_means_are_over_seeds():
    found = entries(sheets.errors(measured(noise=0.0), 25, "mae"), "cold (in-domain) forces")
    assert found["l0"].estimate.mean == pytest.approx(200.0) and found["l0"].estimate.n == 4


def test_in_domain_comes_first():
    columns = sheets.errors(measured(), 25, "mae").columns
    assert columns[1].startswith("cold (in-domain) energy per atom MAE, meV") and columns[-1] == "hot (out-of-domain) forces MAE, meV/Å"


def test_only_a_winner_over_all_others_is_bold():
    """l1 and l2 are alike, so neither wins; l0, made the best of all on purpose, does."""
    assert not any(e.best for e in entries(sheets.errors(measured(), 200, "mae"), "cold (in-domain) forces").values())
    better = measured()
    for row, i in [(r, i) for i, r in enumerate(better.rows) if r.variant == "l0" and r.measure.endswith("mae")]:
        better.rows[i] = type(row)(**{**row.__dict__, "value": 0.1 * row.value})
    best = entries(sheets.errors(type(better)(better.rows), 200, "mae"), "cold (in-domain) forces")
    assert [v for v, e in best.items() if e.best] == ["l0"]


def test_two_seeds_make_nothing_bold():
    found = entries(sheets.errors(measured(seeds=(0, 1)), 100, "mae"), "cold (in-domain) forces")
    assert not any(e.best for e in found.values())


def test_a_curve_has_its_sizes_and_exponent():
    sheet = sheets.curve(measured(), "cold", "forces_mae")
    assert sheet.columns == ["variant", "25", "50", "100", "200", "exponent", "off the law, %"]
    assert sheet.rows[0][-2].startswith("b = 0.30 [") and sheet.rows[1][-2].startswith("b = 0.70 [")
    assert all(float(row[-1]) < 2.0 for row in sheet.rows)
    assert "does not differ significantly" in sheet.note  # l1 and l2 are alike
    assert sheets.curve(measured(sizes=(50,)), "cold", "forces_mae") is None


def test_costs_and_runs():
    cost = sheets.costs(measured())
    assert cost.columns[:3] == ["variant", "structures", "parameters"] and cost.rows[0][2] == 1000
    assert cost.rows[-1][-1] == "3 of 3"  # one of four has failed
    failed = [row for row in sheets.runs(measured()).rows if row[-1]]
    assert [(row[0], row[4], row[-1]) for row in failed] == [
        ("l0-n25-s0", "done", "probe:dimers: no such element"),
        ("l2-n200-s3", "failed", "UserError: the loss is not a number"),
    ]


def test_the_summary_has_every_mean_once():
    sheet = sheets.everything(measured())
    keys = [tuple(row[i] for i in (0, 1, 2, 4)) for row in sheet.rows]
    assert len(keys) == len(set(keys)) == 3 * 4 * (2 * 4 + 5 + 2)


SHEET = Sheet(
    "t",
    "A | title",
    ["variant", "F, meV/Å"],
    [["a_b|c", Entry(Estimate(1.5, 0.1, 3), True)], ["d", Entry(Estimate(2.5, None, 1))], ["e", None]],
)


def test_only_errors_have_a_best_variant():
    """A force at short range is no better for being smaller; errors are."""
    rows = [r for r in sheets.everything(measured()).rows if r[7] is not None or r[6].best]
    assert rows and {r[4].rpartition("_")[2] for r in rows} == {"mae", "rmse"}


def test_markdown():
    lines = markdown(SHEET).splitlines()
    assert lines[2:] == ["| variant | F, meV/Å |", "| --- | ---: |", "| a_b\\|c | **1.50 ± 0.10** |", "| d | 2.50 |", "| e |  |"]


def test_csv_has_full_figures():
    rows = list(csv.reader(io.StringIO(comma_separated(SHEET))))
    assert rows[0] == ["variant", "F, meV/Å", "F, meV/Å standard error", "F, meV/Å seeds", "F, meV/Å best"]
    assert rows[1] == ["a_b|c", "1.5", "0.1", "3", "1"] and rows[3] == ["e", "", "", "", ""]


def test_latex_is_escaped():
    text = latex(SHEET)
    assert r"a\_b|c & \textbf{1.50 $\pm$ 0.10} \\" in text and r"meV/{\AA}" in text and r"\begin{tabular}{lr}" in text


def test_in_the_page_a_cell_sorts_by_its_mean():
    cells = block(SHEET).cells
    assert cells[0][1].key == 1.5 and cells[0][1].style == "good" and cells[2][1].key == float("-inf")
