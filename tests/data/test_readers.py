"""Formats, names, units and selections: what is read is what the file says, in eV and Å."""

import gzip
import logging

import ase.io
import numpy as np
import pytest
from ase import Atoms, units
from ase.calculators.singlepoint import SinglePointCalculator
from ase.stress import full_3x3_to_voigt_6_stress

from equipot.data.labels import Keys
from equipot.data.readers import read_frames
from equipot.data.units import Units, factors
from equipot.data.writer import write_frames
from equipot.errors import UserError

CELL = np.array([[4.0, 0.0, 0.0], [0.5, 4.2, 0.0], [0.2, -0.3, 4.4]])
STRESS = np.array([[0.01, 0.002, -0.003], [0.002, -0.02, 0.004], [-0.003, 0.004, 0.03]])
FORCES = np.array([[0.1, -0.2, 0.3], [-0.1, 0.2, -0.3]])


def atoms(**results) -> Atoms:
    found = Atoms("HO", positions=[[0.1, 0.2, 0.3], [1.0, 1.1, 1.2]], cell=CELL, pbc=True)
    if results:
        found.calc = SinglePointCalculator(found, **results)
    return found


@pytest.fixture(name="write")
def _write(tmp_path):
    def write(frames, name="a.xyz"):
        path = tmp_path / name
        ase.io.write(path, frames, format="extxyz" if "xyz" in name else None)
        return path

    return write


@pytest.mark.parametrize("name", ["a.xyz", "a.extxyz", "a.xyz.gz", "a.traj", "a.json"])
def test_formats_of_ase(write, name):
    voigt = full_3x3_to_voigt_6_stress(STRESS)
    images = [atoms(energy=-1.5 - i, forces=FORCES, stress=voigt) for i in range(3)]
    frames = read_frames(write(images, name))
    assert [f.energy for f in frames] == [-1.5, -2.5, -3.5]
    np.testing.assert_allclose(frames[1].forces, FORCES, atol=1e-8)
    np.testing.assert_allclose(frames[2].stress, STRESS, atol=1e-12)
    np.testing.assert_allclose(frames[0].cell, CELL)
    assert frames[2].source.endswith(f"{name}#2")
    assert (frames[2].file, frames[2].index) == (frames[2].source[:-2], 2)


def test_ref_names_and_precedence(write, caplog):
    image = atoms(energy=-1.0, forces=FORCES)
    image.info.update(REF_energy=-2.0, REF_stress=STRESS.ravel(), config_type="liquid", temperature=300)
    image.arrays["REF_forces"] = 2 * FORCES
    path = write([image])
    with caplog.at_level(logging.WARNING, "equipot.data"):
        (frame,) = read_frames(path)
    assert "REF_energy differs from energy" in caplog.text
    assert frame.energy == -2.0
    np.testing.assert_allclose(frame.forces, 2 * FORCES)
    np.testing.assert_allclose(frame.stress, STRESS)
    assert frame.config_type == "liquid"
    assert frame.info == {"temperature": 300}
    assert read_frames(path, Keys(energy="energy", forces="forces"))[0].energy == -1.0


def test_names_given(write, caplog):
    image = atoms()
    image.info.update(dft_e=-3.0, my_virial=STRESS, group="bulk", w=0.5)
    image.arrays["dft_f"] = FORCES
    path = write([image])
    (frame,) = read_frames(path, Keys(energy="dft_e", forces="dft_f", virial="my_virial", config_type="group", weight="w"))
    assert (frame.energy, frame.config_type, frame.weight) == (-3.0, "bulk", 0.5)
    np.testing.assert_allclose(frame.stress, -STRESS / frame.volume)
    assert not frame.info
    assert read_frames(path)[0].energy is None
    with caplog.at_level(logging.WARNING, "equipot.data"):
        assert read_frames(path, Keys(energy="dtf_e"))[0].energy is None
    assert "'dtf_e'" in caplog.text
    assert "frame 0" in caplog.text


@pytest.mark.parametrize("shape", [(3, 3), (9,), (6,)])
@pytest.mark.parametrize("name", ["stress", "REF_stress"])
def test_stress_shapes(write, shape, name):
    image = atoms(energy=0.5)
    image.info[name] = full_3x3_to_voigt_6_stress(STRESS) if shape == (6,) else STRESS.reshape(shape)
    np.testing.assert_allclose(read_frames(write([image]))[0].stress, STRESS, atol=1e-12)


