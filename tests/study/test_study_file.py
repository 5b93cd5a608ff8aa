"""Mistakes in a study are told in one line before anything runs, with the place."""

import ase.io
import pytest
from tiny_studies import MODEL, tiny_study, trimers, write_study
from typer.testing import CliRunner

from equipot.cli import build
from equipot.errors import UserError
from equipot.study.run import load
from equipot.study.study_file import dump_study, nested, read_study

MISTAKES = {
    "unknown key of a preset": ({"variants": {"x": {"model.lmax": 1}}}, r"line \d+: variants.x: model.lmax: .* did you mean 'l_max'"),
    "unknown section": ({"variants": {"x": {"trian.seed": 1}}}, r"variants.x: trian: .* did you mean 'train'"),
    "unknown key of the study": ({"sise": [3]}, r"sise: not a key of a study: did you mean 'sizes'"),
    "unknown key below": ({"evaluate": {"a": {"file": "x", "knid": "y"}}}, r"evaluate.a.knid: .* did you mean 'kind'"),
    "what seeds set": ({"variants": {"x": {"train.seed": 1}}}, r"variants.x: train.seed comes from `seeds`"),
    "what the budget sets": ({"variants": {"x": {"train": {"max_updates": 9}}}}, r"train.max_updates comes from `budget`"),
    "a section that is none": ({"variants": {"x": {"train": 3}}}, r"variants.x: train: should be a section of keys"),
    "set twice": ({"variants": {"x": {"model.l_max": 1, "model": {"l_max": 2}}}}, r"variants.x: l_max is set twice"),
    "seeds with the same name": ({"seeds": [0, 0]}, r"two runs are called flat-n4-s0"),
    "sizes with the same name": ({"sizes": [4, 4]}, r"two runs are called flat-n4-s0"),
    "more than the data": ({"sizes": [4, 50]}, r"line \d+: sizes: 50 is more than the 10 structures that flat has"),
    "a name that is no folder": ({"variants": {"a/b": {}}}, r"'a/b' is no name for a folder"),
    "no variants": ({"variants": {}}, r"name at least one variant"),
    "no evaluation": ({"evaluate": {}}, r"evaluate is missing"),
    "no file": ({"evaluate": {"a": "none.xyz"}}, r"none.xyz: no such file"),
    "no file of a probe": ({"probes": {"s": {"frames": "none.xyz", "coordinate": {"field": "x"}}}}, r"probes.s: none.xyz: no such file"),
    "a probe's variable": ({"probes": {"s": {"frames": "${NOWHERE}/a.xyz", "coordinate": {"field": "x"}}}}, r"variable NOWHERE is not set"),
    "no coordinate": ({"probes": {"s": {"frames": "equipot:ethanol_OH_scan", "coordinate": {"field": "nothing"}}}}, r"probes.s: .*nothing"),
    "two budgets": ({"budget": {"max_updates": 1, "max_time": "00:00:01"}}, r"budget: give max_updates or max_time, one of them"),
    "executor": ({"executor": "spark"}, r"executor: should be 'local' or 'ray', not 'spark'"),
    "base file": ({"base": "nope.yaml"}, r"base: there is no configuration .*nope.yaml"),
    "what the executor sets": ({"variants": {"x": {"train.threads": 2}}}, r"train.threads comes from `executor`"),
    "a GPU by number": ({"variants": {"x": {"train.device": "cuda:1"}}}, r"train.device is cuda:1: .* take cuda"),
    "ensembles": ({"variants": {"x": {"train.ensemble": 3}}}, r"train.ensemble is 3"),
    "a taken name": ({"evaluate": {"cost": "x"}}, r"evaluate.cost: this name is taken"),
}


@pytest.mark.parametrize(("sections", "words"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes(tmp_path, sections, words):
    path = write_study(tmp_path, **sections)
    with pytest.raises(UserError, match=words) as raised:
        load(path)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "out").exists()


def test_the_same_key_twice_in_the_file(tmp_path):
    path = write_study(tmp_path)
    path.write_text(path.read_text() + "variants: {}\n")
    with pytest.raises(UserError, match='duplicate key "variants"'):
        load(path)


def test_an_evaluation_set_has_the_labels_that_are_measured(tmp_path):
    dark = str(tmp_path / "dark.xyz")
    ase.io.write(dark, trimers(3, 5, forces=False), format="extxyz")
    with pytest.raises(UserError, match=r"evaluate.dark: .*dark.xyz has no forces, which the study measures: .*labels: \[energy\]"):
        load(write_study(tmp_path, evaluate={"dark": dark}))
    _, plan = load(write_study(tmp_path, evaluate={"dark": {"file": dark, "labels": ["energy"]}}))
    assert plan.evaluate["dark"]["labels"] == ["energy"]


def test_a_mistake_of_the_base_is_told_there(tmp_path):
    base = tiny_study(tmp_path)["base"]
    (tmp_path / "base.yaml").write_text("model: {preset: nequip}\ndata: {train: a.xyz}\ntrain: {bacth_size: 2}\n")
    with pytest.raises(UserError, match=r"base.yaml, line 3: train.bacth_size: .* did you mean 'batch_size'"):
        load(write_study(tmp_path, base="base.yaml"))
    with pytest.raises(UserError, match=r"study.yaml, line \d+: base: train.bacth_size"):
        load(write_study(tmp_path, base=base | {"train": {"bacth_size": 2}}))
    # unless every variant mends it
    study, _ = load(write_study(tmp_path, base=base | {"model": {}}, variants={"a": {"model": MODEL}}))
    assert study.raw_config("a")["model"] == MODEL


def test_a_variant_with_a_base_of_its_own(tmp_path):
    other = tiny_study(tmp_path)["base"] | {"model": {"preset": "schnet_like", "cutoff": 4.0, "n_layers": 1, "n_channels": 2}}
    _, plan = load(write_study(tmp_path, variants={"a": {}, "b": {"base": other, "train.batch_size": 1}}))
    assert [run.config["model"]["preset"] for run in plan.runs] == ["nequip", "schnet_like"]
    assert [run.config["train"]["batch_size"] for run in plan.runs] == [2, 1]


def test_dotted_and_nested_keys_are_the_same():
    dotted = nested({"model.l_max": 1, "model.layers.product.correlation": 2, "train": {"ema": None}}, "")
    assert dotted == {"model": {"l_max": 1, "layers": {"product": {"correlation": 2}}}, "train": {"ema": None}}


def test_what_is_written_can_be_read_again(tmp_path):
    study = read_study(write_study(tmp_path, variants={"a": None, "b": {"train.ema": None}}))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "study.yaml").write_text(dump_study(study))
    again = read_study(tmp_path / "out")
    assert again.spec == study.spec
    assert again.raw_config("b") == study.raw_config("b") and again.raw_config("b")["train"]["ema"] is None


def test_on_the_command_line(tmp_path):
    runner = CliRunner()
    listed = runner.invoke(build(), ["study", str(write_study(tmp_path, seeds=[0, 3])), "--list"], catch_exceptions=False)
    assert listed.output.split() == ["flat-n4-s0", "flat-n4-s3", "full-n4-s0", "full-n4-s3"]
    dry = runner.invoke(build(), ["study", str(tmp_path / "study.yaml"), "--dry-run"], catch_exceptions=False)
    assert "full-n4-s3" in dry.output and "4 runs to do" in dry.output and "parameters" in dry.output
    assert not (tmp_path / "out").exists()
    with pytest.raises(UserError, match="no such study"):
        runner.invoke(build(), ["study", str(tmp_path / "none.yaml")], catch_exceptions=False)
