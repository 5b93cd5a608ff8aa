"""Labelling in processes: what fails is recorded with its reason, the others go on, and what was done stays done."""

import json
import os
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.calculators.emt import EMT
from tiny_learning import HERE, Misbehaving, trimers

from equipot.data.frame import Frame
from equipot.data.readers import read_frames
from equipot.errors import UserError
from equipot.learn import label as module
from equipot.learn import label_pool
from equipot.learn.config import LabelConfig
from equipot.learn.label import FAILED, label_frames
from equipot.learn.label_worker import answered, label


def frames_of(n: int, long: tuple[int, ...] = ()) -> list[Frame]:
    """Trimers; those numbered in `long` have a first bond above 3 Å, which `Misbehaving` minds."""
    found = []
    for i, atoms in enumerate(trimers(n, labelled=False)):
        atoms.set_distance(0, 1, 3.4 if i in long else 2.6, fix=0)
        found.append(Frame(atoms.numbers.astype(np.int64), atoms.positions, np.zeros((3, 3)), np.zeros(3, dtype=bool), info={"walker": i}))
    return found


def misbehaving(how: str, seen: Path | str = "", **options) -> LabelConfig:
    arguments = {"how": how, "longest": 3.0, "seen": str(seen)}
    return LabelConfig(calculator="tiny_learning:Misbehaving", arguments=arguments, modules=str(HERE), **options)


def test_labels_are_those_of_the_calculator(tmp_path):
    frames = frames_of(3)
    options = LabelConfig(calculator="ase.calculators.emt:EMT", processes=2)
    assert label_frames(frames, tmp_path, options, "structures") == {"n_labelled": 3, "n_failed": 0}
    for frame, found in zip(frames, read_frames(tmp_path / "labelled.extxyz"), strict=True):
        atoms = frame.atoms()
        atoms.calc = EMT()
        assert found.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-7)
        np.testing.assert_allclose(found.forces, atoms.get_forces(), atol=1e-7)
        assert found.info["walker"] == frame.info["walker"]
    assert not (tmp_path / FAILED).exists()


@pytest.mark.parametrize(
    ("how", "options", "reason"),
    [
        ("fails", {}, "RuntimeError: the field has 'not' converged"),
        ("dies", {}, "the labelling process was ended by SIGSEGV"),
        ("hangs", {"timeout": 5.0}, "it took longer than 5 s"),
        ("nan", {}, "ValueError: the forces is not finite"),
    ],
)
def test_failures_are_recorded_and_the_rest_goes_on(tmp_path, how, options, reason):
    frames = frames_of(4, long=(1,))
    found = label_frames(frames, tmp_path, misbehaving(how, **options), "structures")
    assert found == {"n_labelled": 3, "n_failed": 1}
    assert [f.info["walker"] for f in read_frames(tmp_path / "labelled.extxyz")] == [0, 2, 3]
    assert [frame.info["reason"] for frame in read_frames(tmp_path / FAILED)] == [reason]
    np.testing.assert_allclose(ase.io.read(tmp_path / "failed.extxyz").positions, frames[1].positions, atol=1e-7)


def test_failures_are_kept_unless_they_are_to_be_tried_again(tmp_path):
    """Where the second attempt succeeds, nothing says any more that it has failed."""
    frames, wait = frames_of(2, long=(1,)), tmp_path / "wait"
    wait.touch()
    options = misbehaving("waits", wait, timeout=5.0)
    folder = tmp_path / "labels"
    assert label_frames(frames, folder, options, "structures") == {"n_labelled": 1, "n_failed": 1}
    wait.unlink()
    assert label_frames(frames, folder, options, "structures") == {"n_labelled": 1, "n_failed": 1}
    assert label_frames(frames, folder, options, "structures", try_again=True) == {"n_labelled": 2, "n_failed": 0}
    assert not (folder / FAILED).exists()


def test_all_failing_names_the_first_reason_and_can_be_tried_again(tmp_path):
    frames = frames_of(2, long=(0, 1))
    with pytest.raises(UserError, match="none of the 2 structures could be labelled, the first because: RuntimeError: the field has 'not'"):
        label_frames(frames, tmp_path, misbehaving("fails"), "structures")
    assert not (tmp_path / "labelled.extxyz").exists()
    better = LabelConfig(calculator="ase.calculators.emt:EMT")
    assert label_frames(frames, tmp_path, better, "structures")["n_labelled"] == 2