def test_six_numbers_in_the_file_itself(write):
    """ASE takes nine only."""
    path = write([atoms(energy=0.5)])
    voigt = " ".join(str(x) for x in full_3x3_to_voigt_6_stress(STRESS))
    for name, sign in (("stress", 1.0), ("virial", -1.0 / abs(np.linalg.det(CELL)))):
        path.write_text(path.read_text().replace("energy=", f'{name}="{voigt}" energy='))
        np.testing.assert_allclose(read_frames(path)[0].stress, sign * STRESS, atol=1e-12)
        path.write_text(path.read_text().replace(f'{name}="{voigt}" ', ""))


def test_virial_is_minus_volume_times_stress(write):
    for name in ("virial", "REF_virial"):
        image = atoms(energy=0.5)
        image.info[name] = -STRESS * image.get_volume()
        np.testing.assert_allclose(read_frames(write([image]))[0].stress, STRESS, atol=1e-10)


def test_virial_without_volume_is_unlabelled_and_said(write, caplog):
    image = Atoms("HO", positions=[[0, 0, 0], [0, 0, 1.0]])
    image.info.update(energy=1.0, virial=STRESS)
    with caplog.at_level(logging.WARNING, "equipot.data"):
        assert read_frames(write([image]))[0].stress is None
    assert "counts as unlabelled" in caplog.text


@pytest.mark.parametrize("name", ["a.traj", "a.xyz"])
def test_free_energy_is_used(write, name, caplog):
    with caplog.at_level(logging.WARNING, "equipot.data"):
        frames = read_frames(write([atoms(energy=-1.0, free_energy=-1.1, forces=FORCES)] * 3, name))
    assert [f.energy for f in frames] == [-1.1] * 3
    assert len(caplog.records) == 1
    assert "free_energy is used (the forces belong to it)" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING, "equipot.data"):
        read_frames(write([atoms(energy=-1.0, free_energy=-1.0, forces=FORCES)], name))
    assert not caplog.records


def test_vasprun(tmp_path, caplog):
    path = tmp_path / "vasprun.xml"
    path.write_text(VASPRUN)
    with caplog.at_level(logging.WARNING, "equipot.data"):
        (frame,) = read_frames(path)
    assert frame.energy == -10.5
    assert "free_energy differs from energy" in caplog.text
    np.testing.assert_allclose(frame.forces[0], [0.1, 0.0, 0.0])
    # VASP prints kB, positive where the cell wants to expand.
    assert frame.stress[0, 0] == pytest.approx(-10.0 * 0.1 * units.GPa)
    with pytest.raises(UserError, match="already gives eV"):
        read_frames(path, units=Units(energy="Ha"))
    assert "left out" not in caplog.text
    step = VASPRUN[VASPRUN.index(" <calculation>") : VASPRUN.index("</modeling>")]
    path.write_text(VASPRUN.replace("</modeling>", step[: len(step) // 2]))
    with caplog.at_level(logging.WARNING, "equipot.data"):
        assert len(read_frames(path)) == 1
    assert "left out" in caplog.text


def test_labels_differ_per_frame(write):
    frames = read_frames(write([atoms(energy=-1.0), atoms(energy=-1.0, forces=FORCES), atoms(forces=FORCES)]))
    assert [f.energy is None for f in frames] == [False, False, True]
    assert [f.forces is None for f in frames] == [True, False, False]


def test_units(write):
    image = atoms(energy=1.0, forces=FORCES, stress=full_3x3_to_voigt_6_stress(STRESS))
    path = write([image])
    (frame,) = read_frames(path, units=Units(energy="Ha", length="bohr"))
    assert frame.energy == pytest.approx(27.211386, abs=1e-5)
    np.testing.assert_allclose(frame.positions, image.positions * units.Bohr)
    np.testing.assert_allclose(frame.cell, CELL * units.Bohr)
    np.testing.assert_allclose(frame.forces, FORCES * units.Hartree / units.Bohr)
    np.testing.assert_allclose(frame.stress, STRESS * units.Hartree / units.Bohr**3)
    (frame,) = read_frames(path, units=Units(energy="kJ/mol", stress="GPa"))
    np.testing.assert_allclose(frame.stress, STRESS * 0.00624150907446)
    np.testing.assert_allclose(frame.forces, FORCES * units.kJ / units.mol)


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        (Units(energy="meV"), 1e-3),
        (Units(energy="kcal/mol"), 0.0433641),
        (Units(energy="Ry"), 13.605693),
        (Units(energy=2.5), 2.5),
        (Units(energy="2.5"), 2.5),
    ],
)
def test_energy_units(declared, expected):
    assert factors(declared).energy == pytest.approx(expected, rel=1e-6)


def test_compound_units():
    assert factors(Units(forces="kcal/mol/angstrom")).forces == pytest.approx(0.0433641, rel=1e-6)
    assert factors(Units(forces="Ha/bohr")).forces == pytest.approx(51.42206, rel=1e-6)
    assert factors(Units(stress="kbar")).stress == pytest.approx(0.1 * factors(Units(stress="GPa")).stress)
    assert factors(Units(stress="bar")).stress == pytest.approx(1e-4 * factors(Units(stress="GPa")).stress)
    assert factors(Units(length="nm")).forces == pytest.approx(0.1)
    assert factors(Units(stress="Ha/bohr^3")).stress == pytest.approx(units.Hartree / units.Bohr**3)


@pytest.mark.parametrize(
    "wrong",
    [
        {"energy": "furlong"},
        {"energy": -1.0},
        {"length": "eV"},
        {"forces": "eV"},
        {"stress": "eV/bohr"},
        {"energy": True},
        {"energy": "nan"},
    ],
)
def test_wrong_units(wrong):
    with pytest.raises(UserError, match="units"):
        factors(Units(**wrong))


def test_misspelled_names_of_options():
    with pytest.raises(UserError, match="did you mean 'energy'"):
        Units.from_mapping({"enregy": "eV"})
    with pytest.raises(UserError, match="did you mean 'forces'"):
        Keys.from_mapping({"force": "F"})


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        ("", range(7)),
        ("@0:3", [0, 1, 2]),
        ("@::3", [0, 3, 6]),
        ("@-1", [6]),
        ("@2", [2]),
        ("@:", range(7)),
        ("@5:1:-2", [5, 3]),
        ("@-2:", [5, 6]),
    ],
)
@pytest.mark.parametrize("name", ["a.xyz", "a.xyz.gz", "a.traj"])
def test_selections(write, selection, expected, name):
    path = write([atoms(energy=float(i), forces=FORCES) for i in range(7)], name)
    frames = read_frames(f"{path}{selection}")
    assert [f.energy for f in frames] == [float(i) for i in expected]
    assert [f.index for f in frames] == list(expected)
    assert {f.file for f in frames} == {str(path)}


