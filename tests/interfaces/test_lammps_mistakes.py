"""What a user can get wrong in an input for `pair_style equipot`: one message, on every rank; and in `equipot lammps`."""

import json
import re
import struct
from pathlib import Path

import pytest
from contract_models import POINTS, potential_of
from lammps_runs import data_file, finish, run
from lammps_systems import systems, water
from typer.testing import CliRunner

from equipot.cli import build as command_line
from equipot.engine.file import FILE_VERSION
from equipot.errors import UserError
from equipot.interfaces import lammps_plugin
from equipot.interfaces.lammps_found import Lammps, find_lammps
from equipot.model.export import native_bytes

DRIVER = """
import json, os
from lammps import lammps
lmp = lammps(cmdargs=["-log", "none", "-screen", "none"])
found = {}
for name, script in json.load(open("cases.json")).items():
    try:
        lmp.commands_string(script)
        found[name] = "fine"
    except Exception as error:
        found[name] = str(error)
json.dump(found, open("found." + os.environ["PMI_RANK"], "w"))
"""
STYLE = "pair_style equipot\npair_coeff * * m.eqn H O"


def script(pair=STYLE, data="w", units="metal", newton="on", style="atomic", before="", after="") -> str:
    return f"clear\nunits {units}\nnewton {newton}\natom_style {style}\n{before}\nread_data {data}.data\nmass * 10\n{pair}\n{after}\nrun 0 post no\n"


def of_file(name: str) -> str:
    return script(STYLE.replace("m.eqn", name))


HYBRID = "pair_style hybrid equipot lj/cut 3\npair_coeff * * equipot m.eqn H O\npair_coeff 1 2 lj/cut 0 1"
CASES = {  # the input, and what its message says
    "a missing file": (of_file("none.eqn"), "pair_coeff: cannot read the model file none.eqn"),
    "a folder": (of_file("folder"), "pair_coeff: cannot read the model file folder"),
    "not a model": (of_file("w.data"), "pair_coeff: w.data: .*not an exported model"),
    "a newer version": (of_file("newer.eqn"), f"pair_coeff: newer.eqn: .*version {FILE_VERSION + 1}"),
    "a file cut short": (of_file("cut.eqn"), "pair_coeff: cut.eqn: .*(damaged|cut)"),
    "a changed byte": (of_file("changed.eqn"), "pair_coeff: changed.eqn: .*damaged"),
    "an element of another model": (script(STYLE.replace("O", "Xe")), "atom type 2 is Xe, but the model knows H O"),
    "no element": (script(STYLE.replace("O", "oxygen")), "atom type 2 is oxygen, but the model knows H O"),
    "too few elements": (script(STYLE[:-2]), "there are 2 atom types, but 1 elements follow m.eqn"),
    "NULL": (script(STYLE.replace("O", "NULL")), "atom type 2 is NULL, which only pair_style hybrid allows"),
    "no file": (script(STYLE[:-10]), r"pair_coeff|Pair_coeff"),
    "one type only": (script(STYLE.replace("* *", "1 1")), r"\* \*"),
    "an unknown word": (script(STYLE.replace("equipot\n", "equipot float16\n")), "takes float32, float64 or nothing"),
    "no pair_coeff": (script("pair_style equipot"), "All pair coeffs are not set"),
    "pair_style once more": (script(after="pair_style equipot float32"), "All pair coeffs are not set"),
    "units": (script(units="lj"), "needs units metal or real, not lj"),
    "newton off": (script(newton="off"), "needs newton on"),
    "newton off for pairs": (script(newton="off on"), "needs newton on"),
    "exclusions": (script(after="neigh_modify exclude type 1 2"), "needs all neighbours: take neigh_modify exclude away"),
    "a first group": (
        script(before="atom_modify first mine", after="group mine type 1\ncomm_modify group mine"),
        "needs all neighbours: take atom_modify first away",
    ),
    "bonds": (script(data="bonded", style="bond", after="bond_style zero\nbond_coeff * 1"), "set special_bonds lj/coul 1 1 1"),
    "pairs of another style": (script(HYBRID), "another style of hybrid has 1 2: use hybrid/overlay"),
    "a box thinner than the shell, tiled": (script(data="small", before="comm_style tiled"), "cannot exceed periodic box length"),
}
ALLOWED = {
    "the plain input": script(),
    "bonds that count": script(data="bonded", style="bond", after="bond_style zero\nbond_coeff * 1\nspecial_bonds lj/coul 1 1 1"),
    "a shorter communication cutoff": script(after="comm_modify cutoff 1.0"),
    "a box thinner than the shell": script(data="small"),
    "tiled": script(before="comm_style tiled", after="balance 1.0 rcb"),
    "pair_style twice": script(STYLE + "\npair_style equipot float32\npair_coeff * * m.eqn H O"),
}


