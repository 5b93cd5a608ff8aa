"""Every family of reference data: read, checked, and the figures its documentation states."""

import logging

import numpy as np
import pytest

from equipot.data.dataset import DataSet
from equipot.data.elements import separate_isolated
from equipot.data.frame import elements_of
from equipot.data.labels import Keys
from equipot.data.preflight import preflight
from equipot.data.readers import read_frames
from equipot.data.references import reference_energies
from equipot.data.statistics import statistics

KCAL_PER_MOL = 0.0433641  # eV, CODATA


def codes(report, level=None):
    return {f.code for f in report.findings if level in (None, f.level)}


def test_3bpa(data_dir):
    folder = data_dir / "3bpa"
    frames, isolated = separate_isolated(read_frames([folder / "train_300K.xyz", folder / "iso_atoms.xyz"]))
    assert (len(frames), len(isolated)) == (500, 4)
    references = reference_energies(frames, isolated)
    assert references.kind == "isolated"
    assert references.energies["O"] == pytest.approx(-2041.9816003861047, abs=1e-9)
    found = statistics(DataSet(frames, elements_of(frames), 4.0), references)
    assert found.mean_neighbours == pytest.approx(11.9926, abs=1e-4)
    assert found.rms_forces == pytest.approx(np.sqrt(np.mean([(f.forces**2).mean() for f in frames])), rel=1e-12)
    assert found.mean_interaction == pytest.approx(-4.8731, abs=1e-4)
    assert "dihedrals" in frames[0].info


def test_3bpa_leak(data_dir):
    """31 of the mixed set's 300 K frames are in the 300 K training set."""
    train, mixed = (read_frames(data_dir / "3bpa" / name) for name in ("train_300K.xyz", "train_mixedT.xyz"))
    report = preflight(train, tests={"mixed": mixed})
    (leak,) = [f for f in report.findings if f.code == "leak"]
    assert len(leak.frames) == 31
    assert max(leak.frames) < 166
    assert leak.file.endswith("train_mixedT.xyz")
    assert not report.errors
    assert "leak" not in codes(preflight(train, tests={"hot": mixed[166:]}))


def test_acac(data_dir):
    folder = data_dir / "acac"
    frames, isolated = separate_isolated(read_frames([folder / "train_300K.xyz", folder / "isolated_atoms.xyz"]))
    assert reference_energies(frames, isolated).energies["C"] == pytest.approx(-1026.8538996116154)
    assert {f.config_type for f in frames} == {"300K_MD"}
    report = preflight(frames + isolated, tests={"600K": read_frames(folder / "train_600K.xyz")})
    assert codes(report) == {"cell-without-periodicity"}


def test_ethanol_energy_only_test_set(data_dir):
    folder = data_dir / "ethanol"
    slices = read_frames(folder / "test_norm_mode_874.xyz")
    report = preflight(read_frames(folder / "train.xyz"), tests={"mode": slices})
    assert "forces-missing" in codes(report, "warning")
    assert not report.errors
    assert preflight(slices).errors[0].code == "forces-missing"
    found = statistics(DataSet(slices, elements_of(slices), 4.0), reference_energies(slices))
    assert found.to_dict()["rms_forces"] is None


def test_ethanol_and_methanol_references(data_dir):
    """Two compositions of three elements: fitted, and said that they do not fix every element."""
    frames = read_frames(data_dir / "ethanol" / "train_eth_meth.xyz")
    references = reference_energies(frames)
    assert references.kind == "least-squares"
    assert "fix 2 combinations of 3 elements" in references.message
    assert max(abs(f.energy - references.of(f)) / f.n_atoms for f in frames) < 0.1


@pytest.mark.parametrize("molecule", ["aspirin", "azobenzene", "benzene", "malonaldehyde"])
def test_rmd17(data_dir, molecule, caplog):
    path = data_dir / "rmd17" / f"rmd17_{molecule}_train_01.npz"
    with caplog.at_level(logging.WARNING, "equipot.data"):
        frames = read_frames(path)
    assert "kcal/mol" in caplog.text
    assert "assumed" in caplog.text
    with np.load(path) as raw:
        assert frames[7].energy == pytest.approx(raw["energies"][7] * KCAL_PER_MOL, rel=1e-6)
        np.testing.assert_allclose(frames[7].forces, raw["forces"][7] * KCAL_PER_MOL, rtol=1e-6)
        old = read_frames(f"{path}@7", Keys(energy="old_energies", forces="old_forces"))
        assert old[0].energy == pytest.approx(raw["old_energies"][7] * KCAL_PER_MOL, rel=1e-6)
    test = read_frames(data_dir / "rmd17" / f"rmd17_{molecule}_test_01.npz")
    assert codes(preflight(frames, tests={"test": test})) == set()


