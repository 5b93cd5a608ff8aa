"""An exported model, opened: the functions of the C interface with numpy arrays. Legend as in `equipot_engine.h`."""

import ctypes
import json
from ctypes import byref, c_void_p, create_string_buffer
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from equipot.engine.library import require_library
from equipot.errors import OutOfMemoryError, UserError

_BYTES = {"float32": 4, "float64": 8}


class Neighbours(NamedTuple):
    """A list of edges by centre: those of atom i are start[i] … start[i+1]. Edges beyond the cutoff do no harm."""

    start: np.ndarray  # (n_atoms + 1,) int64
    sender: np.ndarray  # (n_edges,) int32
    shift: np.ndarray  # (n_edges, 3) int32, lattice vectors added to the neighbour's position


class Topology:
    """Elements and neighbours as the library takes them: checked once, for all positions of which they hold.

    types (n,), indices into a model's `elements`. Raises ValueError for arrays that do not belong together.
    """

    def __init__(self, types: ArrayLike, neighbours: Neighbours) -> None:
        self.n = n = len(types)
        start, sender, shift = (_array(a, t) for a, t in zip(neighbours, (np.int64, np.int32, np.int32), strict=True))
        if start.shape != (n + 1,) or shift.shape != (len(sender), 3) or start[-1] != len(sender):
            raise ValueError("elements and neighbours of shapes that do not belong together")
        self._arrays = _array(types, np.int32), start, sender, shift  # kept alive for their addresses
        self.types, self.start, self.sender, self.shift = map(_address, self._arrays)


class Result(NamedTuple):
    """Energies and derivatives of one configuration, float64; None where they were not asked."""

    energy: float  # eV
    energies: np.ndarray  # (n_atoms,) eV
    forces: np.ndarray | None  # (n_atoms, 3) eV/Å
    virial: np.ndarray | None  # (3, 3) eV: −Σ_e r_e ⊗ ∂E/∂r_e = −V σ
    virials: np.ndarray | None  # (n_atoms, 3, 3) eV: the part of the edges that end at each atom
    energy_std: float | None = None  # eV: √(Σ_m (E_m − ⟨E⟩)² / (M − 1)) over the members of an ensemble
    forces_std: np.ndarray | None = None  # (n_atoms,) eV/Å: √(Σ_m |F_im − ⟨F_i⟩|² / (M − 1))


