"""Memory that runs out in a simulation: the structure is named, and the run goes on from its restart file."""

from pathlib import Path

import pytest
import torch
from ase import Atoms

from equipot.engine.native import NativeModel
from equipot.errors import OutOfMemoryError
from equipot.interfaces import torch_engine
from equipot.interfaces.ase_calculator import Calculator
from equipot.interfaces.md import resume_md, run_md
from equipot.interfaces.md_settings import MDSettings

SETTINGS = MDSettings(steps=6, restart_interval=2, interval=1)


def _fails_after(monkeypatch: pytest.MonkeyPatch, place: object, name: str, calls: int, error: Exception) -> None:
    whole, made = getattr(place, name), []

    def limited(*args: object, **options: object) -> object:
        made.append(1)
        if len(made) > calls:
            raise error
        return whole(*args, **options)

    monkeypatch.setattr(place, name, limited)


def test_a_run_that_ran_out_of_memory_goes_on(model_file: Path, ethanol: Atoms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says how; the trajectory is that of a run that had memory."""
    out = tmp_path / "a.xyz"
    with monkeypatch.context() as patch:
        _fails_after(patch, torch_engine, "predict", 4, torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"))
        with pytest.raises(OutOfMemoryError) as told:
            run_md(model_file, ethanol, out, SETTINGS, engine="torch")
    said = str(told.value)
    assert "\n" not in said and "blown up" not in said
    assert f"{out}: step 4: out of memory on cpu at a structure of 9 atoms with " in said and "engine native" in said
    assert f"{out.with_suffix('.restart')} is kept, and --resume goes on from it" in said
    assert resume_md(model_file, out, engine="torch").finished
    run_md(model_file, ethanol, tmp_path / "whole.xyz", SETTINGS, engine="torch")
    assert out.read_bytes() == (tmp_path / "whole.xyz").read_bytes()


def test_before_the_first_step_nothing_is_written(
    model_file: Path, ethanol: Atoms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fails_after(monkeypatch, torch_engine, "predict", 0, MemoryError())
    with pytest.raises(OutOfMemoryError, match="out of memory on cpu at a structure of 9 atoms"):
        run_md(model_file, ethanol, tmp_path / "out" / "a.xyz", SETTINGS, engine="torch")
    assert not (tmp_path / "out").exists()


def test_the_native_engine_names_the_structure_too(model_file: Path, ethanol: Atoms, monkeypatch: pytest.MonkeyPatch) -> None:
    ethanol = ethanol.copy()
    ethanol.calc = Calculator(model_file, engine="native")
    _fails_after(monkeypatch, NativeModel, "compute_at", 0, OutOfMemoryError("native engine: out of memory"))
    with pytest.raises(OutOfMemoryError, match=r"out of memory at a structure of 9 atoms with \d+ edges: take fewer atoms"):
        ethanol.get_potential_energy()
