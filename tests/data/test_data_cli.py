"""`equipot data check|info|convert` as a user runs them."""

import json

import ase.io
import numpy as np
import pytest
import typer
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from typer.testing import CliRunner

from equipot.cli.data import register
from equipot.data.readers import read_frames
from equipot.errors import UserError

root = typer.Typer()
register(root)


def run(*args):
    """Exit status and output; a user's mistake comes out as UserError, which the main command turns into status 2."""
    result = CliRunner().invoke(root, ["data", *map(str, args)])
    if isinstance(result.exception, UserError):
        raise result.exception
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


@pytest.fixture(name="file")
def _file(tmp_path):
    rng = np.random.default_rng(0)
    images = []
    for i in range(6):
        atoms = Atoms("OHH", positions=np.array([[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]) + rng.normal(0, 0.02, (3, 3)))
        forces = rng.normal(size=(3, 3))
        atoms.calc = SinglePointCalculator(atoms, energy=-2070.0 + 0.01 * i, forces=forces - forces.mean(axis=0))
        atoms.info["config_type"] = "hot" if i > 3 else "cold"
        images.append(atoms)
    ase.io.write(tmp_path / "a.xyz", images, format="extxyz")
    return tmp_path / "a.xyz"


def test_check(file, tmp_path):
    assert run("check", file)[0] == 0
    status, output = run("check", file, "--labels", "energy,forces,stress")
    assert status == 1
    assert "stress-without-volume" in output
    status, output = run("check", f"{file}@:4", "--validation", f"{file}@4", "--test", f"seen={file}@0", "--json", "-")
    assert status == 0
    report = json.loads(output)
    assert {(f["code"], f["frame"]) for f in report["findings"]} >= {("leak", 0)}
    assert [c["role"] for c in report["counts"]] == ["train", "validation", "test seen"]
    assert run("check", file, "--json", tmp_path / "r.json")[0] == 0
    assert json.loads((tmp_path / "r.json").read_text())["counts"][0]["labels"] == {"energy": 6, "forces": 6, "stress": 0}


def test_brackets_in_names_are_not_markup(file):
    status, output = run("check", file, "--test", f"x[/red]={file}")
    assert status in (0, 1)
    assert "test" in output and "[/red]" in output


def test_check_with_isolated_atoms(file, tmp_path):
    (tmp_path / "iso.xyz").write_text(
        "".join(f'1\nProperties=species:S:1:pos:R:3 energy={e} pbc="F F F"\n{s} 0 0 0\n' for s, e in (("H", -13.6), ("O", -2000.0)))
    )
    status, output = run("check", file, "--isolated-atoms", tmp_path / "iso.xyz", "--json", "-")
    assert status == 0
    assert "reference-mismatch" in {f["code"] for f in json.loads(output)["findings"]}


def test_info(file):
    status, output = run("info", file, "--cutoff", "3", "--json", "-")
    found = json.loads(output)
    assert status == 0
    assert (found["n_structures"], found["mean_neighbours"], found["references_kind"]) == (6, 2.0, "mean")
    assert found["config_types"] == {"cold": 4, "hot": 2}
    assert "neighbours within 3 Å" in run("info", file, "--cutoff", "3")[1]


def test_info_without_energies(tmp_path):
    ase.io.write(tmp_path / "b.xyz", Atoms("HH", positions=[[0, 0, 0], [0, 0, 1.0]]), format="extxyz")
    assert run("info", tmp_path / "b.xyz")[0] == 0


def test_convert(file, tmp_path):
    target = tmp_path / "b.extxyz"
    assert run("convert", f"{file}@::2", "-o", target, "--config-type", "cold", "--units", "energy=kcal/mol,length=nm")[0] == 0
    frames = read_frames(target)
    assert len(frames) == 2
    assert frames[0].energy == pytest.approx(-2070.0 * 0.0433641, rel=1e-6)
    np.testing.assert_allclose(frames[0].positions, 10 * read_frames(file)[0].positions, atol=1e-7)
    assert {f.config_type for f in frames} == {"cold"}
    with pytest.raises(UserError, match="exists already"):
        run("convert", file, "-o", target)
    assert run("convert", file, "-o", target, "--overwrite")[0] == 0
    assert len(read_frames(target)) == 6


def test_mistakes_leave_nothing(file, tmp_path):
    before = sorted(tmp_path.iterdir())
    for args, word in (
        (("convert", file, "-o", tmp_path / "b.traj"), "must end in"),
        (("convert", file, "-o", tmp_path / "no" / "b.xyz"), "no folder"),
        (("convert", tmp_path / "none.xyz", "-o", tmp_path / "b.xyz"), "no such file"),
        (("convert", file, "-o", tmp_path / "b.xyz", "--elements", "C"), "none of the 6 frames"),
        (("convert", file, "-o", tmp_path / "b.xyz", "--units", "energy=furlong"), "not a unit of energy"),
        (("check", file, "--keys", "enregy=E"), "did you mean 'energy'"),
        (("check", file, "--keys", "energy"), "not NAME=VALUE"),
        (("check", file, "--labels", "charge"), "not a label"),
        (("info", file, "--cutoff", "0"), "cutoff"),
        *(
            ((*command, "--json", tmp_path / "no" / "r.json"), "no folder")
            for command in (("check", tmp_path / "none.xyz"), ("info", tmp_path / "none.xyz"), ("convert", file, "-o", tmp_path / "c.xyz"))
        ),
    ):
        with pytest.raises(UserError, match=word):
            run(*args)
    assert sorted(tmp_path.iterdir()) == before
