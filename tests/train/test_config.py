"""Mistakes in a configuration: each says key, line and what would be right, before any work."""

import re

import pytest

from equipot.errors import UserError
from equipot.presets import PRESETS
from equipot.train.config_file import dump_config, json_schema, parse_config, read_config
from equipot.train.model_config import build_spec
from equipot.train.preset_text import preset_config
from equipot.train.setup import fill_spec

GOOD = """\
name: water
model:
  preset: nequip
  cutoff: 4.5
  n_layers: 2
  radial_basis: {n: 6}
data:
  train: a.xyz
  validation: 0.1
  test: {cold: b.xyz, hot: ["c.xyz", "d.xyz@0:10"]}
loss: {energy: 1.0, forces: 10}
train:
  batch_size: 5
  max_time: 02:00:00
out: runs/water
"""

BAD = [
    ("batch_size: 5", "batchsize: 5", 13, "train.batchsize", "did you mean 'batch_size'"),
    ("batch_size: 5", "batch_size: five", 13, "train.batch_size", "integer, not 'five'"),
    ("batch_size: 5", 'batch_size: "5"', 13, "train.batch_size", "integer, not '5'"),
    ("batch_size: 5", "batch_size: 0", 13, "train.batch_size", "greater than 0"),
    ("batch_size: 5", "batch_size: true", 13, "train.batch_size", "integer, not True"),
    ("max_time: 02:00:00", "max_time: 2h", 14, "train.max_time", "HH:MM:SS"),
    ("batch_size: 5", "optimizer: adamm", 13, "train.optimizer", "'adamw'"),
    ("batch_size: 5", "device: gpu", 13, "train.device", "not 'gpu'"),
    ("batch_size: 5", "{optimizer: schedule_free, ema: 0.9}", 12, "train", "ema"),
    ("cutoff: 4.5", "cutoff: 0", 4, "model.cutoff", "greater than 0, not 0"),
    ("cutoff: 4.5", "cutoff: 450", 4, "model.cutoff", "less than or equal to 100"),
    ("cutoff: 4.5", "cutoff: .inf", 4, "model.cutoff", "finite"),
    ("n_layers: 2", "n_layers: 100000", 5, "model.n_layers", "less than or equal to 100"),
    ("n_layers: 2", "radial_mlp: 64", 5, "model.radial_mlp", "a list such as"),
    ("batch_size: 5", "seed: 123456789012345678901234567890", 13, "train.seed", "less than"),
    ("batch_size: 5", "learning_rate: .inf", 13, "train.learning_rate", "finite"),
    ("{energy: 1.0, forces: 10}", "{energy: .inf}", 11, "loss.energy", "finite"),
    ("{energy: 1.0, forces: 10}", "5", 11, "loss", "a section of keys"),
    ("cutoff: 4.5", "cutof: 4.5", 4, "model.cutof", "did you mean 'cutoff'"),
    ("cutoff: 4.5", "cutoff: far", 4, "model.cutoff", "number, not 'far'"),
    ("n_layers: 2", "n_layers: 2.5", 5, "model.n_layers", "2.5"),
    ("n_layers: 2", "n_layers: 0", 5, "model.n_layers", "greater than or equal to 1"),
    ("n_layers: 2", "parity: odd", 5, "model.parity", "not 'odd'"),
    ("preset: nequip", "preset: nequp", 3, "model.preset", "did you mean 'nequip'"),
    ("radial_basis: {n: 6}", "radial_basis: {envelop: cosine}", 6, "model.radial_basis.envelop", "did you mean 'envelope'"),
    ("radial_basis: {n: 6}", "radial_basis: {kind: besel}", 6, "model.radial_basis.kind", "not 'besel'"),
    ("radial_basis: {n: 6}", "radial_basis: 6", 6, "model.radial_basis", "a mapping of"),
    ("radial_basis: {n: 6}", "layers: {normaliser: {knd: mean}}", 6, "model.layers.normaliser.knd", "did you mean 'kind'"),
    ("radial_basis: {n: 6}", "last_layer: {l_max: many}", 6, "model.last_layer.l_max", "not 'many'"),
    ("radial_basis: {n: 6}", "pair_cutoff: {H-X1: 3.0}", 6, "model.pair_cutoff.H-X1", "a pair of elements such as H-O"),
    ("radial_basis: {n: 6}", "pair_cutoff: {H-O: 9.0, H-H: 3}", 2, "model", "not above the cutoff"),
    ("radial_basis: {n: 6}", "pair_cutoff: 3.0", 6, "model.pair_cutoff", "a mapping of pairs"),
    ("radial_basis: {n: 6}", "initialisation: none", 6, "model.initialisation", "'plain'"),
    ("radial_basis: {n: 6}", "energy: {shift: 1.0}", 2, "model", "isolated_atom: free"),
    ("train: a.xyz", "train: null", 8, "data.train", "data.train=frames.xyz"),
    ("train: a.xyz", "train: 3", 8, "data.train", "a file or a list of files"),
    ("validation: 0.1", "validation: 1.5", 9, "data.validation", "a count is a whole number"),
    ("validation: 0.1", "validation: {a: b}", 9, "data.validation", "a fraction, a count"),
    ("validation: 0.1", "vaildation: 0.1", 9, "data.vaildation", "did you mean 'validation'"),
    ("validation: 0.1", "keys: {enrgy: e}", 9, "data.keys.enrgy", "did you mean 'energy'"),
    ("validation: 0.1", "reference_energies: {H: low}", 9, "data.reference_energies", "not"),
    ("{energy: 1.0, forces: 10}", "{energy: 0, forces: 0}", 11, "loss", "all weights are zero"),
    ("{energy: 1.0, forces: 10}", "{energy: -1}", 11, "loss.energy", "greater than or equal to 0"),
    ("{energy: 1.0, forces: 10}", "{kind: rmse}", 11, "loss.kind", "'mse', 'mae' or 'huber'"),
    ("{energy: 1.0, forces: 10}", "{schedule: [{energy: 3}]}", 11, "loss.schedule.0", "from_fraction or from_epoch"),
    ("{energy: 1.0, forces: 10}", "{schedule: [{from_epoch: 3, enrgy: 3}]}", 11, "loss.schedule.0.enrgy", "did you mean 'energy'"),
    ("name: water", "nme: water", 1, "nme", "did you mean 'name'"),
    ("out: runs/water", "executor: ray", 15, "executor", "local"),
    ("out: runs/water", "out: 3", 15, "out", "string"),
]


