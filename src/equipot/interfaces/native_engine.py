"""The engine that needs no torch: an exported model, computed by the C++ library."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from equipot.data.frame import species_index
from equipot.data.pair_search import EdgeList, check_skin
from equipot.engine.cache import cached, keep
from equipot.engine.file import SUFFIX
from equipot.engine.native import NativeModel, Neighbours, Topology
from equipot.errors import OutOfMemoryError, UserError
from equipot.interfaces.engines import Evaluation

if TYPE_CHECKING:
    from equipot.model import Potential

ATOMS_PER_THREAD = 32  # fewer are not worth waking one


class NativeEngine:
    """Energies and derivatives by the native engine, of an ensemble the mean and the spread of its members.

    The neighbour list is searched anew only when atoms have moved about half the skin.
    """

    name = "native"

    def __init__(self, model: NativeModel, skin: float = 1.0, n_threads: int | None = None) -> None:
        self.model, self.skin = model, check_skin(skin)
        self.n_threads = n_threads or available_threads()
        self.elements, self.dtype = model.elements, model.dtype
        self.uncertainties = ("energy_std", "forces_std") if model.n_members > 1 else ()
        self._numbers: np.ndarray | None = None
        self._types: np.ndarray | None = None
        self._neighbours: EdgeList | None = None
        self._edges: tuple | None = None
        self._topology: Topology | None = None

    @classmethod
    def open(cls, model: "str | Path | Potential", dtype: str | None, skin: float) -> "NativeEngine":
        """From an exported model, or from a model file or a potential, which are exported first.

        The export of a file is kept (`engine.cache`). Raises UserError for a file that is not a model, and naming what the engine cannot express.
        """
        if not isinstance(model, str | Path):
            return cls(NativeModel(_export(model), dtype or str(model.dtype).removeprefix("torch.")), skin)
        path = Path(model)
        if path.suffix == SUFFIX:
            return cls(NativeModel(path, dtype), skin)
        if not path.is_file():
            raise UserError(f"{path}: no such model file")
        kept = cached(path)
        if kept is not None and kept.is_file():
            try:
                return cls(NativeModel(kept, dtype), skin)
            except UserError:
                kept.unlink(missing_ok=True)  # damaged: made anew
        from equipot.model import load_model

        content = _export(load_model(path))
        if kept is not None:
            keep(kept, content)
        return cls(NativeModel(content, dtype), skin)

    @property
    def neighbours(self) -> EdgeList | None:
        """The list of the structure evaluated last; None before the first."""
        return self._neighbours

    def evaluate(self, numbers: np.ndarray, positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray, stress: bool) -> Evaluation:
        """See `Engine.evaluate`."""
        if self._numbers is None or not np.array_equal(self._numbers, numbers):
            self._types = species_index(numbers, list(self.elements), "the structure")
            self._neighbours = EdgeList(self.model.cutoff, self.skin, self.n_threads)
            self._numbers = np.array(numbers)
            self.model.set_threads(max(1, min(self.n_threads, len(numbers) // ATOMS_PER_THREAD)))
        edges = self._neighbours.update(positions, cell, pbc)
        if edges is not self._edges:
            self._topology, self._edges = Topology(self._types, Neighbours(*edges)), edges
        try:
            found = self.model.compute_at(positions, cell, self._topology, virial=stress, spread=bool(self.uncertainties))
        except OutOfMemoryError:
            raise OutOfMemoryError(
                f"out of memory at a structure of {len(numbers)} atoms with {len(edges[1])} edges: take fewer atoms"
            ) from None
        volume = abs(np.linalg.det(cell)) if stress else 1.0
        return Evaluation(
            energy=found.energy,
            energies=found.energies,
            forces=found.forces,
            stress=-0.5 * (found.virial + found.virial.T) / volume if stress else None,
            energy_std=found.energy_std,
            forces_std=found.forces_std,
        )

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_numbers": None, "_types": None, "_neighbours": None, "_edges": None, "_topology": None}


def available_threads() -> int:
    """OMP_NUM_THREADS, else the processors this process may use."""
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    if asked.isdigit() and int(asked) > 0:
        return int(asked)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _export(potential: "Potential") -> bytes:
    from equipot.model.export import native_bytes

    return native_bytes(potential)
