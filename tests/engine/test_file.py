"""The exported file: what is written is read, and what is damaged is refused without reading past its end."""

import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from contract_models import POINTS, cluster_graph, potential_of
from engine_cases import compute, native, neighbours_of

from equipot.engine.file import read_native, to_bytes
from equipot.engine.native import NativeModel
from equipot.errors import UserError
from equipot.model.export import native_bytes

POTENTIAL = potential_of(POINTS["mace"])
CONTENT = native_bytes(POTENTIAL, accuracy=1e-3)
GRAPH = cluster_graph(POTENTIAL)


def checked(content: bytes) -> bytes:
    """With length and checksum made right, so that what is wrong is met behind them."""
    content = bytearray(content)
    content[24:40] = struct.pack("<QQ", len(content), zlib.crc32(bytes(content[40:])))
    return bytes(content)


def test_the_file_keeps_what_is_written(tmp_path):
    tensors = {"a": np.arange(6.0).reshape(2, 3), "b": np.array([-1, 2**40]), "c": np.zeros((0, 4)), "d": np.array([True])}
    (tmp_path / "x.eqn").write_bytes(to_bytes({"note": "é"}, tensors))
    header, found = read_native(tmp_path / "x.eqn")
    assert header == {"note": "é"} and found.keys() == tensors.keys()
    assert all(np.array_equal(found[k], tensors[k]) and found[k].shape == tensors[k].shape for k in tensors)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an exported model"),
        (b"EQUIPOTX" + CONTENT[8:], "not an exported model"),
        (CONTENT[:8] + struct.pack("<I", 9) + CONTENT[12:], "version 9"),
        (CONTENT[:-1], "cut short"),
        (CONTENT + b"\0", "cut short"),
        (CONTENT[:5000] + bytes([CONTENT[5000] ^ 1]) + CONTENT[5001:], "damaged"),
        (checked(CONTENT[:5000]), "damaged"),
    ],
    ids=["empty", "magic", "version", "cut", "longer", "bit", "cut but checked"],
)
def test_what_is_not_a_whole_file_is_refused(tmp_path, content, message):
    (tmp_path / "m.eqn").write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        NativeModel(tmp_path / "m.eqn")
    assert "m.eqn" in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(UserError, match=message):
        read_native(tmp_path / "m.eqn")


def test_a_missing_file(tmp_path):
    with pytest.raises(UserError, match="no such model file"):
        NativeModel(tmp_path / "m.eqn")


def test_every_flipped_bit_is_noticed():
    rng = np.random.default_rng(0)
    for at in rng.integers(0, len(CONTENT), 300):
        damaged = bytearray(CONTENT)
        damaged[at] ^= 1 << rng.integers(8)
        with pytest.raises(UserError):
            NativeModel(bytes(damaged))


@pytest.mark.parametrize(
    "name", ["layer0.paths", "layer1.linear.blocks", "layer1.product.terms", "layer0.product.monomials", "layer1.table_of"]
)
@pytest.mark.parametrize("value", [-1, 10**6, 2**62])
def test_indices_out_of_range_are_refused(tmp_path, name, value):
    (tmp_path / "m.eqn").write_bytes(CONTENT)
    header, tensors = read_native(tmp_path / "m.eqn")
    for column in range(tensors[name].shape[1]):
        broken = tensors[name].copy()
        broken[0, column] = value
        if name.endswith("monomials") and value == -1:
            continue  # means: no factor
        with pytest.raises(UserError, match=r"damaged"):
            NativeModel(to_bytes(header, tensors | {name: broken}))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_refused(tmp_path, value):
    (tmp_path / "m.eqn").write_bytes(CONTENT)
    header, tensors = read_native(tmp_path / "m.eqn")
    broken = tensors["layer1.table"].copy()
    broken[3, 1, 2] = value
    with pytest.raises(UserError, match=r"layer1.table holds values that are not finite"):
        NativeModel(to_bytes(header, tensors | {"layer1.table": broken}))


FUZZ = """
import sys
import numpy as np
from equipot.engine.file import read_native, to_bytes
from equipot.engine.native import NativeModel, Neighbours
from equipot.errors import UserError
import struct, zlib
content = open("m.eqn", "rb").read()
types, positions, cell, *edges = np.load("g.npz").values()
rng = np.random.default_rng(int(sys.argv[1]))
header, tensors = read_native("m.eqn")
first = 40 + struct.unpack_from("<Q", content, 16)[0]
records = -(-first // 64) * 64
opened = refused = 0
for turn in range(400):
    if turn % 2:  # anywhere, and often in the list of tensors
        damaged = bytearray(content)
        for _ in range(rng.integers(1, 4)):
            end = records + 128 * len(tensors) if rng.integers(2) else len(content)
            damaged[rng.integers(8, end)] = rng.integers(256)
        if rng.integers(4) == 0:
            damaged = damaged[: rng.integers(len(damaged))]
        if len(damaged) > 40:
            damaged[24:40] = struct.pack("<QQ", len(damaged), zlib.crc32(bytes(damaged[40:])))
        damaged = bytes(damaged)
    else:  # a sound container with nonsense in it
        names = [n for n in tensors if tensors[n].dtype.kind == "i" and tensors[n].size]
        name = names[rng.integers(len(names))]
        broken = tensors[name].copy()
        broken.flat[rng.integers(broken.size)] += rng.choice([-1, 1, 2, -3, 16, 1000, 2**31, -(2**33), 2**62])
        damaged = to_bytes(header, tensors | {name: broken})
    try:
        model = NativeModel(damaged)
        opened += 1
    except UserError:
        refused += 1
        continue
    try:
        model.compute(types % len(model.elements), positions, cell, Neighbours(*edges))
    except UserError:
        pass
print(opened, refused)
"""


@pytest.mark.parametrize("point", ["mace", "nequip both parities"])
def test_nonsense_neither_opens_nor_crashes(tmp_path: Path, point: str):
    """In a process of its own, which must end by itself: damaged bytes under a right checksum, and wrong indices in a sound container."""
    potential = potential_of(POINTS[point])
    (tmp_path / "m.eqn").write_bytes(native_bytes(potential, accuracy=1e-3))
    graph = cluster_graph(potential)
    np.savez(tmp_path / "g.npz", graph.species.numpy(), graph.positions.numpy(), graph.cell[0].numpy(), *neighbours_of(graph))
    done = subprocess.run([sys.executable, "-c", FUZZ, "1"], check=False, timeout=120, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-500:]
    opened, refused = map(int, done.stdout.split())
    assert refused > 100 and opened > 10  # some of it is only another model


def test_a_model_can_be_copied(tmp_path):
    import copy
    import pickle

    model = native(POTENTIAL)
    expected = compute(model, GRAPH).forces
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert np.array_equal(compute(other, GRAPH).forces, expected)
