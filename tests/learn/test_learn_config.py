"""Mistakes in the configuration, each told in one line with its place and its remedy."""

import pytest
from tiny_learning import settings, written

from equipot.errors import UserError
from equipot.learn.config_file import dump_plan, read_plan


def complaint(folder, *words: str, **sections) -> str:
    with pytest.raises(UserError) as told:
        read_plan(written(folder, settings(folder, **sections)), words)
    assert "\n" not in str(told.value)
    return str(told.value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["rouns=3"], "command line: rouns: not a key of a configuration of learning: did you mean 'rounds'?"),
        (["explore.treshold.forces_std=1"], "explore.treshold: not a key of explore: did you mean 'threshold'?"),
        (["goal.force_mae=1"], "goal.force_mae: not a key of goal: did you mean 'forces_mae'?"),
        (["explore.threshold.forces_std=-0.1"], "explore.threshold.forces_std: should be greater than 0, not -0.1"),
        (["explore.threshold.forces_std=0"], "should be greater than 0"),
        (["explore.stop.forces_std=1e-9"], "stop.forces_std 1e-09 must be above threshold.forces_std 1e-06"),
        (["explore.structures=[]"], "explore.structures: is empty: give at least one"),
        (["explore.interval=100"], "interval 100 is longer than a trajectory of 6 steps"),
        (["explore.tau=10.0"], "tau goes with the ensemble nvt, not with langevin"),
        (["ensemble=1"], "ensemble: should be greater than or equal to 2, not 1"),
        (["train.train.ensemble=4"], "train.ensemble is a key of the learning itself: `ensemble`: leave it out"),
        (["train.data.n_train=4"], "the training set grows"),
        (["train.train.max_tim=1"], "train.max_tim: not a key of train: did you mean 'max_time'?"),
        (["train=nowhere.yaml"], "there is no configuration"),
        (["goal.on=hold", "goal.forces_mae=0.1"], "goal.on: is no set of train.data.test: it takes held"),
        (["goal.on=held"], "goal: name an error to reach, such as forces_mae: 0.05"),
        (["train.data.test=null", "goal.forces_mae=0.1"], "name its file in train.data.test"),
        (["budget.labels=0"], "budget.labels: should be greater than 0"),
    ],
)
def test_mistakes_are_told_with_their_remedy(tmp_path, words, message):
    assert message in complaint(tmp_path, *words)


def test_the_line_of_a_mistake_is_named(tmp_path):
    data = settings(tmp_path, select={"maximum": 3})
    file = written(tmp_path, data)
    line = next(i for i, text in enumerate(file.read_text().splitlines(), 1) if "maximum" in text)
    with pytest.raises(UserError, match=f"learn.yaml, line {line}: select.maximum: not a key of select"):
        read_plan(file)


def test_what_is_missing_is_named(tmp_path):
    for key, message in (("explore", "explore: is missing"), ("label", "label: is missing"), ("train", "train is missing")):
        data = settings(tmp_path)
        del data[key]
        with pytest.raises(UserError, match=message):
            read_plan(written(tmp_path, data))


def test_a_training_can_be_a_file_and_words_reach_into_it(tmp_path):
    from ruamel.yaml import YAML

    data = settings(tmp_path)
    YAML().dump(data["train"], tmp_path / "base.yaml")
    plan = read_plan(written(tmp_path, data | {"train": "base.yaml"}), ["train.train.seed=7"])
    assert plan.training.train.seed == 7
    assert plan.training.data.test_sets() == data["train"]["data"]["test"]


def test_what_is_written_is_read_back(tmp_path):
    plan = read_plan(written(tmp_path, settings(tmp_path, goal={"forces_mae": 0.1})), ["train.train.ema=null"])
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "learn.yaml").write_text(dump_plan(plan))
    again = read_plan(tmp_path / "out")
    assert again.config.model_copy(update={"train": {}}) == plan.config.model_copy(update={"train": {}})
    assert again.training.model_copy(update={"name": "", "out": ""}) == plan.training.model_copy(update={"name": "", "out": ""})