def test_water_deepmd(data_dir, caplog):
    frames = read_frames(data_dir / "water_deepmd")
    assert len(frames) == 400
    assert all(f.n_atoms == 192 and f.pbc.all() for f in frames)
    assert frames[0].source.endswith("data_0#0")
    assert [f.index for f in frames if f.file.endswith("data_1")] == list(range(160))
    raw = np.load(data_dir / "water_deepmd" / "data_1" / "set.001" / "energy.npy")
    assert [f.energy for f in frames if f.file.endswith("data_1")][80:] == pytest.approx(raw.astype(float).tolist(), abs=1e-9)
    references = reference_energies(frames)
    assert references.kind == "mean"
    assert "dissociation" in references.message
    assert references.energies["H"] == references.energies["O"]
    few = frames[::40]
    found = statistics(DataSet(few, elements_of(few), 6.0), references)
    assert found.mean_neighbours == pytest.approx(89, abs=1)
    report = preflight(frames)
    net = [f for f in report.findings if f.code == "net-force"]
    assert {f.level for f in net} == {"warning"}
    assert codes(report) == {"net-force"}


def test_lips(data_dir):
    frames = read_frames(data_dir / "lips" / "lips_700.xyz")
    assert len(frames) == 700
    assert reference_energies(frames).kind == "mean"
    few = frames[:20]
    found = statistics(DataSet(few, elements_of(few), 5.0), reference_energies(few))
    assert found.mean_neighbours == pytest.approx(25.2, abs=0.1)
    assert codes(preflight(frames)) == {"net-force"}


def test_fcu(data_dir):
    frames = read_frames(data_dir / "fcu" / "fcu_150.xyz")
    (net,) = preflight(frames).findings
    assert net.code == "net-force"
    assert "1.31 eV/Å" in net.message
    assert net.frame == int(np.argmax([np.linalg.norm(f.forces.sum(axis=0)) for f in frames]))


@pytest.mark.parametrize("element", ["Si", "Mo"])
def test_mlearn_stress(data_dir, element):
    """The strain series confirm the stress; with its sign turned it is an error, with its unit mistaken too."""
    frames = read_frames(data_dir / "mlearn" / f"{element}_training.xyz")
    assert all(f.stress is not None for f in frames)
    report = preflight(frames, requested={"energy", "forces", "stress"})
    assert codes(report) == {"stress-verified"}
    ratio = float(report.findings[0].message.rpartition("ratio ")[2].rstrip(")"))
    assert 0.9 < ratio < 1.1
    turned = preflight([_with_stress(f, -f.stress) for f in frames], requested={"stress"})
    assert codes(turned, "error") == {"stress-sign"}
    in_gpa = preflight([_with_stress(f, 160.2 * f.stress) for f in frames], requested={"stress"})
    assert codes(in_gpa, "error") == {"stress-scale"}
    assert codes(preflight([_with_stress(f, -f.stress) for f in frames], requested={"energy"}), "warning") == {"stress-sign"}


def test_mlearn_forces_zero_by_symmetry(data_dir):
    """Perfect crystals have zero forces: no error even where a file holds nothing else; moved atoms with zero forces are one."""
    frames = [f for f in read_frames(data_dir / "mlearn" / "Si_training.xyz") if not f.forces.any()]
    assert len(frames) == 28
    report = preflight(frames)
    assert not report.errors
    assert "forces-zero" in codes(report, "note")
    moved = [_moved(f) for f in frames]
    assert codes(preflight(moved), "error") == {"forces-zero"}


def test_mlearn_config_type_by_key(data_dir):
    frames = read_frames(data_dir / "mlearn" / "Mo_test.xyz", Keys(config_type="group"))
    assert "Vacancy" in {f.config_type for f in frames}
    assert "group" not in frames[0].info


def _with_stress(frame, stress):
    return type(frame)(**{**frame.__dict__, "stress": stress})


def _moved(frame):
    positions = frame.positions + np.random.default_rng(0).normal(0, 0.05, frame.positions.shape)
    return type(frame)(**{**frame.__dict__, "positions": positions})
