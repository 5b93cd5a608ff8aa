"""Files that other programs saved, read by those programs: a script runs in their own environment and writes a bundle.

Such files are pickles and packages: loading one runs what it says. That happens in the child process alone, never in this one.
"""

import os
import subprocess
import sys
from pathlib import Path

from equipot.errors import UserError

SCRIPTS = {"mace": "mace_bundle.py", "nequip": "nequip_bundle.py"}
"""Program → the script beside this file, in `child`."""

_FOLDER = Path(__file__).parent / "child"
_REFUSED = "refused: "


def write_bundle_of(file: str | Path, program: str, python: str | Path | None, bundle: str | Path) -> None:
    """Have `program` ("mace" or "nequip") write the bundle of one of its files; `python`: that of an environment which has it, ours if None.

    Raises UserError, which says what to install, if the environment lacks the program or has another version, if the file is not one of its
    models, or if the child process fails.
    """
    file, bundle = Path(file), Path(bundle)
    if program not in SCRIPTS:
        raise UserError(f"--from {program}: known are bundle, {', '.join(SCRIPTS)}")
    if not file.is_file():
        raise UserError(f"{file}: no such file")
    # not resolved: an environment's Python is a link, and what it is called decides which environment it is
    python = Path(sys.executable if python is None else python).expanduser()
    if not python.is_file():
        raise UserError(
            f"--python {python}: no such program: name the Python of an environment that has {program}, such as .venv/bin/python"
        )
    command = [str(python.absolute()), str(_FOLDER / SCRIPTS[program]), str(file.resolve()), str(bundle.resolve())]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}  # the reference results are those of a CPU
    try:
        child = subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL)
    except OSError as error:
        raise UserError(f"--python {python}: cannot be run ({error.strerror})") from None
    if child.returncode != 0:
        raise UserError(_failure(child, file, program, python))
    if not bundle.is_file():
        raise UserError(f"{file}: {python} says it read the file with {program} but wrote no bundle: is it a Python?")


def _failure(child: subprocess.CompletedProcess, file: Path, program: str, python: Path) -> str:
    """One line of what went wrong."""
    lines = [line.strip() for line in child.stderr.splitlines() if line.strip()]
    refusals = [line.removeprefix(_REFUSED) for line in lines if line.startswith(_REFUSED)]
    if refusals:
        return refusals[-1].replace(str(file.resolve()), str(file))
    how = f"was killed by signal {-child.returncode}" if child.returncode < 0 else f"ended with status {child.returncode}"
    said = f": {lines[-1][:300]}" if lines else ""
    return f"{file}: the {program} of {python} could not turn it into a bundle: it {how}{said}"
