"""Files of mace and nequip, trained and saved by those programs (`make peers` makes their environments) and imported; and what is said when it can't be.

EQUIPOT_PEERS is the folder of the environments, `.peers` if it is not set.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase.build import molecule
from ase.io import write
from typer.testing import CliRunner

from equipot.ase import Calculator
from equipot.cli import build
from equipot.errors import UserError
from equipot.model import load_model
from equipot.model.importers.programs import write_bundle_of

REPOSITORY = Path(__file__).resolve().parents[2]
PEERS = Path(os.environ.get("EQUIPOT_PEERS") or REPOSITORY / ".peers")
MACE = {
    **{
        "name": "m",
        "train_file": "data.xyz",
        "valid_file": "data.xyz",
        "E0s": "{1:-13.6,6:-1029.5,8:-2042.0}",
        "hidden_irreps": "4x0e+4x1o",
    },
    **{"r_max": 4.2, "max_ell": 2, "batch_size": 2, "max_num_epochs": 1, "device": "cpu", "default_dtype": "float32", "radial_MLP": "[6]"},
    **{
        "MLP_irreps": "4x0e",
        "energy_key": "REF_energy",
        "forces_key": "REF_forces",
        "pair_repulsion": None,
        "distance_transform": "Agnesi",
    },
}


def python_of(program: str) -> Path:
    """The program's Python; skips where its environment is not made."""
    python = PEERS / program / "bin" / "python"
    if not python.exists():
        pytest.skip(f"no environment of {program} at {PEERS}: make peers, or set EQUIPOT_PEERS to their folder")
    return python


def run(folder: Path, *command) -> None:
    """A command of another program; its output is the reason if it fails."""
    done = subprocess.run([str(c) for c in command], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}: {done.stdout[-1500:]} {done.stderr[-1500:]}"


def structures(folder: Path) -> None:
    """data.xyz: ethanol twice, with made-up labels."""
    frames = []
    for seed in (1, 2):
        rng = np.random.default_rng(seed)
        atoms = molecule("CH3CH2OH")
        atoms.positions += 0.1 * rng.normal(size=(9, 3))
        atoms.info.update(REF_energy=-4175.0, energy=-4175.0)
        atoms.arrays.update(REF_forces=rng.normal(size=(9, 3)), forces=rng.normal(size=(9, 3)))
        frames.append(atoms)
    write(folder / "data.xyz", frames)


@pytest.fixture(scope="module")
def mace_run(tmp_path_factory) -> Path:
    """A folder in which mace_run_train has trained a small model: m.model, m_compiled.model, checkpoints."""
    python, folder = python_of("mace"), tmp_path_factory.mktemp("mace")
    structures(folder)
    run(folder, python.parent / "mace_run_train", *(f"--{key}" if value is None else f"--{key}={value}" for key, value in MACE.items()))
    return folder


@pytest.fixture(scope="module")
def nequip_run(tmp_path_factory) -> Path:
    """A folder in which nequip-train has trained a small model, last.ckpt, and nequip-package has packed it, packed.nequip.zip."""
    python, folder = python_of("nequip"), tmp_path_factory.mktemp("nequip")
    structures(folder)
    run(folder, python.parent / "nequip-train", "-cp", Path(__file__).parent / "peers", "-cn", "nequip", "hydra.run.dir=.")
    run(folder, python.parent / "nequip-package", "build", "last.ckpt", "packed.nequip.zip")
    return folder


def import_file(file: Path, program: str, output: Path, python: Path | None = None):
    arguments = ["import", str(file), "--from", program, "-o", str(output), "--python", str(python or python_of(program))]
    return CliRunner().invoke(build(), arguments)


def test_a_model_that_mace_trained(mace_run, tmp_path):
    found = import_file(mace_run / "m.model", "mace", tmp_path / "m.equipot")
    assert found.exit_code == 0, found.exception
    potential = load_model(tmp_path / "m.equipot")
    assert (potential.spec.radial_basis.transform, potential.spec.pair.kind) == ("agnesi", "zbl")
    # beside the import's own comparison, one with what the program itself says of another structure through its own calculator
    atoms = molecule("CH3CH2OH")
    atoms.rattle(0.05, seed=3)
    write(tmp_path / "a.xyz", atoms)
    script = "import sys, ase.io, numpy; from mace.calculators import MACECalculator as M; a = ase.io.read(sys.argv[2]); "
    script += "a.calc = M(model_paths=sys.argv[1], device='cpu', default_dtype='float64'); numpy.save(sys.argv[3], a.get_forces())"
    run(tmp_path, python_of("mace"), "-c", script, mace_run / "m.model", "a.xyz", "forces.npy")
    atoms.calc = Calculator(tmp_path / "m.equipot", dtype="float64")
    forces = np.load(tmp_path / "forces.npy")
    assert np.abs(forces).max() > 0.01
    # the calculator widens constants that were rounded to single precision; the import computes them anew
    assert np.abs(atoms.get_forces() - forces).max() < 1e-4 * np.abs(forces).max()


