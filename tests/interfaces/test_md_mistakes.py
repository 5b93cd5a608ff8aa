"""What a run of molecular dynamics refuses, before it writes anything."""

from pathlib import Path

import pytest
from ase import Atoms
from random_models import random_potential

from equipot.errors import UserError
from equipot.interfaces.md import MDFiles, resume_md, run_md
from equipot.interfaces.md_settings import MDSettings
from equipot.model import save_model


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps must be 1 or more"),
        ({"steps": -5}, "steps must be 1 or more"),
        ({"timestep": 0.0}, "timestep must be a positive"),
        ({"timestep": float("nan")}, "timestep must be a positive"),
        ({"temperature": -1.0}, "temperature"),
        ({"interval": 0}, "interval"),
        ({"ensemble": "nph"}, "'nph' is not known: one of nve, langevin, nvt, npt"),
        ({"ensemble": "npt", "barostat": "cubic"}, "'cubic' is not known"),
        ({"pressure": 1.0}, "pressure goes with the ensemble npt"),
        ({"ensemble": "nvt", "friction": 1.0}, "friction goes with the ensemble langevin"),
        ({"ensemble": "nvt", "temperature": 0.0}, "needs a temperature above zero"),
    ],
)
def test_settings_that_cannot_be_meant(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        MDSettings(**options)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.xyz", "", "is empty"),
        ("cut.xyz", "3\n\nO 0 0 0\nH 0 0 1\n", "cut short"),
        ("noise.xyz", "not a structure\n", "number of atoms"),
        ("noise.foo", "not a structure\n", "not a format"),
        ("chlorine.xyz", "2\n\nCl 0 0 0\nH 0 0 1.3\n", "Cl is not among"),
        ("nan.xyz", "2\n\nO 0 0 0\nH 0 0 nan\n", "NaN or infinite|not finite"),
    ],
)
def test_bad_structures_leave_nothing_behind(model_file: Path, tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=message) as caught:
        run_md(model_file, tmp_path / name, tmp_path / "out" / "a.xyz", MDSettings(steps=1))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_bad_calls(model_file: Path, ethanol: Atoms, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="npt needs a cell"):
        run_md(model_file, ethanol, tmp_path / "a.xyz", MDSettings(ensemble="npt"))
    with pytest.raises(UserError, match="no such file"):
        run_md(model_file, tmp_path / "nothing.xyz", tmp_path / "a.xyz")
    with pytest.raises(UserError, match=r"ends in .xyz, .extxyz, .traj"):
        run_md(model_file, ethanol, tmp_path / "a.dcd")
    with pytest.raises(UserError, match="no restart file"):
        resume_md(model_file, tmp_path / "a.xyz")
    assert list(tmp_path.iterdir()) == []


def test_bad_resumes(model_file: Path, ethanol: Atoms, tmp_path: Path) -> None:
    out = tmp_path / "a.xyz"
    run_md(model_file, ethanol, out, MDSettings(steps=4, interval=2))
    with pytest.raises(UserError, match="started with timestep 0.5, not 1.0"):
        resume_md(model_file, out, {"timestep": 1.0, "steps": 8})
    other = tmp_path / "other.equipot"
    save_model(random_potential(seed=2), other)
    with pytest.raises(UserError, match="another model"):
        resume_md(other, out, {"steps": 8})
    kept = out.read_bytes()
    out.write_bytes(kept[:100])
    with pytest.raises(UserError, match="shorter than"):
        resume_md(model_file, out, {"steps": 8})
    out.unlink()
    with pytest.raises(UserError, match="is not there"):
        resume_md(model_file, out, {"steps": 8})
    out.write_bytes(kept)
    restart = MDFiles.of(out).restart
    restart.write_bytes(restart.read_bytes()[:200])
    with pytest.raises(UserError, match="damaged or not a restart file"):
        resume_md(model_file, out, {"steps": 8})