def test_a_killed_labelling_goes_on(tmp_path, monkeypatch):
    """Stopped after the second label: these are not computed again, unless the structure is another."""
    frames, seen, options = frames_of(4), tmp_path / "seen", misbehaving("fails", tmp_path / "seen")
    real = module.label_all

    def stopped(*given):
        for k, found in enumerate(real(*given)):
            if k == 2:
                raise KeyboardInterrupt
            yield found

    monkeypatch.setattr(module, "label_all", stopped)
    with pytest.raises(KeyboardInterrupt):
        label_frames(frames, tmp_path, options, "structures")
    monkeypatch.setattr(module, "label_all", real)
    assert len(list((tmp_path / "labels").glob("*.json"))) == 2
    seen.unlink()
    frames[1] = frames_of(6)[5]
    assert label_frames(frames, tmp_path, options, "structures")["n_labelled"] == 4
    assert len(seen.read_text().split()) == 3
    found = read_frames(tmp_path / "labelled.extxyz")
    np.testing.assert_allclose(found[1].positions, frames[1].positions, atol=1e-7)


def test_a_process_that_dies_with_nothing_to_do_is_not_missed(tmp_path, monkeypatch):
    """Two structures, two processes: the one that is done is killed while the other still works."""
    workers = []

    class Seen(label_pool.Worker):
        def __init__(self, *given):
            super().__init__(*given)
            workers.append(self)

    monkeypatch.setattr(label_pool, "Worker", Seen)
    wait = tmp_path / "wait"
    wait.touch()
    jobs = list(enumerate(module._structure(frame) for frame in frames_of(2, long=(0,))))
    answers = label_pool.label_all(jobs, misbehaving("waits", wait, processes=2), tmp_path)
    number, answer = next(answers)
    assert number == 1 and "energy" in answer
    (idle,) = [worker for worker in workers if worker.job == 1]
    idle.process.kill()
    idle.process.wait()
    wait.unlink()
    ((number, answer),) = answers
    assert number == 0 and "energy" in answer


def test_a_process_that_has_not_read_its_structure_can_be_stopped(tmp_path):
    worker = label_pool.Worker(LabelConfig(calculator="ase.calculators.emt:EMT"), tmp_path)
    worker.process.kill()
    worker.process.wait()
    worker.give(0, water(), 1.0)
    worker.stop()
    assert worker.process.stdin.closed


def test_a_calculator_that_cannot_be_made_again_fails_for_that_structure():
    """It is made again for the next one."""
    broken, outcomes = Misbehaving("fails", longest=0.1), [UserError("no licence"), EMT()]

    def again():
        made = outcomes.pop(0)
        if isinstance(made, Exception):
            raise made
        return made

    line = json.dumps(module._structure(frames_of(1)[0]))
    found = list(answered([line] * 4, broken, again))
    assert [answer.get("failed") for answer in found] == [
        "RuntimeError: the field has \"not\" converged", "UserError: no licence", None, None,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere:make", "cannot be imported: ModuleNotFoundError"),
        ("ase.calculators.emt:Nothing", "cannot be imported: AttributeError"),
        ("vasp", "'vasp' is not known: one of tblite, pyscf, or module:function"),
        ("os:getcwd", "gave str, which is no ASE calculator"),
    ],
)
def test_calculators_that_cannot_be_made_are_refused(tmp_path, name, message):
    with pytest.raises(UserError, match=message):
        label_frames(frames_of(1), tmp_path, LabelConfig(calculator=name), "structures")


def test_the_worker_needs_neither_torch_nor_lightning():
    code = "import sys, equipot.learn.label_worker; print([m for m in ('torch', 'lightning') if m in sys.modules])"
    assert os.popen(f'"{os.sys.executable}" -c "{code}"').read().strip() == "[]"


def water(**more) -> dict:
    positions = [[0.0, 0.0, 0.12], [0.0, 0.76, -0.48], [0.0, -0.76, -0.48]]
    return {"numbers": [8, 1, 1], "positions": positions, "cell": np.zeros((3, 3)).tolist(), "pbc": [False] * 3} | more


@pytest.mark.parametrize(("name", "arguments"), [("tblite", {}), ("pyscf", {"xc": "lda,vwn", "basis": "sto-3g", "grid_level": 2})])
def test_quantum_chemistry_labels_have_forces_that_are_derivatives(name, arguments):
    pytest.importorskip(name, reason=f'{name} is not here: pip install "equipot[data]" to test labelling with it')
    from equipot.learn.calculators import make_calculator

    calculator, step = make_calculator(name, arguments), 0.005
    force = label(water(), calculator)["forces"][1][1]
    energies = []
    for sign in (1, -1):
        moved = water()
        moved["positions"][1][1] += sign * step
        energies.append(label(moved, calculator)["energy"])
    assert force == pytest.approx(-(energies[0] - energies[1]) / (2 * step), abs=2e-3)
    atom = {"numbers": [1], "positions": [[0.0, 0, 0]], "cell": np.zeros((3, 3)).tolist(), "pbc": [False] * 3}
    assert -14.5 < label(atom, calculator)["energy"] < -10.0


def test_the_answer_is_plain_data(tmp_path):
    json.dumps(label(water() | {"numbers": [29, 13, 13]}, EMT()))
