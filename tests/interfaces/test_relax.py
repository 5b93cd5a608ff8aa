"""Relaxation of atoms and cell."""

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import PropertyNotImplementedError
from ase.io import read
from springs import Springs

from equipot.errors import UserError
from equipot.interfaces.relax import RelaxStep, relax


@pytest.mark.parametrize("optimizer", ["fire", "bfgs"])
def test_a_molecule_is_relaxed(model_file: Path, ethanol: Atoms, tmp_path: Path, optimizer: str) -> None:
    start = ethanol.positions.copy()
    steps: list[RelaxStep] = []
    found = relax(model_file, ethanol, tmp_path / "a.xyz", fmax=0.02, optimizer=optimizer, on_step=steps.append)
    assert found.converged
    assert found.last == steps[-1]
    assert np.array_equal(ethanol.positions, start)
    assert np.linalg.norm(found.atoms.get_forces(), axis=1).max() == found.last.max_force <= 0.02 < steps[0].max_force
    assert found.last.energy < steps[0].energy
    written, path = read(found.structure), read(found.path, ":")
    assert written.positions == pytest.approx(found.atoms.positions, abs=1e-7)
    assert written.get_potential_energy() == pytest.approx(found.last.energy, abs=1e-6)
    assert [f.info["step"] for f in path] == [s.step for s in steps] == list(range(len(steps)))


@pytest.mark.parametrize("optimizer", ["fire", "lbfgs"])
@pytest.mark.parametrize("pressure", [0.0, 3.0])
def test_a_cell_is_relaxed_to_the_pressure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pressure: float, optimizer: str) -> None:
    at_rest = bulk("Ar", "fcc", 5.3, cubic=True)
    monkeypatch.setattr("equipot.interfaces.relax.Calculator", lambda *_, **__: Springs(at_rest))
    strained = at_rest.copy()
    strained.set_cell(at_rest.cell.array @ [[1.04, 0.03, 0.0], [0.0, 0.98, 0.02], [0.0, 0.0, 1.01]], scale_atoms=True)
    strained.rattle(0.1, seed=1)
    found = relax("", strained, tmp_path / "a.cif", cell=True, pressure=pressure, fmax=0.005, smax=0.01, optimizer=optimizer)
    assert found.converged
    assert found.atoms.get_stress() * 160.21766208 == pytest.approx([-pressure] * 3 + [0.0] * 3, abs=0.0101)
    lengths = found.atoms.cell.lengths()
    assert lengths == pytest.approx([lengths[0]] * 3, abs=0.01)
    assert lengths[0] == pytest.approx(5.3, abs=0.005) if pressure == 0.0 else lengths[0] < 5.2
    assert read(found.structure).cell.volume == pytest.approx(found.atoms.cell.volume, rel=1e-4)


def test_what_has_not_converged_is_said_and_written(model_file: Path, ethanol: Atoms, tmp_path: Path) -> None:
    found = relax(model_file, ethanol, tmp_path / "a.xyz", fmax=1e-5, steps=3)
    assert (found.converged, found.last.step) == (False, 3)
    assert len(read(found.path, ":")) == 4
    assert read(found.structure).positions == pytest.approx(found.atoms.positions, abs=1e-7)


def test_forces_alone_do_not_make_a_cell_converged(model_file: Path, tmp_path: Path) -> None:
    """One atom per cell has no forces, whatever its stress."""
    lattice = Atoms("C", cell=2.5 * np.eye(3), pbc=True)
    found = relax(model_file, lattice, tmp_path / "a.xyz", cell=True, smax=0.01, steps=1)
    assert found.last.max_force < 1e-10
    assert found.last.max_stress > 0.01
    assert not found.converged


def test_a_molecule_has_no_stress_to_report(model_file: Path, ethanol: Atoms, tmp_path: Path) -> None:
    found = relax(model_file, ethanol, tmp_path / "a.xyz", steps=1)
    assert found.last.max_stress is None
    with pytest.raises(PropertyNotImplementedError):
        found.atoms.get_stress()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("a.xyz", {"cell": True}, "molecule or a slab"),
        ("a.xyz", {"fmax": 0.0}, "fmax must be a positive"),
        ("a.xyz", {"steps": 0}, "steps must be 1 or more"),
        ("a.xyz", {"pressure": 1.0}, "goes with relaxing the cell"),
        ("a.xyz", {"optimizer": "newton"}, "'newton' is not known"),
        ("a.nothing", {}, "no structure format"),
    ],
)
def test_bad_calls(model_file: Path, ethanol: Atoms, tmp_path: Path, name: str, options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        relax(model_file, ethanol, tmp_path / name, **options)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten_unasked(model_file: Path, ethanol: Atoms, tmp_path: Path) -> None:
    (tmp_path / "a.xyz").write_text("mine")
    with pytest.raises(UserError, match="already there"):
        relax(model_file, ethanol, tmp_path / "a.xyz", steps=1)
    assert (tmp_path / "a.xyz").read_text() == "mine"
    relax(model_file, ethanol, tmp_path / "a.xyz", steps=1, force=True)
    assert len(read(tmp_path / "a.xyz")) == 9
