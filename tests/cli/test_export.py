"""equipot export."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from equipot.engine.file import ENSEMBLE, read_native
from equipot.model import Potential, load_model, save_model
from equipot.presets import nequip
from equipot.spec import EnergySpec, ModelSpec


def equipot(*arguments: object) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "equipot", *map(str, arguments)], capture_output=True, text=True, check=False)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    spec = nequip(n_layers=2, n_channels=4, l_max=1, cutoff=4.0, radial_mlp=(8,)).to_dict()
    spec["elements"], spec["energy"] = [1, 8], EnergySpec(e0=0.0, scale=1.0).__dict__
    for layer in spec["layers"]:
        layer["normaliser"]["value"] = 5.0
    save_model(Potential(ModelSpec.from_dict(spec)), tmp_path / "m.equipot", {"epoch": 7})
    return tmp_path / "m.equipot"


def test_a_file_with_its_error_and_origin(model: Path) -> None:
    out = model.with_suffix(".eqn")
    done = equipot("export", model, "--to", "lammps", "-o", out, "--accuracy", "1e-6")
    assert done.returncode == 0, done.stderr
    header = read_native(out).header
    assert "largest error of the tables" in done.stdout
    assert max(header["tabulation"]["relative_error"]) < 1e-6
    assert header["provenance"] == {"epoch": 7} and header["elements"] == [1, 8]


def test_several_models_become_an_ensemble(model: Path) -> None:
    other, alien, out = model.with_name("n.equipot"), model.with_name("alien.equipot"), model.with_name("e.eqn")
    potential = load_model(model)
    save_model(Potential(potential.spec, dtype=potential.dtype, seed=5), other)
    done = equipot("export", model, other, "-o", out, "--accuracy", "1e-4")
    assert done.returncode == 0, done.stderr
    found = read_native(out)
    assert "an ensemble of 2" in done.stdout and found.header["ensemble"] == 2
    assert found.tensors[ENSEMBLE].tolist() == [2] and found.header["provenance"]["members"][0] == {"epoch": 7}
    save_model(Potential(dataclasses.replace(potential.spec, cutoff=3.5), dtype=potential.dtype), alien)
    done = equipot("export", model, alien, "-o", out)
    assert done.returncode == 2 and "all need the same spec" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-o", "x.xyz"), "ends in .eqn"),
        (("-o", "x.eqn", "--to", "gromacs"), "--to gromacs is not known"),
        (("-o", "x.eqn", "--accuracy", "2"), "accuracy 2.0 must lie between 0 and 1"),
    ],
)
def test_mistakes(model: Path, arguments: tuple[str, ...], message: str) -> None:
    done = equipot("export", model, *arguments)
    assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1
