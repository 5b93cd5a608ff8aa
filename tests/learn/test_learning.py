"""Whole learnings: rounds, their files, going on after a kill to the same end, and the ways in which one ends."""

import csv
import json
import os
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import ase.io
import pytest
from tiny_learning import HERE, trimers

from equipot.data.readers import read_frames
from equipot.errors import UserError
from equipot.learn import explore, label, rounds
from equipot.learn.run import learn
from equipot.learn.table import draw
from equipot.model import Ensemble, load_model


def table(out: Path) -> list[dict[str, str]]:
    """rounds.csv without what differs from run to run."""
    with open(out / "rounds.csv", newline="") as file:
        return [{k: v for k, v in row.items() if not k.endswith("seconds")} for row in csv.DictReader(file)]


def state(out: Path) -> dict:
    return json.loads((out / "learn.json").read_text())


@pytest.fixture
def counted(monkeypatch) -> Counter:
    """How often each kind of work is done, and a way to be killed: counted["kill"] = (name, n) stops before the n-th."""
    found: Counter = Counter()

    def count(module, name):
        real = getattr(module, name)

        def call(*given, **more):
            found[name] += 1
            if found.get("kill") == (name, found[name]):
                raise KeyboardInterrupt
            return real(*given, **more)

        monkeypatch.setattr(module, name, call)

    for module, name in ((rounds, "train"), (explore, "walk"), (rounds, "select"), (label, "label_all")):
        count(module, name)
    return found


def test_a_learning_and_the_same_one_killed_at_every_step(make_plan, counted, tmp_path):
    plan = make_plan()
    outcome = learn(plan)
    out = Path(plan.config.out)
    assert (outcome.status, outcome.reason) == ("done", "all 1 rounds are done")
    assert counted == {"train": 2, "walk": 2, "select": 1, "label_all": 2}  # isolated atoms are labelled too
    rows = table(out)
    assert [row["n_labels"] for row in rows] == ["8", "10"]
    assert rows[0]["n_samples"] == "6" and rows[0]["n_labelled"] == "2"
    assert float(rows[1]["held_forces_mae"]) > 0 and float(rows[0]["new_forces_mae"]) > 0
    model = load_model(out / "round-1" / "train" / "best.equipot")
    assert isinstance(model, Ensemble) and len(model) == 2
    candidates = read_frames(out / "round-0" / "candidates.extxyz")
    assert len(candidates) == 6 and all(frame.energy is None and frame.info["forces_std"] > 0 for frame in candidates)
    labelled = read_frames(out / "round-0" / "labelled.extxyz")
    assert all(frame.energy is not None and frame.config_type == "round-0" for frame in labelled)
    assert (out / "rounds.png").is_file() == (find_spec("matplotlib") is not None)
    assert state(out)["status"] == "done"
    assert not list(out.rglob("scratch")) and not list(out.rglob("walkers"))

    with pytest.raises(UserError, match="holds a learning already: go on with it by --resume"):
        learn(plan)
    counted.clear()
    learn(plan, resume=True)
    assert not counted  # nothing is done twice

    other = make_plan(out=str(tmp_path / "killed"))
    counted.clear()
    total = Counter()
    for name, n in (("label_all", 1), ("train", 1), ("walk", 2), ("select", 1), ("label_all", 1), ("train", 1)):
        counted.clear()
        counted["kill"] = (name, n)
        with pytest.raises(KeyboardInterrupt):
            learn(other, resume=(tmp_path / "killed").exists())
        del counted["kill"]
        counted[name] -= 1
        total += counted
    counted.clear()
    learn(other, resume=True)
    total += counted
    assert total == {"train": 2, "walk": 2, "select": 1, "label_all": 2}  # what was done before each kill was kept
    assert table(tmp_path / "killed") == rows


def test_a_folder_of_another_configuration_is_refused(make_plan):
    learn(make_plan())
    with pytest.raises(UserError, match="begun with another configuration: select.strategy was 'spread', now 'random'"):
        learn(make_plan(select={"strategy": "random"}), resume=True)
    with pytest.raises(UserError, match=r"train\.train\.seed was 0, now 3"):
        changed = make_plan()
        training = changed.training.model_copy(update={"train": changed.training.train.model_copy(update={"seed": 3})})
        learn(type(changed)(changed.config, training), resume=True)
    plan = make_plan(rounds=2, budget={"labels": 1})  # these may change
    assert learn(plan, resume=True).reason == "the budget of 1 labels is used up"
    ase.io.write(plan.training.data.train, trimers(9, seed=7), format="extxyz")
    with pytest.raises(UserError, match="init.xyz has changed since the learning was begun"):
        learn(plan, resume=True)


def test_ends(make_plan, tmp_path):
    """The goal; nothing uncertain; trajectories that end at once; nothing new."""
    outcome = learn(make_plan(goal={"forces_mae": 1e3}, out=str(tmp_path / "goal")))
    assert outcome.status == "done" and outcome.reason.startswith("the goal is reached: forces_mae ") and len(outcome.rounds) == 1
    sure = {"threshold": {"forces_std": 1e5}}
    outcome = learn(make_plan(explore=sure, out=str(tmp_path / "sure")))
    assert outcome.status == "stopped"
    assert "none of 6 samples has a spread above 100000 eV/Å" in outcome.reason and "lower the threshold" in outcome.reason
    outcome = learn(make_plan(select={"min_distance": 50.0}, out=str(tmp_path / "sure")), resume=True)
    assert outcome.status == "stopped" and "are within 50 Å of labelled structures" in outcome.reason
    assert learn(make_plan(out=str(tmp_path / "sure")), resume=True).status == "done"  # mended, and gone on with
    unsure = {"threshold": {"forces_std": 1e-12}, "stop": {"forces_std": 2e-12}}
    outcome = learn(make_plan(explore=unsure, out=str(tmp_path / "unsure")))
    assert "all 2 trajectories ended before their first sample" in outcome.reason
    assert outcome.rounds[0]["explore"]["n_unsure"] == 2


