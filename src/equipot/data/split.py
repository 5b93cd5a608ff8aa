"""Which frames are trained on and which are kept for validation: seeded, and returned as indices so that it can be recorded."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from equipot.errors import UserError

INDEX_SUFFIXES = (".json", ".npy", ".txt", ".idx")


def split(
    frames: Sequence | int, validation: float | str | Path | Sequence[int] | None, seed: int = 0, n_train: int | None = None
) -> tuple[list[int], list[int]]:
    """Indices (train, validation), both ascending and disjoint, of `frames` (or of that many).

    `validation` is a fraction in (0, 1), a count, a list of indices, or a file of them (.json, .npy, or .txt with one per line); 0 or None
    keeps none. By count and fraction the choice is a permutation seeded by `seed`. `n_train` keeps that many of the rest; a smaller set is
    part of every larger one of the same seed, as learning curves need. Raises UserError for what cannot be met.
    """
    n = frames if isinstance(frames, int) else len(frames)
    order = np.random.default_rng(seed).permutation(n).tolist()
    if isinstance(validation, str | Path):
        validation = read_indices(validation)
    if validation is None:
        chosen: list[int] = []
    elif isinstance(validation, int | float | np.number) and not isinstance(validation, bool):
        chosen = order[: _count(validation, n)]
    else:
        chosen = checked_indices(validation, n)
    kept = set(chosen)
    rest = [i for i in order if i not in kept]
    if n_train is not None:
        if not 0 < n_train <= len(rest):
            raise UserError(f"n_train {n_train}: there are {len(rest)} frames to train on ({n} less {len(kept)} for validation)")
        rest = rest[:n_train]
    if not rest:
        raise UserError(f"validation takes all {n} frames and leaves none to train on; keep fewer")
    return sorted(rest), sorted(chosen)


def read_indices(path: str | Path) -> list[int]:
    """Frame numbers from a .json list, a .npy array or a text file; raises UserError for anything else."""
    path = Path(path)
    if path.suffix not in INDEX_SUFFIXES:
        raise UserError(f"{path}: not a list of indices ({', '.join(INDEX_SUFFIXES)}); a file of structures is read, not split")
    try:
        if path.suffix == ".npy":
            values = np.load(path, allow_pickle=False).reshape(-1).tolist()
        elif path.suffix == ".json":
            values = json.loads(path.read_text())
        else:
            values = [int(word) for word in path.read_text().replace(",", " ").split()]
    except FileNotFoundError:
        raise UserError(f"{path}: no such file of indices") from None
    except (ValueError, OSError) as error:
        raise UserError(f"{path}: not a list of whole numbers ({str(error)[:80]})") from None
    return values


def _count(validation: float, n: int) -> int:
    if isinstance(validation, float | np.floating) and 0.0 < validation < 1.0:
        return min(max(1, round(validation * n)), n - 1) if n > 1 else 0
    if not 0 <= validation < n or validation != int(validation):
        raise UserError(f"validation {validation}: a fraction between 0 and 1, or a count below the {n} frames there are")
    return int(validation)


def checked_indices(indices: Sequence[int], n: int) -> list[int]:
    """Frame numbers of n frames from 0 on, those below 0 counted from the end; raises UserError for what is none or is there twice."""
    chosen = []
    for value in indices:
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or not -n <= value < n:
            raise UserError(f"validation index {value!r}: frames are numbered 0 to {n - 1}")
        chosen.append(int(value) % n)
    if len(set(chosen)) != len(chosen):
        raise UserError("validation indices: some frame is listed twice")
    return chosen