@pytest.mark.parametrize(("old", "new", "line", "key", "says"), BAD, ids=[row[1] for row in BAD])
def test_a_mistake_names_key_line_and_remedy(old, new, line, key, says):
    text = GOOD.replace("\n" + old, "\n" + new) if old.startswith("{") else GOOD.replace(old, new)
    if new.startswith("{") and not old.startswith("{"):
        text = GOOD[: GOOD.index("train:\n  batch")] + f"train: {new}\n"
    elif old.startswith("{"):
        text = GOOD.replace(old, new)
    assert text != GOOD
    with pytest.raises(UserError) as error:
        parse_config(text, "water.yaml")
    message = str(error.value)
    assert "\n" not in message
    assert message.startswith(f"water.yaml, line {line}: {key}: "), message
    assert says in message


def test_good_values_arrive():
    config = parse_config(GOOD)
    assert config.train.max_seconds == 7200.0
    assert config.data.test_sets() == {"cold": "b.xyz", "hot": ["c.xyz", "d.xyz@0:10"]}
    spec = build_spec(config.model)
    assert (spec.cutoff, len(spec.layers), spec.radial_basis.n, spec.radial_basis.prefactor) == (4.5, 2, 6, "linear")


@pytest.mark.parametrize("text", ["model: [", "a: 1\na: 2", "\tx: 1", "- 1", "just words", ""])
def test_what_is_no_configuration_is_one_clear_line(text):
    with pytest.raises(UserError, match="^c.yaml") as error:
        parse_config(text, "c.yaml")
    assert "\n" not in str(error.value)


def test_overrides_are_yaml_and_go_deep():
    words = [
        "train.max_time=00:15:00",
        "data.train=[x.xyz, y.xyz]",
        "loss.schedule=[{from_fraction: 0.5, energy: 10}]",
        "model.n_layers=3",
        "train.ema=null",
    ]
    config = parse_config(GOOD, overrides=words)
    assert (config.train.max_seconds, config.data.train, config.train.ema) == (900.0, ["x.xyz", "y.xyz"], None)
    assert config.loss.schedule[0].energy == 10
    assert len(build_spec(config.model).layers) == 3


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("train.batchsize=3", "command line: train.batchsize: .*batch_size"),
        ("train", "not KEY=VALUE"),
        ("name.x=1", "name is not a section"),
        ("train.batch_size=[", "not valid YAML"),
    ],
)
def test_a_wrong_override_says_so(word, says):
    with pytest.raises(UserError, match=says):
        parse_config(GOOD, "water.yaml", [word])