@pytest.fixture(scope="module")
def messages(lammps, plugin, tmp_path_factory) -> list[dict[str, str]]:
    """By rank, what each case said; every other one is the plain input, which must still work."""
    folder: Path = tmp_path_factory.mktemp("mistakes")
    write_files(folder)
    cases = {"load": f"plugin load {plugin}"}
    for name, (text, _) in CASES.items():
        cases |= {name: text, f"after {name}": script()}
    (folder / "cases.json").write_text(json.dumps(cases | ALLOWED))
    (folder / "driver.py").write_text(DRIVER)
    python = lammps.executable.parent / "python"
    if not python.exists():
        pytest.skip("LAMMPS has no Python beside it")
    finish([str(lammps.mpirun), "-np", "2", str(python), "driver.py"], folder, lammps)
    return [json.loads((folder / f"found.{rank}").read_text()) for rank in (0, 1)]


def write_files(folder: Path) -> None:
    content = native_bytes(potential_of(POINTS["botnet plain residual"]))
    changed = bytearray(content)
    changed[len(content) // 2] ^= 1
    newer = content[:8] + struct.pack("<I", FILE_VERSION + 1) + content[12:]
    for name, part in {"m": content, "cut": content[:-100], "changed": changed, "newer": newer}.items():
        (folder / f"{name}.eqn").write_bytes(bytes(part))
    (folder / "folder").mkdir()
    plain = data_file(water())
    (folder / "w.data").write_text(plain)
    (folder / "small.data").write_text(data_file(systems()["smaller than the cutoff"]))
    bonded = plain.replace("2 atom types", "2 atom types\n1 bonds\n1 bond types\n4 extra bond per atom\n4 extra special per atom")
    head, atoms = bonded.split("Atoms # atomic\n\n")
    atoms = re.sub(r"^(\d+) (\d+) ", r"\1 1 \2 ", atoms, flags=re.MULTILINE)
    (folder / "bonded.data").write_text(f"{head}Atoms # bond\n\n{atoms}\nBonds\n\n1 1 1 2\n")


@pytest.mark.parametrize("name", CASES)
def test_a_mistake_is_one_message_on_every_rank(messages, name):
    for found in messages:
        assert re.search(CASES[name][1], found[name]), found[name]
        assert found[name].count("ERROR") == 1
        assert found[f"after {name}"] == "fine"


@pytest.mark.parametrize("name", ALLOWED)
def test_what_looks_like_a_mistake_and_is_none(messages, name):
    assert [found[name] for found in messages] == ["fine", "fine"]


@pytest.mark.parametrize(
    "name", ["a missing file", "a newer version", "an element of another model", "a box thinner than the shell, tiled", "exclusions"]
)
def test_a_mistake_ends_lammps(lammps, plugin, tmp_path, name):
    """The program itself on two ranks: it ends, no rank waits for the other, and says one thing."""
    write_files(tmp_path)
    text, message = CASES[name]
    output = run(lammps, f"plugin load {plugin}\n{text}", tmp_path, 2, fails=True)
    assert re.search(f"ERROR: .*{message}", output) and output.count("ERROR") == 1, output


def test_a_plugin_for_another_lammps_is_refused(lammps, tmp_path):
    plugin = lammps_plugin.build(lammps._replace(number=20240829), tmp_path)
    output = run(lammps, f"plugin load {plugin}\n", tmp_path, 2, fails=True)
    assert (
        output.count("ERROR: the equipot plugin was built for LAMMPS 29 Aug 2024, this one is of 20250722: run equipot lammps build") == 1
    )


def test_a_plugin_that_does_not_load_is_told(lammps, plugin, tmp_path, caplog):
    lammps_plugin.check(lammps, plugin)
    alone = tmp_path / plugin.name  # without the engine beside it
    alone.write_bytes(plugin.read_bytes())
    with pytest.raises(UserError, match="was built, but does not load .*libequipot_engine.*cannot open"):
        lammps_plugin.check(lammps, alone)
    assert plugin.is_file() and not alone.exists()
    lammps_plugin.check(lammps._replace(executable=tmp_path / "lmp"), plugin)
    assert "which does not run here" in caplog.text and plugin.is_file()


@pytest.fixture
def fake(tmp_path) -> Path:
    """A folder that looks like a LAMMPS installed by CMake, without MPI."""
    headers = tmp_path / "include" / "lammps"
    headers.mkdir(parents=True)
    for name in ("pair.h", "neighbor.h"):
        (headers / name).write_text("#error not LAMMPS\n")
    (tmp_path / "lib" / "pkgconfig").mkdir(parents=True)
    (tmp_path / "lib" / "pkgconfig" / "liblammps.pc").write_text("Version: 2025.7.22\nCflags: -I${includedir} -DLAMMPS_BIGBIG\n")
    return tmp_path


def test_a_lammps_of_ones_own_is_found(fake):
    found = find_lammps(fake)
    assert found.version == "22 Jul 2025" and found.definitions == ("LAMMPS_BIGBIG",) and found.mpi_headers is None
    source = fake / "source" / "src"
    (source / "STUBS").mkdir(parents=True)
    for name in ("pair.h", "neighbor.h"):
        (source / name).touch()
    (source / "version.h").write_text('#define LAMMPS_VERSION "2 Apr 2025"\n')
    assert find_lammps(fake / "source").number == 20250402


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda p: (p / "include/lammps/pair.h").unlink(), "no LAMMPS headers"),
        (lambda p: (p / "lib/pkgconfig/liblammps.pc").unlink(), "says which LAMMPS this is"),
        (lambda p: (p / "lib/pkgconfig/liblammps.pc").write_text("Version: 20220623\n"), "20220623 is too old"),
    ],
)
def test_a_lammps_that_cannot_be_used(fake, change, message):
    change(fake)
    with pytest.raises(UserError, match=message):
        find_lammps(fake)


