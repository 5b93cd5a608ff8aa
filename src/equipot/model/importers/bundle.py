"""A bundle: one `.npz` file with another program's hyper-parameters, weights and reference results. Reading it executes nothing."""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile, is_zipfile

import numpy as np

from equipot.errors import UserError

_MODULE = re.compile(r"^(\s*)\(([A-Za-z0-9_-]+)\): (?:\d+ x )?(.*)$")
_RANGE = re.compile(r"(\d+)-(\d+)")


class ReferenceFrame(NamedTuple):
    """One structure with what the original program said about it; eV and Å."""

    numbers: np.ndarray  # (n,) atomic numbers
    positions: np.ndarray  # (n, 3)
    cell: np.ndarray  # (3, 3)
    pbc: np.ndarray  # (3,) bool
    energy: float
    forces: np.ndarray  # (n, 3)
    stress: np.ndarray | None  # (3, 3)
    n_edges: int | None


@dataclass
class Bundle:
    """What a bundle holds. `take` hands a weight out once and remembers it, so that nothing is left behind unnoticed."""

    path: Path
    meta: dict[str, Any]
    modules: dict[str, str]  # path of every printed module, such as "interactions.0.linear", to what was printed of it
    weights: dict[str, np.ndarray]
    buffers: dict[str, np.ndarray]
    frames: list[ReferenceFrame]
    taken: set[str] = field(default_factory=set)

    def refuse(self, what: str) -> UserError:
        """The error that names what equipot has no place for."""
        return UserError(f"{self.path}: {what} has no counterpart in equipot: the bundle is not imported")

    def get(self, key: str, default: Any = None) -> Any:
        """A hyper-parameter, or the default."""
        return self.meta.get(key, default)

    def need(self, key: str) -> Any:
        """A hyper-parameter that must be there; raises UserError."""
        if key not in self.meta:
            raise UserError(f"{self.path}: meta.json lacks {key}")
        return self.meta[key]

    def take(self, name: str) -> np.ndarray:
        """A weight by the original program's name, float64; raises UserError if it is missing or not finite."""
        if name not in self.weights:
            raise UserError(f"{self.path}: the weight {name} is missing")
        value = np.asarray(self.weights[name], dtype=np.float64)
        if not np.isfinite(value).all():
            raise UserError(f"{self.path}: the weight {name} is not finite")
        self.taken.add(name)
        return value

    def printed(self, path: str) -> str:
        """What the module tree says at `path`; raises UserError if there is no such module."""
        if path not in self.modules:
            raise UserError(f"{self.path}: the module {path} is missing from the printed tree")
        return self.modules[path]

    def kind(self, path: str) -> str:
        """Class name of the module at `path`, empty if there is none."""
        return re.split(r"[\s(\[]", self.modules.get(path, ""), maxsplit=1)[0]

    def children(self, path: str) -> list[str]:
        """Names of the modules directly inside `path`, in order; "" is the model itself."""
        prefix = f"{path}." if path else ""
        return list(dict.fromkeys(p[len(prefix) :].split(".")[0] for p in self.modules if p.startswith(prefix) and p != path))

    def leftover(self) -> list[str]:
        """Weights nobody took."""
        return sorted(self.weights.keys() - self.taken)


def read_bundle(path: str | Path) -> Bundle:
    """The bundle in a file. Raises UserError if it is missing, damaged or not a bundle; never unpickles."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such bundle")
    if not is_zipfile(path):
        raise UserError(f"{path}: damaged or not a bundle (an .npz file): for files of mace or nequip say --from mace or --from nequip")
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, BadZipFile, KeyError) as error:
        raise UserError(f"{path}: damaged or not a bundle ({str(error).splitlines()[0] if str(error) else type(error).__name__})") from None
    if "meta.json" not in arrays:
        raise UserError(f"{path}: not a bundle: it has no meta.json (for files of mace or nequip say --from mace or --from nequip)")
    try:
        meta = json.loads(str(arrays["meta.json"]))
        package = str(meta["package"])
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path}: meta.json is damaged or does not name the package that wrote it") from None
    if not package or "modules" not in meta:
        raise UserError(f"{path}: meta.json lacks the printed module tree (modules)")
    return Bundle(
        path=path,
        meta=meta,
        modules=parse_modules(str(meta["modules"])),
        weights={k.removeprefix("weights/"): v for k, v in arrays.items() if k.startswith("weights/")},
        buffers={k.removeprefix("buffers/"): v for k, v in arrays.items() if k.startswith("buffers/")},
        frames=_frames(path, arrays),
    )


def parse_modules(text: str) -> dict[str, str]:
    """Path → printed line of every module of a printed torch module tree; "(3-4): 2 x Block(" stands for both 3 and 4.

    >>> parse_modules("Net(\\n  (layers): ModuleList(\\n    (0-1): 2 x Linear(a -> b)\\n  )\\n)")
    {'': 'Net(', 'layers': 'ModuleList(', 'layers.0': 'Linear(a -> b)', 'layers.1': 'Linear(a -> b)'}
    """
    found = {"": text.splitlines()[0] if text else ""}
    stack: list[tuple[int, list[str]]] = [(-1, [""])]
    for line in text.splitlines():
        match = _MODULE.match(line)
        if match is None:
            continue
        indent, name, content = len(match[1]), match[2], match[3]
        while stack[-1][0] >= indent:
            stack.pop()
        span = _RANGE.fullmatch(name)
        names = [str(i) for i in range(int(span[1]), int(span[2]) + 1)] if span else [name]
        paths = [f"{parent}.{n}" if parent else n for parent in stack[-1][1] for n in names]
        found.update(dict.fromkeys(paths, content))
        stack.append((indent, paths))
    return found


def _frames(path: Path, arrays: dict[str, np.ndarray]) -> list[ReferenceFrame]:
    frames = []
    while f"frame{len(frames)}/numbers" in arrays:
        name = f"frame{len(frames)}"
        try:
            stress = arrays.get(f"{name}/stress")
            n_edges = arrays.get(f"{name}/n_edges")
            frames.append(
                ReferenceFrame(
                    numbers=arrays[f"{name}/numbers"],
                    positions=arrays[f"{name}/positions"],
                    cell=arrays[f"{name}/cell"],
                    pbc=arrays[f"{name}/pbc"],
                    energy=float(np.asarray(arrays[f"{name}/energy"]).reshape(-1)[0]),
                    forces=arrays[f"{name}/forces"],
                    stress=None if stress is None else np.asarray(stress).reshape(3, 3),
                    n_edges=None if n_edges is None else int(n_edges),
                )
            )
        except KeyError as error:
            raise UserError(f"{path}: {name} lacks {error.args[0]}") from None
    return frames
