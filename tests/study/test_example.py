"""The example of the documentation, smaller."""

import math
from pathlib import Path

from equipot.study.results import gather
from equipot.study.run import load, run_only

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "study_ethanol.yaml"


def test_the_example(tmp_path):
    assert [run.name for run in load(EXAMPLE, None, [f"out={tmp_path}"])[1].runs][:2] == ["l0-n25-s0", "l0-n25-s1"]
    words = ["sizes=[4]", "seeds=[0]", "budget.max_updates=4", "base.model.n_channels=4", "base.model.n_layers=2", f"out={tmp_path}"]
    words += ["variants={l1: {model.l_max: 1}}", 'evaluate={cold: "equipot:ethanol_300K@:3", hot: {file: "equipot:ethanol_600K@:3"}}']
    assert run_only(EXAMPLE, "l1-n4-s0", words) == "done"
    table = gather(tmp_path)
    assert len(table[table["set"] == "hot"]) == 6 and all(map(math.isfinite, table.value))
