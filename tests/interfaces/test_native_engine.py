"""Which engine a calculator takes, and the native one without torch."""

import logging
import subprocess
import sys
from pathlib import Path

import pytest
from ase import Atoms
from random_models import random_potential

from equipot.ase import Calculator
from equipot.engine.cache import cached
from equipot.engine.library import library
from equipot.errors import CannotExpressError, UserError
from equipot.interfaces import engines
from equipot.model import Potential, save_model
from equipot.model.export import native, native_bytes
from equipot.presets import mace
from equipot.spec import EnergySpec, ModelSpec

pytestmark = pytest.mark.skipif(library() is None, reason="the native engine was not built")


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    path = tmp_path / "m.eqn"
    path.write_bytes(native_bytes(random_potential()))
    return path


@pytest.fixture
def fourth_order(tmp_path: Path) -> Path:
    """A model the native engine cannot express."""
    spec = mace(cutoff=3.0, n_layers=1, l_max=1, n_channels=2, correlation=4, radial_mlp=(4,), n_bessel=3).to_dict()
    spec["elements"], spec["energy"] = [1, 6, 8], EnergySpec(e0=0.0, scale=1.0).__dict__
    spec["layers"][0]["normaliser"]["value"] = 5.0
    save_model(Potential(ModelSpec.from_dict(spec)), tmp_path / "four.equipot")
    return tmp_path / "four.equipot"


def test_the_native_engine_is_the_default_and_agrees_with_torch(model_file: Path, exported: Path, crystal: Atoms) -> None:
    expected = Calculator(model_file, engine="torch")
    for model in (model_file, exported, random_potential()):
        calculator = Calculator(model)
        assert calculator.engine.name == "native" and calculator.engine.dtype == "float64"
        for name in ("energies", "forces", "stress"):
            assert calculator.get_property(name, crystal) == pytest.approx(expected.get_property(name, crystal), abs=1e-6), name
    assert Calculator(exported, dtype="float32").engine.dtype == "float32"


def test_what_it_cannot_express_runs_with_torch_and_that_is_said_once(fourth_order: Path, caplog: pytest.LogCaptureFixture) -> None:
    engines._say_once.cache_clear()
    with caplog.at_level(logging.WARNING):
        assert [Calculator(fourth_order).engine.name for _ in range(2)] == ["torch", "torch"]
    assert [r.getMessage() for r in caplog.records if "running with torch" in r.getMessage()] == [
        "running with torch: layer 1 has correlation 4: the native engine has products of up to 3 factors; run this model with torch"
    ]
    with pytest.raises(CannotExpressError, match="correlation 4"):
        Calculator(fourth_order, engine="native")


def test_without_the_library_it_is_torch(model_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "library", lambda: None)
    assert Calculator(model_file).engine.name == "torch"


def test_a_file_is_exported_once(model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EQUIPOT_CACHE", str(tmp_path / "kept"))
    Calculator(model_file)
    assert cached(model_file).is_file()

    def again(*_: object) -> None:
        raise AssertionError("exported again")

    monkeypatch.setattr(native, "native_bytes", again)
    monkeypatch.setattr("equipot.model.export.native_bytes", again)
    assert Calculator(model_file).engine.name == "native"
    cached(model_file).write_bytes(b"damaged")
    with pytest.raises(AssertionError, match="exported again"):
        Calculator(model_file)
    monkeypatch.setenv("EQUIPOT_CACHE", "")
    assert cached(model_file) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [({"engine": "torch"}, "without torch only"), ({"device": "cuda"}, "on the CPU"), ({"dtype": "float16"}, "float32 or float64")],
)
def test_what_an_exported_model_cannot_do(exported: Path, options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Calculator(exported, **options)


def test_a_damaged_or_missing_export_is_named(exported: Path, tmp_path: Path) -> None:
    exported.write_bytes(exported.read_bytes()[:-7])
    with pytest.raises(UserError, match=r"m\.eqn: damaged or cut short"):
        Calculator(exported)
    with pytest.raises(UserError, match="no such model file"):
        Calculator(tmp_path / "nothing.eqn")


def test_simulations_of_an_exported_model_never_import_torch(exported: Path) -> None:
    code = """
import sys
import numpy as np
from ase.build import molecule
from ase.md.verlet import VelocityVerlet
from equipot.ase import Calculator
from equipot.interfaces.md import run_md
from equipot.interfaces.md_settings import MDSettings
from equipot.interfaces.relax import relax
atoms = molecule("CH3CH2OH")
run_md("m.eqn", atoms, "a.xyz", MDSettings(steps=4, interval=2, ensemble="langevin"))
relax("m.eqn", atoms, "b.xyz", steps=2)
atoms.calc = Calculator("m.eqn", engine="native")
assert np.isfinite(atoms.get_forces()).all()
sys.exit(sum(name in sys.modules for name in ("torch", "equipot.model", "pydantic", "lightning")))
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, cwd=exported.parent, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-1000:]