class NativeModel:
    """A model of an .eqn file, or of its bytes, computed in `dtype` ("float32" or "float64"; None: the one it was trained in) on `n_threads`.

    Raises UserError for a file that is missing, damaged or of a newer version, and where the engine was not built.
    """

    def __init__(self, model: str | Path | bytes, dtype: str | None = None, n_threads: int = 1) -> None:
        self._lib = require_library()
        self._handle = c_void_p()
        if dtype not in (None, *_BYTES):
            raise UserError(f"dtype must be float32 or float64, not {dtype!r}")
        self._where = "the exported model" if isinstance(model, bytes) else str(model)
        self._content = model if isinstance(model, bytes) else _read(Path(model))
        self._open(dtype or "float32")
        self.header: dict[str, Any] = self._header()
        if dtype is None and self.header.get("dtype") == "float64":
            self._close()
            self._open("float64")
        self.dtype = "float64" if self._lib.eq_precision(self._handle) == 8 else "float32"
        self.elements: tuple[int, ...] = tuple(self._lib.eq_elements(self._handle)[: self._lib.eq_n_elements(self._handle)])
        self.cutoff: float = self._lib.eq_cutoff(self._handle)
        self.n_layers: int = self._lib.eq_n_layers(self._handle)
        self.n_members: int = self._lib.eq_n_members(self._handle)
        self.n_threads = 1
        self.set_threads(n_threads)

    def _open(self, dtype: str) -> None:
        message = create_string_buffer(300)
        content = self._content
        status = self._lib.eq_open_memory(content, len(content), _BYTES[dtype], byref(self._handle), message, len(message))
        if status:
            raise UserError(f"{self._where}: {message.value.decode(errors='replace')}")

    def _header(self) -> dict[str, Any]:
        try:
            return dict(json.loads(self._lib.eq_header(self._handle)))
        except (ValueError, TypeError):
            raise UserError(f"{self._where}: damaged header") from None

    def _close(self) -> None:
        self._lib.eq_close(self._handle)
        self._handle = c_void_p()

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            self._close()

    def __reduce__(self) -> tuple:
        return NativeModel, (self._content, self.dtype, self.n_threads)

    def set_threads(self, n_threads: int) -> None:
        """Threads inside a call; results do not depend on it."""
        if n_threads != self.n_threads:
            self._check(self._lib.eq_set_threads(self._handle, n_threads))
            self.n_threads = n_threads

    @property
    def n_bytes(self) -> int:
        """Bytes the engine holds for the configurations computed so far, the model itself left out."""
        return int(self._lib.eq_bytes(self._handle))

    def compute(
        self,
        types: ArrayLike,
        positions: ArrayLike,
        cell: ArrayLike,
        neighbours: Neighbours,
        forces: bool = True,
        virial: bool = False,
        virials: bool = False,
        spread: bool = False,
    ) -> Result:
        """Everything at once. types (n,), indices into `elements`; positions (n, 3) and cell (3, 3) in Å, rows are lattice vectors.

        Of an ensemble the means of its members, and with `spread` how far they are apart. Raises UserError for the spread of one model.
        """
        return self.compute_at(positions, cell, Topology(types, neighbours), forces, virial, virials, spread)

    def compute_at(
        self,
        positions: ArrayLike,
        cell: ArrayLike,
        topology: Topology,
        forces: bool = True,
        virial: bool = False,
        virials: bool = False,
        spread: bool = False,
    ) -> Result:
        """`compute` for elements and neighbours that were checked before, as in a simulation."""
        n, t = topology.n, topology
        positions, cell = _array(positions, np.float64), _array(cell, np.float64)
        if positions.shape != (n, 3) or cell.shape != (3, 3):
            raise ValueError("arrays of shapes that do not belong together")
        numbers = np.zeros(2 + n + (3 * n if forces else 0))  # one array: a molecule's step notices each
        energies = numbers[2 : 2 + n]
        force = numbers[2 + n :].reshape(n, 3) if forces else None
        whole = np.zeros((3, 3)) if virial else None
        parts = np.zeros((n, 3, 3)) if virials else None
        doubts = np.zeros(n) if spread else None
        at = _address(numbers)
        self._check(
            self._lib.eq_compute_spread(
                *(self._handle, n, t.types, _address(positions), _address(cell), t.start, t.sender, t.shift),
                *(at, at + 16, at + 8 * (2 + n) if forces else None, _address(whole), _address(parts)),
                *(at + 8 if spread else None, _address(doubts)),
            )
        )
        return Result(float(numbers[0]), energies, force, whole, parts, float(numbers[1]) if spread else None, doubts)

    def begin(self, n_local: int, types: ArrayLike, start: ArrayLike, sender: ArrayLike, vectors: ArrayLike) -> None:
        """The staged computation, as a domain-decomposed program uses it: `types` of local and then ghost atoms, edges of local centres."""
        types, start, sender = _array(types, np.int32), _array(start, np.int64), _array(sender, np.int32)
        vectors = _array(vectors, np.float64)
        if start.shape != (n_local + 1,) or vectors.shape != (len(sender), 3) or start[-1] != len(sender):
            raise ValueError("arrays of shapes that do not belong together")
        self._sizes = (n_local, len(types))
        self._check(self._lib.eq_begin(self._handle, n_local, len(types) - n_local, *map(_address, (types, start, sender, vectors))))

    def next_member(self) -> None:
        """The next member of an ensemble on the same atoms and edges, its layers still to be done."""
        self._check(self._lib.eq_next_member(self._handle))

    def forward_layer(self, t: int) -> None:
        """Layer t of local atoms."""
        self._check(self._lib.eq_forward_layer(self._handle, t))

    def backward_layer(self, t: int) -> None:
        """The way back through layer t."""
        self._check(self._lib.eq_backward_layer(self._handle, t))

    def rows(self, t: int) -> np.ndarray:
        """The engine's own rows of layer t ≥ 1, (n_local + n_ghost, row length): those of ghosts are for the caller to fill."""
        return self._own(self._lib.eq_rows(self._handle, t), t)

    def row_gradients(self, t: int) -> np.ndarray:
        """The engine's own gradients of rows t ≥ 1: those of ghosts are for the caller to add to their owners'."""
        return self._own(self._lib.eq_row_gradients(self._handle, t), t)

    def energies(self) -> np.ndarray:
        """Site energies of local atoms, eV."""
        found = np.zeros(self._sizes[0])
        self._check(self._lib.eq_energies(self._handle, None, _address(found)))
        return found

    def derivatives(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Forces on local and ghost atoms, the virial, and its parts (n_local, 3, 3)."""
        n_local, n_atoms = self._sizes
        arrays = np.zeros((n_atoms, 3)), np.zeros((3, 3)), np.zeros((n_local, 3, 3))
        self._check(self._lib.eq_forces(self._handle, *map(_address, arrays)))
        return arrays

    def _own(self, address: int | None, t: int) -> np.ndarray:
        if address is None:
            raise ValueError(f"no rows of layer {t} at this stage")
        length = self._lib.eq_row_length(self._handle, t)
        size = self._sizes[1] * length
        kind = ctypes.c_double if self.dtype == "float64" else ctypes.c_float
        return np.ctypeslib.as_array((kind * size).from_address(address)).reshape(self._sizes[1], length)

    def _check(self, status: int) -> None:
        if status:
            said = self._lib.eq_error(self._handle).decode()
            raise (OutOfMemoryError if said == "out of memory" else UserError)(f"native engine: {said}")


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise UserError(f"{path}: no such model file")
    return path.read_bytes()


def _array(value: ArrayLike, dtype: type) -> np.ndarray:
    return np.ascontiguousarray(value, dtype)


def _address(array: np.ndarray | None) -> int | None:
    # not array.ctypes.data: that makes an object each time, which took a tenth of a molecule's step
    return None if array is None else array.__array_interface__["data"][0]