@pytest.mark.parametrize("name", ["last.ckpt", "packed.nequip.zip"])
def test_a_model_that_nequip_trained(nequip_run, tmp_path, name):
    found = import_file(nequip_run / name, "nequip", tmp_path / "m.equipot")
    assert found.exit_code == 0, found.exception
    assert "wrote" in found.output
    potential = load_model(tmp_path / "m.equipot")
    assert potential.spec.elements == (1, 6, 8)
    assert potential.e0.tolist() == [-13.6, -1029.5, -2042.0]


def refusal(file: Path, program: str, python: Path | None = None, output: Path = Path("never.equipot")) -> str:
    """The one line of an import that fails with exit status 2's exception, writing nothing."""
    found = import_file(file, program, output, python)
    assert isinstance(found.exception, UserError), (found.output, found.exception)
    assert not output.exists()
    message = str(found.exception)
    assert "\n" not in message
    return message


def test_what_mace_wrote_but_is_no_whole_model(mace_run, tmp_path):
    assert ".model file that mace_run_train writes beside it" in refusal(mace_run / "m_compiled.model", "mace")
    checkpoint = next((mace_run / "checkpoints").glob("*.pt"))
    assert "a checkpoint, which lacks the model's settings" in refusal(checkpoint, "mace")


def test_a_file_is_loaded_in_the_child_alone(tmp_path):
    """A pickle that notes which process loads it, then is no model."""
    python, file = python_of("mace"), tmp_path / "note.model"
    note = f"open({str(tmp_path / 'pid')!r}, 'w').write(str(__import__('os').getpid()))"
    run(
        tmp_path, python, "-c", f"import torch\nclass N:\n    def __reduce__(self): return exec, ({note!r},)\ntorch.save(N(), 'note.model')"
    )
    assert "not a model of mace" in refusal(file, "mace")
    assert (tmp_path / "pid").read_text() != str(os.getpid())


@pytest.mark.parametrize(
    ("program", "name"), [("mace", "text.model"), ("nequip", "text.ckpt"), ("nequip", "text.nequip.zip"), ("nequip", "text.pt2")]
)
def test_files_of_others_are_refused(tmp_path, program, name):
    python_of(program)
    (tmp_path / name).write_text("no model\n")
    assert name in refusal(tmp_path / name, program)


# ---- without the programs ----


@pytest.fixture
def some_file(tmp_path) -> Path:
    (tmp_path / "some.model").write_bytes(b"\x80\x04pickle")
    return tmp_path / "some.model"


@pytest.mark.parametrize(("program", "install"), [("mace", "e3nn==0.4.4 mace-torch==0.3.16"), ("nequip", "nequip==0.19.1")])
def test_a_missing_program_is_named_with_its_installation(some_file, program, install):
    message = refusal(some_file, program, Path(sys.executable))
    assert "is not installed" in message
    assert f"{sys.executable} -m pip install {install}" in message


@pytest.mark.parametrize(("program", "name", "found"), [("mace", "mace_torch", "0.2.1"), ("nequip", "nequip", "0.5.6")])
def test_another_version_is_named_with_its_installation(some_file, tmp_path, monkeypatch, program, name, found):
    metadata = tmp_path / f"{name}-{found}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: {found}\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    message = refusal(some_file, program, Path(sys.executable))
    assert f"{name.replace('_', '-')} {found}" in message
    assert "pip install" in message


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo all is lost >&2; exit 7", "ended with status 7: all is lost"),
        ("kill -9 $$", "was killed by signal 9"),
        ("exit 0", "wrote no bundle"),
    ],
)
def test_a_child_that_fails_is_one_line(some_file, tmp_path, script, words):
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    assert words in refusal(some_file, "nequip", python)


def test_mistakes_of_the_command_line(some_file, tmp_path):
    assert "--python" in refusal(some_file, "mace", tmp_path / "nowhere" / "python")
    assert "no such file" in refusal(tmp_path / "nothing.model", "mace", Path(sys.executable))
    with pytest.raises(UserError, match="known are bundle, mace, nequip"):
        write_bundle_of(some_file, "schnetpack", None, tmp_path / "b.npz")
    found = CliRunner().invoke(build(), ["import", str(some_file), "--python", sys.executable, "-o", "never.equipot"])
    assert "--from mace or --from nequip" in str(found.exception)
