"""The model file: what it keeps, and that nothing damaged is ever taken for a model."""

import json
import struct
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from equipot.conventions import SCHEMA_VERSION
from equipot.errors import UserError
from equipot.model import Potential, load_model, read_header, save_model
from equipot.presets import nequip


def small_potential(dtype: torch.dtype = torch.float64) -> Potential:
    spec = nequip(n_layers=2, n_channels=4, l_max=1, radial_mlp=(4,))
    layers = tuple(replace(layer, normaliser=replace(layer.normaliser, value=9.0)) for layer in spec.layers)
    return Potential(replace(spec, layers=layers, elements=(1, 8), energy=replace(spec.energy, e0=(-1.0, 2.0), scale=1.5)), dtype=dtype)


@pytest.fixture
def model_file(tmp_path) -> Path:
    save_model(small_potential(), tmp_path / "model.equipot", provenance={"data": {"hash": "abc"}})
    return tmp_path / "model.equipot"


def parts(path: Path) -> tuple[dict, bytes]:
    """The safetensors header and the bytes of the tensors."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def assemble(path: Path, header: dict, tensors: bytes) -> None:
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + tensors)


def change_header(path: Path, **changes) -> None:
    """Change entries of equipot's own header."""
    header, tensors = parts(path)
    own = json.loads(header["__metadata__"]["equipot"])
    header["__metadata__"]["equipot"] = json.dumps({**own, **changes})
    assemble(path, header, tensors)


def refused(path: Path, *words: str) -> None:
    """A UserError in one line that names the file and says these words."""
    with pytest.raises(UserError) as caught:
        load_model(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    for word in words:
        assert word in message, message


def test_what_is_saved_is_loaded(model_file):
    saved, loaded = small_potential(), load_model(model_file)
    assert loaded.spec == saved.spec
    assert loaded.dtype == torch.float64
    assert not loaded.training
    assert {k: v.tolist() for k, v in loaded.state_dict().items()} == {k: v.tolist() for k, v in saved.state_dict().items()}
    header = read_header(model_file)
    assert header["schema"] == 1  # an older equipot can read it too
    assert header["provenance"] == {"data": {"hash": "abc"}}


def test_precision_can_be_chosen(model_file):
    assert load_model(model_file, dtype="float32").dtype == torch.float32
    with pytest.raises(UserError, match="float32 or float64"):
        load_model(model_file, dtype="float16")


def test_state_given_is_what_is_written(tmp_path):
    potential = small_potential()
    state = {k: v + 1 if v.is_floating_point() else v for k, v in potential.state_dict().items()}
    save_model(potential, tmp_path / "m.equipot", state=state)
    assert torch.equal(load_model(tmp_path / "m.equipot").embedding, potential.embedding + 1)


def test_a_file_cut_anywhere_is_refused(model_file, tmp_path):
    content, cut = model_file.read_bytes(), tmp_path / "cut.equipot"
    n = len(content)
    for length in (0, 1, 7, 8, 9, 100, 1000, n // 4, n // 2, 3 * n // 4, n - 8, n - 1):
        cut.write_bytes(content[:length])
        refused(cut)


def test_bytes_behind_the_end_are_refused(model_file):
    model_file.write_bytes(model_file.read_bytes() + b"more")
    refused(model_file)


def test_what_is_not_a_model_is_refused(tmp_path):
    refused(tmp_path / "missing.equipot", "no such")
    refused(tmp_path, "no such")
    for content in (b"", b"hello", b"\x80\x04\x95 a pickle", b"{}" * 50, bytes(1000)):
        (tmp_path / "other.equipot").write_bytes(content)
        refused(tmp_path / "other.equipot")
    save_file({"a": torch.zeros(3)}, tmp_path / "plain.safetensors")
    refused(tmp_path / "plain.safetensors", "not an equipot model")


def test_a_newer_schema_is_refused(model_file):
    change_header(model_file, schema=SCHEMA_VERSION + 1)
    refused(model_file, "newer equipot")


@pytest.mark.parametrize("schema", ["new", None, []])
def test_a_damaged_schema_is_refused(model_file, schema):
    change_header(model_file, schema=schema)
    refused(model_file, "damaged")


@pytest.mark.parametrize("spec", [{}, None, {"cutoff": -1.0, "layers": []}, {"cutoff": 4.0, "layers": [], "unknown": 1}, "text"])
def test_a_damaged_description_is_refused(model_file, spec):
    change_header(model_file, spec=spec)
    refused(model_file, "description")


def test_a_description_with_an_unknown_key_is_refused(model_file):
    header, _ = parts(model_file)
    own = json.loads(header["__metadata__"]["equipot"])
    change_header(model_file, spec={**own["spec"], "magic": 1})
    refused(model_file, "description", "magic")


def rewrite(path: Path, change) -> None:
    """Save again with changed tensors."""
    potential = load_model(path)
    state = dict(potential.state_dict())
    change(state)
    save_model(potential, path, state=state)


def test_a_missing_tensor_is_refused(model_file):
    rewrite(model_file, lambda s: s.pop("embedding"))
    refused(model_file, "lacks the tensor embedding")


def test_a_further_tensor_is_refused(model_file):
    rewrite(model_file, lambda s: s.update(extra=torch.zeros(2)))
    refused(model_file, "extra")


def test_a_tensor_of_another_shape_is_refused(model_file):
    rewrite(model_file, lambda s: s.update(embedding=torch.zeros(2, 5)))
    refused(model_file, "embedding", "(2, 5)", "(2, 4)")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_tensor_that_is_not_finite_is_refused(model_file, value):
    rewrite(model_file, lambda s: s["embedding"].__setitem__((0, 0), value))
    refused(model_file, "embedding", "not finite")


def test_a_failed_write_leaves_the_old_file(model_file, monkeypatch):
    before = model_file.read_bytes()

    def fails(*_):
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fails)
    with pytest.raises(OSError, match="disk full"):
        save_model(small_potential(), model_file)
    assert model_file.read_bytes() == before
    assert [p.name for p in model_file.parent.iterdir()] == [model_file.name]


def test_a_device_that_is_not_there_is_an_error(model_file):
    with pytest.raises(UserError, match="cpu or cuda"):
        load_model(model_file, device="tpu")
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="no GPU"):
            load_model(model_file, device="cuda")
