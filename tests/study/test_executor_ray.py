"""A study on a real Ray of two workers, one of which is killed in the middle of its run."""

import os
import signal
import threading
import time

import pytest
from tiny_studies import tiny_study, write_study

from equipot.errors import UserError
from equipot.study.run import run_study
from equipot.study.state import read_status

ray = pytest.importorskip("ray")


def kill_in_the_middle(folder, killed):
    """Kills the worker at a run once when it has written a checkpoint."""
    for _ in range(6000):
        if (folder / "last.ckpt").is_file():
            killed.append(read_status(folder)["pid"])
            os.kill(killed[0], signal.SIGKILL)
            return
        time.sleep(0.02)


@pytest.mark.timeout(300)
def test_a_worker_is_killed_and_the_study_completes(tmp_path):
    base = tiny_study(tmp_path)["base"]
    base["train"]["checkpoint_seconds"] = 0.1
    path = write_study(tmp_path, base=base, budget={"max_updates": 200, "validations": 50}, executor={"kind": "ray", "workers": 2})
    folders = [tmp_path / "out" / "runs" / f"{name}-n4-s0" for name in ("flat", "full")]
    killed: list[int] = []
    killer = threading.Thread(target=kill_in_the_middle, args=(folders[0], killed), daemon=True)
    killer.start()
    outcome = run_study(path)
    killer.join(timeout=1)
    assert killed and outcome.n_done == 2 and not outcome.failed
    statuses = [read_status(folder) for folder in folders]
    assert [s["attempts"] for s in statuses] == [2, 1]
    pids = {s["pid"] for s in statuses}
    assert len(pids) == 2 and os.getpid() not in pids and killed[0] not in pids
    for folder in folders:
        rows = [line.split(",") for line in (folder / "metrics.csv").read_text().splitlines()[1:]]
        assert int(rows[-1][1]) == 200
        assert [int(row[0]) for row in rows] == sorted({int(row[0]) for row in rows})
    assert (tmp_path / "out" / "results.parquet").is_file()
    assert not ray.is_initialized()


def test_no_cluster_there(tmp_path):
    path = write_study(tmp_path, executor={"kind": "ray", "address": "127.0.0.1:1"})
    with pytest.raises(UserError, match="no Ray cluster at 127.0.0.1:1"):
        run_study(path)