def test_layers_are_merged_from_the_general_to_the_particular():
    model = {
        "preset": "botnet",
        "n_layers": 3,
        "layers": {"radial": {"widths": [7]}, "normaliser": {"kind": "sqrt"}},
        "first_layer": {"normaliser": {"kind": "none"}},
        "last_layer": {"readout": {"widths": [5]}},
    }
    first, middle, last = build_spec(model).layers
    assert all(layer.radial.widths == (7,) and layer.radial.activation == "silu" for layer in (first, middle, last))
    assert [layer.normaliser.kind for layer in (first, middle, last)] == ["none", "sqrt", "sqrt"]
    assert (last.readout.widths, middle.readout.widths) == ((5,), ())


def test_variables_in_paths(monkeypatch):
    monkeypatch.setenv("SOME_DATA", "/there")
    text = GOOD.replace("a.xyz", "${SOME_DATA}/a.xyz").replace("runs/water", "${SOME_DATA}/run")
    config = parse_config(text)
    assert (config.data.train, config.out) == ("/there/a.xyz", "/there/run")
    monkeypatch.delenv("SOME_DATA")
    with pytest.raises(UserError, match="c.yaml, line 8: data.train: the environment variable SOME_DATA is not set"):
        parse_config(text, "c.yaml")


def test_what_is_written_reads_the_same(tmp_path):
    config = parse_config(GOOD, overrides=["loss.schedule=[{from_epoch: 2, forces: 1}]"])
    assert 'max_time: "02:00:00"' in dump_config(config)
    again = parse_config(dump_config(config))
    assert again.model_dump(exclude={"model"}) == config.model_dump(exclude={"model"})
    assert build_spec(again.model) == build_spec(config.model)


@pytest.mark.parametrize("name", list(PRESETS))
def test_a_preset_needs_only_its_data(name, tmp_path):
    text = preset_config(name)
    config = parse_config(text, f"{name}.yaml", ["data.train=frames.xyz"])
    assert build_spec(config.model).preset == name
    with pytest.raises(UserError, match=rf"{name}.yaml, line \d+: data.train: name the file"):
        parse_config(text, f"{name}.yaml")


def test_a_preset_that_is_none():
    with pytest.raises(UserError, match="did you mean 'botnet'"):
        preset_config("botnett")


def test_a_missing_file():
    with pytest.raises(UserError, match="nowhere.yaml: no such configuration"):
        read_config("nowhere.yaml")


def test_the_schema_knows_every_key():
    schema = json_schema()
    variants = {v["title"]: v for v in schema["properties"]["model"]["oneOf"]}
    assert set(variants) == set(PRESETS)
    assert {"cutoff", "pair_cutoff", "radial_basis", "first_layer"} <= set(variants["botnet"]["properties"])
    assert variants["nequip"]["additionalProperties"] is False
    references = set(re.findall(r"#/\$defs/(\w+)", str(schema)))
    assert references <= set(schema["$defs"])
    assert "batch_size" in schema["$defs"]["TrainConfig"]["properties"]


@pytest.mark.parametrize("section", ["train: {scheduler: plateau}", "train: {patience: 3}"])
def test_what_needs_validation_asks_for_it(section):
    text = GOOD[: GOOD.index("train:\n  batch")].replace("validation: 0.1", "validation: 0") + section
    with pytest.raises(UserError, match="validation data"):
        parse_config(text)


def test_cutoffs_by_pair_of_elements():
    text = GOOD.replace("radial_basis: {n: 6}", "pair_cutoff: {H-O: 3.0, H-H: 2.5}\n  initialisation: plain")
    spec = build_spec(parse_config(text, "c.yaml").model)
    assert (spec.elements, spec.pair_cutoff) == ((1, 8), ((2.5, 3.0), (3.0, 4.5)))
    assert spec.initialisation == "plain"
    with pytest.raises(UserError, match="names the elements H, O, the training data have H: name a pair of each"):
        fill_spec(spec, [1], None, None)
