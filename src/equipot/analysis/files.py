"""Writing results: checked before the work, written whole after it."""

import json
import math
import sys
from pathlib import Path
from typing import Any

from equipot.errors import UserError
from equipot.whole_file import write_whole

STANDARD_OUTPUT = "-"


def require_folder(path: str | Path | None) -> None:
    """Raises UserError, before any work is done, if a result could not be written to `path`."""
    if not path or str(path) == STANDARD_OUTPUT:
        return
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path}: is a folder; give the name of a file")
    if not path.parent.is_dir():
        raise UserError(f"{path}: there is no folder {path.parent}; create it first")


def write_json(path: str | Path, data: Any) -> None:
    """Data as JSON, numbers that are not finite as null; "-" is standard output."""
    text = json.dumps(_plain(data), indent=2, ensure_ascii=False) + "\n"
    if str(path) == STANDARD_OUTPUT:
        sys.stdout.write(text)
    else:
        write_whole(path, text.encode())


def _plain(data: Any) -> Any:
    if isinstance(data, dict):
        return {str(k): _plain(v) for k, v in data.items()}
    if isinstance(data, list | tuple):
        return [_plain(v) for v in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data