def test_a_name_with_an_at_sign(write, tmp_path):
    path = write([atoms(energy=1.0)]).rename(tmp_path / "run@2")
    assert len(read_frames(path)) == 1


def test_packaged_data_by_name(monkeypatch, write):
    from equipot import datasets

    path = write([atoms(energy=1.0), atoms(energy=2.0)])
    monkeypatch.setattr(datasets, "path", lambda name: {"ethanol_300K": path}[name])
    assert [f.energy for f in read_frames("equipot:ethanol_300K@1")] == [2.0]
    monkeypatch.undo()
    with pytest.raises(UserError, match="no data set 'nonsense'"):
        read_frames("equipot:nonsense")


def test_several_files_keep_their_order(write):
    paths = [write([atoms(energy=float(i))], f"{i}.xyz") for i in (2, 1)]
    assert [f.energy for f in read_frames(paths)] == [2.0, 1.0]


def test_npz_units(tmp_path, caplog):
    arrays = {"z": [8, 1], "R": np.zeros((2, 2, 3)) + [[[0, 0, 0], [0, 0, 1]]], "E": [[1.0], [2.0]], "F": np.ones((2, 2, 3))}
    path = tmp_path / "a.npz"
    np.savez(path, **arrays)
    with caplog.at_level(logging.WARNING, "equipot.data"):
        frames = read_frames(path, units=Units(energy="eV"))
    assert not caplog.records
    assert [f.energy for f in frames] == [1.0, 2.0]
    assert frames[0].symbols == ["O", "H"]
    assert not frames[0].pbc.any()
    np.savez(path, **arrays, e_unit="eV", r_unit="Ang")
    assert read_frames(path)[1].energy == 2.0