def test_building_says_what_is_missing(fake, monkeypatch, tmp_path):
    found = find_lammps(fake)
    out = tmp_path / "out"
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(UserError, match="no mpicxx: pip install"):
        lammps_plugin.build(found, out)
    with pytest.raises(UserError, match="no C\\+\\+ compiler: install one"):
        lammps_plugin.build(found._replace(mpi_headers=fake), out)
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(UserError, match="no-such-compiler"):
        lammps_plugin.build(found, out)
    monkeypatch.undo()
    with pytest.raises(UserError, match="does not compile against LAMMPS 22 Jul 2025 .*not LAMMPS"):
        lammps_plugin.build(found._replace(mpi_headers=fake), out)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written to"):
        lammps_plugin.build(found, tmp_path / "file" / "out")
    assert not list(out.iterdir())


def test_the_commands(lammps: Lammps, tmp_path, monkeypatch):
    def call(*arguments: str) -> str:
        done = CliRunner().invoke(command_line(), ["lammps", *arguments], catch_exceptions=False)
        return done.output

    monkeypatch.setenv("EQUIPOT_CACHE", str(tmp_path / "cache"))
    where = ("--lammps", str(lammps.executable))
    with pytest.raises(UserError, match="no plugin for LAMMPS .*: run equipot lammps build --lammps"):
        call(*where)
    (tmp_path / "m.eqn").write_bytes(native_bytes(potential_of(POINTS["botnet plain residual"])))
    shown = call("build", *where, "--model", str(tmp_path / "m.eqn"))
    plugin = Path(call(*where, "--plugin-path").strip())
    assert plugin.is_file() and plugin.is_relative_to(tmp_path / "cache")
    assert f"plugin load {plugin}\n  pair_style equipot\n  pair_coeff * * {tmp_path / 'm.eqn'} H O" in shown
    assert lammps.library_folder is None or f"export LD_LIBRARY_PATH={lammps.library_folder}" in shown
    assert call(*where, "--model", str(tmp_path / "m.eqn")) == shown
    monkeypatch.setenv("EQUIPOT_CACHE", "")
    with pytest.raises(UserError, match="name a folder with --output"):
        call(*where)
