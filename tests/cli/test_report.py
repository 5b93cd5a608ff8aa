"""`equipot report`: the file it writes and the mistakes it names. The page itself is tested in tests/analysis."""

import json

import pytest
import typer
from typer.testing import CliRunner

from equipot.cli import report
from equipot.errors import UserError

app = typer.Typer()
app.callback()(lambda: None)
report.register(app)
ERRORS = {
    "test.xyz": {
        "n_structures": 3,
        "n_atoms": 9,
        "energy_per_atom_mae": 0.001,
        "energy_per_atom_rmse": 0.002,
        "forces_mae": 0.03,
        "forces_rmse": 0.04,
    }
}


def run(*words):
    return CliRunner().invoke(app, ["report", *map(str, words)])


def test_beside_the_file_or_where_it_is_told(tmp_path):
    (tmp_path / "evaluation.json").write_text(json.dumps(ERRORS))
    result = run(tmp_path / "evaluation.json")
    assert result.exit_code == 0 and result.stdout.strip() == str(tmp_path / "evaluation-report.html")
    assert run(tmp_path, "-o", tmp_path / "page.html").exit_code == 0
    assert run(tmp_path).stdout.strip() == str(tmp_path / "report.html")
    for name in ("evaluation-report.html", "page.html", "report.html"):
        page = (tmp_path / name).read_text()
        assert "30.0" in page and "2.00" in page and page.rstrip().endswith("</html>")


def test_mistakes(tmp_path):
    for words in ([tmp_path], [tmp_path / "absent"], [tmp_path, "-o", tmp_path / "x" / "y.html"]):
        assert isinstance(run(*words).exception, UserError)
    assert list(tmp_path.iterdir()) == []


def test_help_says_what_it_takes():
    assert "run's folder" in CliRunner().invoke(app, ["report", "--help"], env={"COLUMNS": "200"}).output


@pytest.mark.parametrize("content", ["{}", "[]", "null", '{"a": {"b": 1}}'])
def test_json_of_something_else(tmp_path, content):
    (tmp_path / "x.json").write_text(content)
    assert isinstance(run(tmp_path / "x.json").exception, UserError)


def test_a_study_has_its_own_page(tmp_path, monkeypatch):
    (tmp_path / "study.yaml").write_text("name: x\n")
    (tmp_path / "results.parquet").write_bytes(b"")
    written = []

    def write(folder):
        written.append(folder)
        (folder / "report.html").write_text("the study's page")
        return folder / "report.html"

    monkeypatch.setattr("equipot.study.report.write", write)
    assert run(tmp_path).stdout.strip() == str(tmp_path / "report.html")
    assert run(tmp_path, "-o", tmp_path / "copy.html").stdout.strip() == str(tmp_path / "copy.html")
    assert written == [tmp_path, tmp_path] and (tmp_path / "copy.html").read_text() == "the study's page"
    assert isinstance(run(tmp_path, "-o", tmp_path / "x" / "y.html").exception, UserError)
