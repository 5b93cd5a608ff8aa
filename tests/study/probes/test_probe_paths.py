"""Coordinates of frames, and the paths made without a reference."""

import numpy as np
import pytest
from ase.build import bulk, molecule
from pydantic import ValidationError

from equipot.data.frame import Frame
from equipot.data.writer import write_frames
from equipot.errors import UserError
from equipot.study.probes import CoordinateSpec, GenerateSpec, ProbeSpec, labelled_paths
from equipot.study.probes.coordinates import coordinates, split_curves
from equipot.study.probes.generate import generate


def as_frame(atoms, **labels) -> Frame:
    return Frame(atoms.numbers, atoms.positions.copy(), atoms.cell.array, atoms.pbc, info=dict(atoms.info), source="made#0", **labels)


@pytest.fixture
def ethanol(tmp_path):
    frame = as_frame(molecule("CH3CH2OH"))
    write_frames([frame], tmp_path / "ethanol.extxyz")
    return frame, str(tmp_path / "ethanol.extxyz")


def made(spec: dict) -> list:
    return generate(GenerateSpec(**spec), elements=(1, 6, 8), cutoff=4.0)


def test_internal_coordinates_are_those_of_ase(ethanol):
    frame, _ = ethanol
    atoms = frame.atoms()
    for spec, expected in (
        ({"distance": [1, 2]}, atoms.get_distance(1, 2)),
        ({"angle": [0, 1, 2]}, atoms.get_angle(0, 1, 2)),
        ({"dihedral": [0, 1, 2, 3]}, atoms.get_dihedral(0, 1, 2, 3)),
    ):
        assert coordinates([frame], CoordinateSpec(**spec))[0] == pytest.approx(expected, abs=1e-9)


def test_a_distance_across_the_boundary_is_the_short_one():
    atoms = bulk("Al", cubic=True)
    atoms.positions[0] = [0.1, 0, 0]
    atoms.positions[1] = [3.9, 0, 0]
    assert coordinates([as_frame(atoms)], CoordinateSpec(distance=[0, 1]))[0] == pytest.approx(4.05 - 3.8)


def test_strain_is_against_the_frame_named():
    first = bulk("Al", cubic=True)
    second = first.copy()
    shear = np.eye(3)
    shear[0, 1] = shear[1, 0] = 0.02
    second.set_cell(first.cell.array @ (1.1 * shear), scale_atoms=True)
    frames = [as_frame(first), as_frame(second)]
    assert coordinates(frames, CoordinateSpec(strain="volume"))[1] == pytest.approx(1.1**3 * (1 - 0.02**2) - 1)
    assert coordinates(frames, CoordinateSpec(strain="xy"))[1] == pytest.approx(1.1 * 0.02)
    assert coordinates(frames, CoordinateSpec(strain="xy", zero=1))[0] != pytest.approx(1.1 * 0.02)


def test_a_field_that_is_not_there_or_is_a_list_is_said():
    frame = as_frame(molecule("H2O"))
    frame.info["dihedrals"] = [10.0, 20.0]
    assert coordinates([frame], CoordinateSpec(field="dihedrals", component=1))[0] == 20.0
    with pytest.raises(UserError, match="not one number; of a list, say which with component"):
        coordinates([frame], CoordinateSpec(field="dihedrals"))
    with pytest.raises(UserError, match="has no field 'angle'; it has dihedrals"):
        coordinates([frame], CoordinateSpec(field="angle"))
    with pytest.raises(UserError, match="the frame has 3 atoms"):
        coordinates([frame], CoordinateSpec(distance=[0, 3]))


def test_curves_are_told_apart_by_composition_or_field():
    frames = [as_frame(molecule("H2O")), as_frame(molecule("CH4")), as_frame(molecule("H2O"))]
    assert split_curves(frames, "composition") == {"H2O": [0, 2], "CH4": [1]}
    assert split_curves(frames, "one") == {"all": [0, 1, 2]}
    for frame, angles in zip(frames, ([71.02, 5.0], [150.0, 5.0], [70.98, 10.0]), strict=True):
        frame.info["dihedrals"] = angles
    assert split_curves(frames, "dihedrals[0]") == {"dihedrals[0] 71": [0, 2], "dihedrals[0] 150": [1]}


def test_removing_a_hydrogen_moves_it_alone(ethanol):
    frame, file = ethanol
    oxygen, hydrogen = 2, 3
    (path,) = made({"stretch": {"frame": file, "bond": [oxygen, hydrogen], "stop": 5.0, "n": 11}})
    assert path.parts == [[i for i in range(9) if i != hydrogen], [hydrogen]]
    distances = [np.linalg.norm(f.positions[hydrogen] - f.positions[oxygen]) for f in path.frames]
    assert distances == pytest.approx(np.linspace(0.7, 5.0, 11))
    for f in path.frames:
        assert f.energy is None
        assert np.delete(f.positions, hydrogen, 0) == pytest.approx(np.delete(frame.positions, hydrogen, 0))


