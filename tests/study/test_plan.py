"""What a study expands to, and what is kept of it."""

import json

import pytest
from tiny_studies import tiny_study, write_study

from equipot import __version__
from equipot.errors import UserError
from equipot.study.cost import converged, validation_column
from equipot.study.estimate import Measured, estimates, training_time
from equipot.study.plan import read_plan, run_config, run_folder
from equipot.study.run import load
from equipot.study.state import differences, refuse_mixture, write_status
from equipot.train.config import MEASURES, RunConfig
from equipot.train.metrics import COLUMNS
from equipot.train.schedule import Progress
from equipot.train.setup import read_checked


def sources(plan, out, name):
    return {frame.source for frame in read_checked(run_config(out, plan, plan.run(name))).train}


def test_a_smaller_set_is_part_of_a_larger_one(tmp_path):
    _, plan = load(write_study(tmp_path, sizes=[2, 4, 8], seeds=[0, 1]))
    for variant in ("flat", "full"):
        chosen = [sources(plan, tmp_path, f"{variant}-n{n}-s0") for n in (2, 4, 8)]
        assert [len(c) for c in chosen] == [2, 4, 8]
        assert chosen[0] < chosen[1] < chosen[2]
    assert sources(plan, tmp_path, "flat-n4-s0") == sources(plan, tmp_path, "full-n4-s0")
    assert sources(plan, tmp_path, "flat-n4-s0") != sources(plan, tmp_path, "flat-n4-s1")