def test_random_takes_what_is_below_the_threshold_too_within_the_budget(make_plan):
    plan = make_plan(explore={"threshold": {"forces_std": 1e5}}, select={"strategy": "random"}, budget={"labels": 1}, rounds=3)
    outcome = learn(plan)
    assert outcome.rounds[0]["explore"]["n_above"] == 0
    assert outcome.rounds[0]["select"]["n_selected"] == 1
    assert outcome.reason == "the budget of 1 labels is used up" and len(outcome.rounds) == 2


def test_start_structures_are_checked_before_anything_is_written(make_plan, tmp_path):
    for atoms, message in (
        (trimers(1, labelled=False)[0], "Ni is not in the initial labelled set"),
        (trimers(1)[0][:1], "no structures to start"),
    ):
        atoms.symbols[0] = "Ni"
        ase.io.write(tmp_path / "start.xyz", atoms, format="extxyz")
        with pytest.raises(UserError, match=message):
            learn(make_plan(explore={"structures": str(tmp_path / "start.xyz")}))
    with pytest.raises(UserError, match="cannot be imported: ModuleNotFoundError"):
        learn(make_plan(label={"calculator": "nowhere:make"}))
    with pytest.raises(UserError, match="there is no learning to resume"):
        learn(make_plan(), resume=True)
    assert not (tmp_path / "out").exists()


def test_sets_are_labelled_anew_where_wanted_and_failing_atoms_say_what_to_do(make_plan, tmp_path):
    ase.io.write(tmp_path / "init.xyz", trimers(8, seed=1, labelled=False), format="extxyz")
    plan = make_plan(label={"relabel": True}, goal={"forces_mae": 1e3})
    learn(plan)
    sets = Path(plan.config.out) / "sets"
    reference = {len(a): a for a in trimers(8, seed=1)}[3]
    assert read_frames(sets / "train.extxyz")[-1].energy == pytest.approx(reference.get_potential_energy(), abs=1e-6)
    assert {f.symbols[0] for f in read_frames(sets / "isolated_atoms.extxyz")} == {"Cu", "Al"}
    label_ = {"calculator": "tiny_learning:no_atoms", "modules": str(HERE)}
    with pytest.raises(UserError, match=r"\(Al: ValueError: no atoms\): give energies in train.data.reference_energies"):
        learn(make_plan(label=label_, out=str(tmp_path / "atoms")))


def test_isolated_atoms_that_failed_are_tried_again(make_plan, tmp_path, monkeypatch):
    """The same calculator, mended: going on labels the atom that it could not."""
    source, code = tmp_path / "mended.py", "from tiny_learning import no_atoms\n\ndef make():\n    return no_atoms()\n"
    source.write_text(code)
    plan = make_plan(label={"calculator": "mended:make", "modules": str(tmp_path)}, goal={"forces_mae": 1e3})
    atoms = Path(plan.config.out) / "sets" / "isolated_atoms"
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]))
    with pytest.raises(UserError, match="Al: ValueError: no atoms"):
        learn(plan)
    assert (atoms / "failed.extxyz").is_file()
    source.write_text("from ase.calculators.emt import EMT as make\n")
    assert learn(plan, resume=True).status == "done"
    assert not (atoms / "failed.extxyz").exists()


def test_walks_of_other_settings_are_not_mixed(make_plan, counted):
    """Killed in the second walk and gone on with other settings: the first is walked again where it would be another."""
    counted["kill"] = ("walk", 2)
    with pytest.raises(KeyboardInterrupt):
        learn(make_plan())
    for changed, again in (({"threshold": {"forces_std": 1e-5}}, 0), ({"interval": 3}, 1), ({"interval": 3, "temperature": 500.0}, 1)):
        counted.clear()
        counted["kill"] = ("walk", 1 + again)
        with pytest.raises(KeyboardInterrupt):
            learn(make_plan(explore=changed), resume=True)
    counted.clear()
    found = learn(make_plan(explore=changed), resume=True).rounds[0]["explore"]
    assert counted["walk"] == 1 and found["n_samples"] == 4


def test_every_learning_has_its_curve(tmp_path, monkeypatch):
    """Also those whose folders have the same name; one that is given twice is drawn once."""
    figure = pytest.importorskip("matplotlib.figure").Figure
    drawn = []
    monkeypatch.setattr(figure, "savefig", lambda self, *_, **__: drawn.extend(line.get_label() for line in self.axes[0].lines))
    folders = [tmp_path / name for name in ("a/learn", "b/learn", "other")]
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "rounds.csv").write_text("round,n_labels,held_forces_mae\n0,8,0.2\n1,10,0.1\n")
    monkeypatch.chdir(folders[0])
    assert draw([Path("."), *folders], tmp_path / "rounds.png")
    assert drawn == ["a/learn", "b/learn", f"{tmp_path.name}/other"]
    drawn.clear()
    assert draw([folders[0], folders[2]], tmp_path / "rounds.png")
    assert drawn == ["learn", "other"]
