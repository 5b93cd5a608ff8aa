"""What a user can get wrong in a file: one line that names the file, the frame and what to do; nothing is repaired or left out."""

import gzip
import logging

import numpy as np
import pytest

from equipot.data.readers import read_frames
from equipot.errors import UserError

HEADER = 'Properties=species:S:1:pos:R:3:forces:R:3 energy={energy} pbc="F F F"\n'
ATOMS = "O 0.00000000 0.00000000 0.00000000 0.10000000 0.20000000 0.30000000\nH 0.00000000 0.00000000 0.97000000 0.10000000 0.20000000 0.30000000\n"
ATOMS += "H 0.00000000 0.97000000 0.00000000 0.10000000 0.20000000 0.30000000\n"
FRAME = "3\n" + HEADER.format(energy=-1.0) + ATOMS


def expect(path, *words):
    with pytest.raises(UserError) as caught:
        read_frames(path)
    message = str(caught.value)
    assert "\n" not in message
    for word in (str(path).partition("@")[0], *words):
        assert word in message, message


@pytest.fixture(name="text")
def _text(tmp_path):
    def write(content, name="a.xyz"):
        path = tmp_path / name
        path.write_text(content)
        return path

    return write


def test_missing_file(tmp_path):
    expect(tmp_path / "no.xyz", "no such file")


def test_empty_files(text, tmp_path):
    for name in ("a.xyz", "a.npz", "a.traj", "OUTCAR"):
        expect(text("", name), "empty")
    expect(text("\n\n"), "no frames")
    with gzip.open(tmp_path / "a.xyz.gz", "wt") as file:
        file.write("")
    expect(tmp_path / "a.xyz.gz", "no frames")
    with pytest.raises(UserError, match="no data files"):
        read_frames([])


def test_not_data(text, tmp_path):
    expect(text("hello\n", "a.txt"), "not a format")
    expect(text("hello\nworld\n"), "frame 0", "a number of atoms was expected")
    expect(tmp_path, "holds no DeePMD data")
    (tmp_path / "b.xyz").write_bytes(b"\xff\xfe\x00\x81" * 10)
    expect(tmp_path / "b.xyz", "not a text file")


@pytest.mark.parametrize("lines", [4, 3, 2, 1])
def test_truncated_between_lines(text, lines):
    cut = "".join(FRAME.splitlines(keepends=True)[:lines])
    expect(text(FRAME * 2 + cut), "frame 2", "cut short")


@pytest.mark.parametrize("characters", [1, 5, 9, 12, 30, 60, 66, 69, 75, 200])
def test_truncated_anywhere(text, characters):
    """Cut inside a number, between columns, inside a line: never a frame less and never a shorter number."""
    expect(text((FRAME * 3).rstrip("\n")[:-characters]), "frame 2")


def test_only_the_last_line_break_is_missing(text, caplog):
    with caplog.at_level(logging.WARNING, "equipot.data"):
        assert len(read_frames(text((FRAME * 3).rstrip("\n")))) == 3
    assert "without a line break" in caplog.text


