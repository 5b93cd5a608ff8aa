"""The papers' studies: every configuration is sound, what is missing is left out with a message, and published figures stand beside ours."""

import importlib.util
from pathlib import Path

import pandas
import pytest
import yaml
from synthetic import rows

from equipot.errors import UserError
from equipot.study.probes import ProbeSpec
from equipot.study.study_file import read_study

PAPERS = Path(__file__).parents[2] / "benchmarks" / "papers"
if not PAPERS.is_dir():
    pytest.skip("no benchmarks here: an installed package comes without them", allow_module_level=True)
_spec = importlib.util.spec_from_file_location("papers_run", PAPERS / "run.py")
papers = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(papers)

INDEX = yaml.safe_load((PAPERS / "index.yaml").read_text())
CASES = [(name, budget) for name, entry in INDEX.items() for budget in papers.BUDGETS if budget == "two-core" or "full" in entry]


@pytest.fixture(autouse=True)
def data(monkeypatch, tmp_path):
    monkeypatch.setenv("EQUIPOT_DATA", str(tmp_path))
    return tmp_path


def system(name: str) -> str:
    return "aspirin" if "for" in INDEX[name] else ""


def test_every_study_is_in_the_index_and_the_other_way_round():
    assert {f.stem for f in PAPERS.glob("*.yaml")} - {"index"} == set(INDEX)
    assert {f.stem for f in (PAPERS / "full").glob("*.yaml")} - {"recipes"} == {n for n, e in INDEX.items() if "full" in e}
    assert all(entry["two-core"] > 0 for entry in INDEX.values())


@pytest.mark.parametrize(("name", "budget"), CASES)
def test_every_variant_of_every_study_is_a_sound_configuration(name, budget, tmp_path):
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(papers.load(name, budget, system(name)), sort_keys=False))
    study = read_study(file)
    for variant in study.spec.variants:
        study.config(variant, study.raw_config(variant))
    for probe in study.spec.probes.values():
        ProbeSpec.model_validate(probe)
    assert study.spec.budget is not None if budget == "two-core" else study.spec.budget is None


def test_the_full_recipe_is_the_papers():
    base = papers.load("3bpa", "full")
    botnet = base["variants"]["botnet"]
    assert botnet["model"]["n_channels"] == 80 and botnet["train"]["max_epochs"] == 3000 and botnet["train"]["ema"] == 0.99
    assert base["base"]["data"] == papers.load("3bpa", "two-core")["base"]["data"]


def test_sets_that_are_not_there_are_left_out_and_a_missing_training_set_ends_it(data):
    study = papers.load("acac", "two-core")
    with pytest.raises(UserError, match=f"there is no {data}/acac/train_300K.xyz"):
        papers.with_what_is_there(study)
    (data / "acac").mkdir()
    for file in ("train_300K.xyz", "isolated_atoms.xyz", "train_600K.xyz"):
        (data / "acac" / file).touch()
    found, left_out = papers.with_what_is_there(study)
    assert list(found["evaluate"]) == ["train_600K"] and list(found["probes"]) == ["dimers"]
    assert f"set 300K: there is no {data}/acac/test_MD_300K.xyz" in left_out and len(left_out) == 4


def test_published_figures_belong_to_a_set_of_a_study():
    for row in papers._published():
        study = papers.load(row["study"], "two-core", row["system"])
        sets = set(study["evaluate"]) | {"dihedral"}
        assert row["set"] in sets, row
        assert float(row["value"]) > 0 and row["unit"] in ("meV", "meV/Å") and row["source"]
        assert row["measure"].rpartition("_")[0] in ("energy", "energy_per_atom", "forces")


def test_published_figures_stand_beside_ours(data):
    ours = [
        {**r.__dict__, "set": {"cold": "300K", "hot": "600K"}.get(r.set, r.set)}
        for r in rows(seeds=(0, 1), sizes=(100, 450))
        if r.status == "done"
    ]
    pandas.DataFrame(ours).to_parquet(data / "results.parquet")
    table = papers.compare("acac", "", data)
    line = next(x for x in table.splitlines() if x.startswith("| 300K, forces RMSE, meV/Å | 450"))
    cells = [c.strip() for c in line.strip("|").split("|")]
    assert cells[-3:] == ["6.3 (0)", "5.9 (0.38)", "5.1 (0.10)"] or cells[-3:] == ["6.3 (0.0)", "5.9 (0.38)", "5.1 (0.10)"]
    assert "±" in cells[2] and len(cells) == 2 + 3 + 3
    other = next(x for x in table.splitlines() if x.startswith("| 300K, forces RMSE, meV/Å | 100"))
    assert other.rstrip().endswith("|  |  |  |")  # nothing is published for 100 structures