def test_deepmd_virial_and_nested(tmp_path):
    for name, n in (("a", 2), ("deep/b", 1)):
        folder = tmp_path / "sets" / name
        (folder / "set.000").mkdir(parents=True)
        (folder / "type.raw").write_text("0 1\n")
        (folder / "type_map.raw").write_text("O\nH\n")
        cell = np.tile(CELL.ravel(), (n, 1))
        arrays = {"box": cell, "coord": np.tile(np.arange(6.0), (n, 1)), "energy": np.arange(n, dtype=float), "force": np.ones((n, 6))}
        volume = np.linalg.det(CELL)
        for key, value in {**arrays, "virial": np.tile((-STRESS * volume).ravel(), (n, 1))}.items():
            np.save(folder / "set.000" / f"{key}.npy", value)
    frames = read_frames(tmp_path / "sets")
    assert [(f.energy, f.index) for f in frames] == [(0.0, 0), (1.0, 1), (0.0, 0)]
    np.testing.assert_allclose(frames[1].stress, STRESS, atol=1e-10)
    assert frames[0].symbols == ["O", "H"]
    (tmp_path / "sets" / "a" / "nopbc").touch()
    assert not read_frames(tmp_path / "sets" / "a")[0].pbc.any()


def test_written_frames_come_back(write, tmp_path):
    image = atoms(energy=-1.0, forces=FORCES, stress=full_3x3_to_voigt_6_stress(STRESS))
    image.info.update(config_type="liquid", temperature=300, config_weight=0.25)
    frames = read_frames(write([image] * 3))
    write_frames(frames, tmp_path / "b.extxyz.gz")
    for one, two in zip(frames, read_frames(tmp_path / "b.extxyz.gz"), strict=True):
        assert (one.energy, one.config_type, one.weight, one.info) == (two.energy, two.config_type, two.weight, two.info)
        np.testing.assert_allclose(one.forces, two.forces, atol=1e-8)
        np.testing.assert_allclose(one.stress, two.stress, atol=1e-12)
        np.testing.assert_allclose(one.positions, two.positions, atol=1e-8)
    with gzip.open(tmp_path / "b.extxyz.gz", "rt") as file:
        assert "Lattice" in file.read()
    with pytest.raises(UserError, match="exists already"):
        write_frames(frames, tmp_path / "b.extxyz.gz")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.xyz", "b.extxyz.gz"]


def test_an_interrupted_write_leaves_what_was_there(write, tmp_path, monkeypatch):
    frames = read_frames(write([atoms(energy=-1.0)]))
    (tmp_path / "b.xyz").write_text("old")

    def stop(file, *_, **__):
        file.write("half")
        raise KeyboardInterrupt

    monkeypatch.setattr(ase.io, "write", stop)
    with pytest.raises(KeyboardInterrupt):
        write_frames(frames, tmp_path / "b.xyz", overwrite=True)
    assert (tmp_path / "b.xyz").read_text() == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.xyz", "b.xyz"]


def test_labels_not_taken_do_not_come_back(write, tmp_path):
    """A file written from chosen labels holds those and no other that would be taken before them."""
    image = atoms(energy=-1.0, free_energy=-1.1, forces=FORCES)
    image.info.update(REF_energy=-2.0, REF_virial=STRESS, virial=STRESS, dft_e=-3.0)
    frames = read_frames(write([image]), Keys(energy="dft_e", stress="none"))
    write_frames(frames, tmp_path / "b.xyz")
    (frame,) = read_frames(tmp_path / "b.xyz")
    assert frame.energy == -3.0
    assert frame.stress is None


VASPRUN = """<?xml version="1.0" encoding="ISO-8859-1"?>
<modeling>
 <parameters><separator name="electronic"><i name="NELM" type="int">60</i></separator></parameters>
 <kpoints><varray name="kpointlist"><v>0 0 0</v></varray><varray name="weights"><v>1</v></varray></kpoints>
 <atominfo><atoms>1</atoms><types>1</types>
  <array name="atoms"><set><rc><c>Cu</c><c>1</c></rc></set></array>
 </atominfo>
 <structure name="initialpos">
  <crystal><varray name="basis"><v>4 0 0</v><v>0 4 0</v><v>0 0 4</v></varray></crystal>
  <varray name="positions"><v>0 0 0</v></varray>
 </structure>
 <calculation>
  <scstep><energy><i name="e_fr_energy">-10.5</i><i name="e_0_energy">-10.4</i></energy></scstep>
  <structure>
   <crystal><varray name="basis"><v>4 0 0</v><v>0 4 0</v><v>0 0 4</v></varray></crystal>
   <varray name="positions"><v>0 0 0</v></varray>
  </structure>
  <varray name="forces"><v>0.1 0 0</v></varray>
  <varray name="stress"><v>10 0 0</v><v>0 10 0</v><v>0 0 10</v></varray>
  <energy><i name="e_fr_energy">-10.5</i><i name="e_wo_entrp">-10.3</i><i name="e_0_energy">-10.4</i></energy>
 </calculation>
</modeling>
"""
