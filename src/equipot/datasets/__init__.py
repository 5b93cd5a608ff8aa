"""Small data sets that come with the package; see README.md in this folder."""

from pathlib import Path

_FOLDER = Path(__file__).resolve().parent
_SUFFIX = ".extxyz.gz"


def path(name: str) -> Path:
    """File of a packaged data set, readable with ``ase.io.read(path, ":")``.

    Args:
        name: the file's name without its ``.extxyz.gz``, such as
            ``"ethanol_300K"`` or ``"ethanol_isolated_atoms"``.

    Raises:
        ValueError: there is no such data set; the message lists those there are.
    """
    names = sorted(p.name[: -len(_SUFFIX)] for p in _FOLDER.glob("*" + _SUFFIX))
    if name not in names:
        raise ValueError(f"no data set {name!r}; there are: {', '.join(names)}")
    return _FOLDER / (name + _SUFFIX)