def test_truncated_gz(tmp_path):
    whole = gzip.compress((FRAME * 50).encode())
    (tmp_path / "a.xyz.gz").write_bytes(whole[: len(whole) // 2])
    expect(tmp_path / "a.xyz.gz", "cut short")


def test_truncated_npz_and_traj(tmp_path):
    np.savez(tmp_path / "a.npz", z=[1, 1], R=np.zeros((3, 2, 3)), E=np.zeros(3))
    whole = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "b.npz").write_bytes(whole[: len(whole) // 2])
    expect(tmp_path / "b.npz", "cut short")
    (tmp_path / "b.traj").write_bytes(b"- of Ulm" + bytes(20))
    expect(tmp_path / "b.traj", "ASE cannot read it")


def test_blank_line_that_would_hide_the_rest(text):
    """ASE stops there without a word."""
    expect(text(FRAME + "\n" + FRAME), "frame 1", "line 6", "blank line")
    assert len(read_frames(text(FRAME + "\n  \n"))) == 1


def test_bad_values_name_the_frame(text):
    expect(text(FRAME + FRAME.replace("0.97000000", "nan", 1)), "frame 1", "positions of atom 1", "NaN")
    expect(text(FRAME + FRAME.replace("energy=-1.0", "energy=nan")), "frame 1", "energy", "NaN")
    expect(text(FRAME + FRAME.replace("0.30000000", "inf", 1)), "frame 1", "forces of atom 0", "infinite")
    expect(text(FRAME + FRAME.replace("energy=-1.0", "energy=big")), "frame 1", "energy", "not numeric")
    expect(text(FRAME + FRAME.replace("energy=-1.0", 'energy="1 2"')), "frame 1", "one number")
    expect(text(FRAME + FRAME.replace("H 0.0", "Qq 0.0", 1)), "frame 1")
    expect(text(FRAME + FRAME.replace("H 0.0", "X 0.0", 1)), "frame 1", "atom 1 has no known element")
    expect(text(FRAME + FRAME.replace("0.97000000", "0.97x", 1)), "frame 1")
    expect(text(FRAME + FRAME.replace("energy", 'stress="1 2 3 4" energy')), "frame 1", "stress has shape (4,)")
    expect(text(FRAME + FRAME.replace("energy", "config_weight=-1 energy")), "frame 1", "weight")


def test_frame_numbers_survive_a_selection(text):
    path = text(FRAME * 5 + FRAME.replace("energy=-1.0", "energy=nan"))
    expect(f"{path}@1::2", "frame 5", "NaN")
    assert len(read_frames(f"{path}@::2")) == 3
    expect(f"{path}@9", "no such frame", "has 6")
    expect(f"{path}@6:", "no such frame")


def test_no_atoms(text):
    expect(text(FRAME + "0\n\n"), "frame 1", "0 atoms")


def test_fewer_columns_than_declared(text):
    expect(text(FRAME + FRAME.replace(" 0.30000000", "")), "frame 1")


def test_forces_of_a_wrong_shape(text):
    expect(text(FRAME.replace("forces:R:3", "forces:R:2:tag:R:1")), "frame 0", "forces has shape (3, 2)")


def test_npz_that_does_not_fit(tmp_path):
    path = tmp_path / "a.npz"
    for arrays, word in (
        ({"R": np.zeros((2, 2, 3))}, "no atomic numbers"),
        ({"z": [1, 1]}, "no positions"),
        ({"z": [1, 1], "R": np.zeros((2, 2, 3)), "E": np.zeros(3)}, "for 2 frames"),
        ({"z": [1, 1], "R": np.zeros((2, 3))}, "not (frames, atoms, 3)"),
        ({"z": [1, 1, 1], "R": np.zeros((2, 2, 3))}, "(3,) atomic numbers"),
    ):
        np.savez(path, **arrays)
        expect(path, word)


def test_npz_of_odd_arrays(tmp_path):
    path = tmp_path / "a.npz"
    good = {"z": np.array([1, 8]), "R": np.arange(18.0).reshape(3, 2, 3), "E": np.ones(3)}
    ragged = np.empty(2, dtype=object)
    for name, array, word in (
        ("z", np.array([1.5, 8.0]), "no whole numbers"),
        ("z", np.array(["H", "Qq"]), "not an element"),
        ("z", np.array([1, 200]), "atom 1 has no known element"),
        ("R", ragged, "arrays of objects are not read"),
        ("E", np.ones(3) + 1j, "energy is not numeric"),
    ):
        np.savez(path, **(good | {name: array}))
        expect(path, word)
    np.savez(path, **(good | {"z": np.array(["H", "O"])}))
    assert read_frames(path)[0].symbols == ["H", "O"]
    with path.open("wb") as file:
        np.save(file, good["R"])
    expect(path, "not an .npz file")
    path.write_text("hello")
    expect(path, "not an .npz file")


def test_a_name_that_is_empty():
    with pytest.raises(UserError, match="no name"):
        read_frames([""])


def test_deepmd_that_does_not_fit(tmp_path):
    folder = tmp_path / "s"
    (folder / "set.000").mkdir(parents=True)
    (folder / "type.raw").write_text("0\n0\n")
    expect(folder, "no type_map.raw")
    (folder / "type_map.raw").write_text("O\n")
    expect(folder, "energy and force")
    for name, shape in (("box", (2, 9)), ("coord", (2, 6)), ("energy", (2,)), ("force", (2, 3))):
        np.save(folder / "set.000" / f"{name}.npy", np.ones(shape))
    expect(folder, "dpdata cannot read it")
    shape = {"box": np.ones((1, 9)), "coord": np.ones((1, 6)), "energy": np.ones(1), "force": np.ones((1, 6))}
    for name, array in shape.items():
        np.save(folder / "set.000" / f"{name}.npy", array)
    (folder / "type_map.raw").write_text("Type_0\n")
    expect(folder, "'Type_0' in its type map is not an element")
