"""Exported models kept between runs: a model file is exported once, and torch is not needed again for it.

The folder is EQUIPOT_CACHE, else `equipot` in XDG_CACHE_HOME or ~/.cache; EQUIPOT_CACHE set to nothing keeps nothing.
"""

import contextlib
import hashlib
import os
from pathlib import Path

from equipot import __version__
from equipot.engine.file import FILE_VERSION
from equipot.whole_file import write_whole

EXPORT_REVISION = 1
"""Raised when the same model is exported to other numbers: what was kept before is then not used."""


def cached(model: Path) -> Path | None:
    """Where the export of this model file is or would be kept; None where nothing is."""
    folder = _folder()
    if folder is None:
        return None
    digest = hashlib.sha256(model.read_bytes()).hexdigest()
    return folder / f"{digest[:40]}-{__version__}-{FILE_VERSION}.{EXPORT_REVISION}.eqn"


def keep(path: Path, content: bytes) -> None:
    """Write whole or not at all; a folder that cannot be written to is none."""
    with contextlib.suppress(OSError):
        write_whole(path, content)


def _folder() -> Path | None:
    chosen = os.environ.get("EQUIPOT_CACHE")
    if chosen is not None:
        return Path(chosen) if chosen else None
    with contextlib.suppress(RuntimeError):  # no home
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "equipot"
    return None