@pytest.mark.parametrize("size", [2, 3, 8])
def test_equal_updates_whatever_the_size(tmp_path, size):
    """A base that would stop by epochs or time does not, and the number of validations is about the same."""
    base = tiny_study(tmp_path)["base"]
    base["train"] |= {"max_epochs": 2, "max_time": "00:00:01"}
    _, plan = load(write_study(tmp_path, base=base, sizes=[size], budget={"max_updates": 60, "validations": 5}))
    train = run_config(tmp_path, plan, plan.runs[0]).train
    progress = Progress(train, -(-size // train.batch_size))
    assert progress.last_update == 60 and train.max_seconds is None
    assert 60 / progress.updates_per_epoch / train.validate_every == pytest.approx(5, abs=1)


def test_a_time_for_every_run(tmp_path):
    _, plan = load(write_study(tmp_path, budget={"max_time": "00:10:00"}))
    train = run_config(tmp_path, plan, plan.runs[0]).train
    assert train.max_seconds == 600.0 and train.max_updates is None
    assert Progress(train, 2).fraction(100, 300.0) == 0.5


def test_all_structures_where_no_sizes_are_given(tmp_path):
    content = tiny_study(tmp_path)
    content.pop("sizes")
    _, plan = load(write_study(tmp_path, sizes=None))
    assert {run.size for run in plan.runs} == {10}


def test_a_run_is_an_ordinary_one(tmp_path):
    _, plan = load(write_study(tmp_path, executor={"kind": "local", "threads": 3}))
    run = plan.run("1")
    config = run_config(tmp_path / "out", plan, run)
    assert (config.name, config.train.seed, config.data.n_train, config.train.threads) == ("full-n4-s0", 0, 4, 3)
    assert config.out == str(run_folder(tmp_path / "out", run)) and list(config.data.test_sets()) == ["cold", "hot"]
    with pytest.raises(UserError, match="no run of this study; it has 2, such as flat-n4-s0"):
        plan.run("7")


def written(tmp_path, **sections):
    """The plan of a study whose first run has begun."""
    _, plan = load(write_study(tmp_path, **sections))
    out = tmp_path / "out"
    out.mkdir(exist_ok=True)
    plan.write(out)
    write_status(run_folder(out, plan.runs[0]), {"status": "done"})
    return out, plan


def test_the_plan_is_read_as_it_was_written(tmp_path):
    out, plan = written(tmp_path)
    assert read_plan(out) == plan
    (out / "plan.json").write_text("{")
    with pytest.raises(UserError, match="damaged, or not the plan"):
        read_plan(out)


def test_seeds_sizes_variants_and_sets_may_be_added(tmp_path):
    out, _ = written(tmp_path)
    more = {"seeds": [0, 1], "sizes": [4, 8], "variants": {"flat": {"model.l_max": 0}, "full": {}, "new": {"model.n_channels": 3}}}
    _, plan = load(write_study(tmp_path, **more, evaluate={"cold": str(tmp_path / "cold.xyz")}))
    assert len(plan.runs) == 12


def test_what_was_begun_otherwise_is_refused_with_the_difference(tmp_path):
    base = tiny_study(tmp_path)["base"]
    _, plan = written(tmp_path)
    changed = base | {"train": base["train"] | {"batch_size": 1}}
    with pytest.raises(UserError, match=r"begun from another base: train.batch_size: 2 -> 1: take another out"):
        load(write_study(tmp_path, base=changed))
    with pytest.raises(UserError, match=r"flat-n4-s0 was begun with another configuration: model.l_max: 0 -> 1"):
        load(write_study(tmp_path, variants={"flat": {"model.l_max": 1}}))
    with pytest.raises(UserError, match=r"train.max_updates: 6 -> 7"):
        load(write_study(tmp_path, budget={"max_updates": 7}))
    load(write_study(tmp_path, variants={"flat": {"model.l_max": 0}, "full": {"model.l_max": 2}}))  # that one has not begun
    with open(tmp_path / "train.xyz", "a") as file:
        file.write((tmp_path / "hot.xyz").read_text())
    with pytest.raises(UserError, match=r"train.xyz has changed since the study was begun"):
        load(write_study(tmp_path))


def test_another_version_is_refused(tmp_path):
    out, plan = written(tmp_path)
    content = json.loads((out / "plan.json").read_text()) | {"equipot": "0.0.1"}
    (out / "plan.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=f"was begun with equipot 0.0.1, this is {__version__}"):
        load(tmp_path / "study.yaml")
    (run_folder(out, plan.runs[0]) / "status.json").unlink()  # nothing has begun: there is nothing to mix
    refuse_mixture(out, read_plan(out), plan)


def test_differences_name_what_is_new_and_gone():
    assert differences({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "d": 3}}) == ["a.c: 2 -> nothing", "a.d: nothing -> 3"]


def test_estimates_count_validations(tmp_path):
    _, plan = load(write_study(tmp_path, sizes=[2, 8], budget={"max_updates": 40}))
    small, large = (run_config(tmp_path, plan, plan.run(f"full-n{n}-s0")) for n in (2, 8))
    found = Measured(10, small.train.batch_size, 1.0, 3.0, 0.0)
    assert training_time(small, 2, found) == (40, 40 * (1.0 + 3.0))
    assert training_time(large, 8, found) == (40, 40 * 1.0 + 10 * 3.0)
    half = Measured(10, 4, 1.0, 0.0, 0.0)  # measured with four structures, all there were, of a larger batch
    wide = small.model_copy(update={"train": small.train.model_copy(update={"batch_size": 32})})
    assert training_time(wide, 2, half) == (40, 20.0) and training_time(wide, 4, half) == (40, 40.0)
    bounded = small.model_copy(update={"train": small.train.model_copy(update={"max_time": "00:01:20"})})
    assert training_time(bounded, 2, found) == (20, 80.0)
    every = list(estimates(tmp_path / "out", plan))
    assert [e.run.name for e in every] == [run.name for run in plan.runs]
    assert all(e.updates == 40 and e.seconds > 0 for e in every)
    assert every[0].n_parameters < every[-1].n_parameters


def rows(errors, rate_at_end=0.0):
    last = len(errors)
    return [
        {"updates": 10.0 * (i + 1), "learning_rate": rate_at_end if i + 1 == last else 1e-2, "valid_loss": e} for i, e in enumerate(errors)
    ]


def test_every_measure_has_its_column():
    for measure in MEASURES:
        config = RunConfig.model_validate({"name": "", "model": {}, "data": {"train": "a"}, "train": {"measure": measure}, "out": ""})
        assert validation_column(config) in COLUMNS


def test_converged(tmp_path):
    _, plan = load(write_study(tmp_path))
    config = run_config(tmp_path, plan, plan.runs[0])
    settled = [1.0 / (i + 1) for i in range(18)] + [0.055, 0.0549]
    assert converged(rows(settled), config) is True
    assert converged(rows(settled, rate_at_end=1e-2), config) is False  # was cut short
    assert converged(rows([1.0 / (i + 1) for i in range(20)]), config) is False  # still falls: by 5 % of a root mean square
    assert converged(rows([1.0] * 18 + [0.97, 0.97]), config) is True  # 3 % of a square
    constant = config.model_copy(update={"train": config.train.model_copy(update={"scheduler": "constant"})})
    assert converged(rows(settled, rate_at_end=1e-2), constant) is True
    assert converged([{"updates": 1.0, "learning_rate": 0.0}], config) is None
    by_forces = config.model_copy(update={"train": config.train.model_copy(update={"measure": "forces_rmse"})})
    assert converged([r | {"valid_forces_rmse_meV_A": r["valid_loss"]} for r in rows([1.0] * 18 + [0.97, 0.97])], by_forces) is False