def test_stretching_a_bond_takes_the_group_along(ethanol):
    frame, file = ethanol
    (path,) = made({"stretch": {"frame": file, "bond": [1, 2], "n": 5}})
    assert path.parts[1] == [2, 3]  # O and its H
    last = path.frames[-1]
    assert last.atoms().get_distance(2, 3) == pytest.approx(frame.atoms().get_distance(2, 3))
    assert last.atoms().get_distance(1, 2) == pytest.approx(5.0)


def test_a_dihedral_scan_is_rigid_and_hits_its_angles(ethanol):
    frame, file = ethanol
    (path,) = made({"rotate": {"frame": file, "dihedral": [0, 1, 2, 3], "stop": 300.0, "n": 6}})
    assert [f.atoms().get_dihedral(0, 1, 2, 3) for f in path.frames[1:]] == pytest.approx([60, 120, 180, 240, 300])
    for f in path.frames:
        assert f.atoms().get_angle(1, 2, 3) == pytest.approx(frame.atoms().get_angle(1, 2, 3))
        assert np.delete(f.positions, 3, 0) == pytest.approx(np.delete(frame.positions, 3, 0))


def test_a_ring_cannot_be_cut_without_saying_what_moves(tmp_path):
    write_frames([as_frame(molecule("C6H6"))], tmp_path / "b.extxyz")
    with pytest.raises(UserError, match="a ring.*group"):
        made({"stretch": {"frame": str(tmp_path / "b.extxyz"), "bond": [0, 1]}})


def test_a_proton_ends_as_near_to_the_acceptor_as_it_was_to_the_donor(ethanol):
    frame, file = ethanol
    (path,) = made({"transfer": {"frame": file, "donor": 2, "hydrogen": 3, "acceptor": 0, "n": 5}})
    end = path.frames[-1].atoms()
    assert end.get_distance(0, 3) == pytest.approx(frame.atoms().get_distance(2, 3))
    assert path.frames[0].positions == pytest.approx(frame.positions)


def test_a_line_passes_through_both_structures(tmp_path, ethanol):
    frame, file = ethanol
    moved = as_frame(frame.atoms())
    moved.positions[4] += [0.1, 0.0, 0.2]
    write_frames([moved], tmp_path / "moved.extxyz")
    (path,) = made({"line": {"frame": file, "towards": str(tmp_path / "moved.extxyz"), "start": -1.0, "stop": 1.0, "n": 3}})
    assert path.frames[2].positions == pytest.approx(moved.positions, abs=1e-7)
    assert path.frames[1].positions == pytest.approx(frame.positions, abs=1e-7)


def test_a_volume_curve_scales_the_cell(tmp_path):
    write_frames([as_frame(bulk("Al", cubic=True))], tmp_path / "al.extxyz")
    (path,) = made({"volume": {"frame": str(tmp_path / "al.extxyz"), "n": 8}})
    assert [f.volume / f.n_atoms for f in path.frames] == pytest.approx(path.coordinate)
    assert path.coordinate[0] == pytest.approx(0.7 * 4.05**3 / 4)


def test_dimers_are_of_all_pairs_and_reach_beyond_the_cutoff():
    paths = made({"dimers": {"n": 10}})
    assert [p.name for p in paths] == ["H-H", "H-C", "H-O", "C-C", "C-O", "O-O"]
    assert all(p.coordinate[-1] == 4.5 and p.parts for p in paths)
    with pytest.raises(UserError, match="pair Fe-O: the model knows H, C, O"):
        made({"dimers": {"pairs": ["Fe-O"]}})


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"frames": "a.xyz"}, "needs a coordinate"),
        ({}, "either frames, a file, or generate"),
        ({"frames": "a.xyz", "coordinate": {"distance": [1, 1]}}, "2 different atoms"),
        ({"frames": "a.xyz", "coordinate": {"distance": [1, 2], "field": "x"}}, "2 are given"),
        ({"generate": {"dimers": {}}, "coordinate": {"field": "x"}}, "their own coordinate"),
        ({"generate": {"dimers": {}, "volume": {"frame": "a"}}}, "2 are given"),
        ({"frames": "a.xyz", "coordinate": {"distanz": [1, 2]}}, "distanz"),
    ],
)
def test_mistakes_are_found_before_anything_is_read(spec, words):
    with pytest.raises(ValidationError, match=words):
        ProbeSpec(**spec)


def test_frames_of_a_file_come_in_the_order_of_the_coordinate(tmp_path):
    frames = [as_frame(molecule("H2O"), energy=float(i)) for i in range(3)]
    for frame, s in zip(frames, (0.3, 0.1, 0.2), strict=True):
        frame.info["s"] = s
    write_frames(frames, tmp_path / "path.extxyz")
    spec = ProbeSpec(frames=str(tmp_path / "path.extxyz"), coordinate={"field": "s"})
    (path,) = labelled_paths(spec)
    assert path.coordinate == pytest.approx([0.1, 0.2, 0.3])
    assert [f.energy for f in path.frames] == [1.0, 2.0, 0.0]
