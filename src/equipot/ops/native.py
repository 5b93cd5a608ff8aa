"""Loads the C++ library and declares its C interface (`csrc/equipot_ops.h` is the contract)."""

import ctypes
import importlib.util
import os
from collections.abc import Callable
from ctypes import POINTER, Structure, byref, c_char_p, c_double, c_int, c_int64, c_void_p
from functools import cache
from pathlib import Path

import torch

from equipot.ops.plan import ConvolutionPlan

ABI_VERSION = 6
ACTIVATIONS = ("silu", "tanh")  # as the header numbers them
MAX_CORRELATION = 4
"""`EQUIPOT_MAX_CORRELATION`: factors of a symmetric product."""
_NAMES = ("libequipot_ops.so", "libequipot_ops.dylib", "equipot_ops.dll")


class NativeError(RuntimeError):
    """The C++ library refused a call; the message is its reason."""


class EdgesStruct(Structure):
    """`equipot_edges`."""

    _fields_ = [
        ("n_atoms", c_int64),
        ("n_edges", c_int64),
        ("n_pairs", c_int64),
        ("sender", c_void_p),
        ("receiver_start", c_void_p),
        ("by_sender", c_void_p),
        ("sender_start", c_void_p),
        ("pair", c_void_p),
        ("pair_edges", c_void_p),
    ]


class PathStruct(Structure):
    """`equipot_path`."""

    _fields_ = [
        (name, c_int64) for name in ("l1", "l2", "l3", "n_channels", "h_start", "w_start", "out_start", "out_stride", "out_channel")
    ]


class LinearBlockStruct(Structure):
    """`equipot_linear_block`."""

    _fields_ = [(name, c_int64) for name in ("dim", "k_in", "k_out", "x_start", "y_start")]


class LinearMapStruct(Structure):
    """`equipot_linear_map`."""

    _fields_ = [("blocks", POINTER(LinearBlockStruct)), ("n_blocks", c_int64), ("x_dim", c_int64), ("y_dim", c_int64)]


class LinearMap:
    """The blocks of a linear map for the library, and the lengths of its rows and of one element's weights."""

    def __init__(self, x_dim: int, y_dim: int, blocks: list[list[int]]):
        self.x_dim, self.y_dim, self.w_dim = x_dim, y_dim, sum(k_in * k_out for _, k_in, k_out, *_ in blocks)
        array = (LinearBlockStruct * len(blocks))(*(LinearBlockStruct(*block) for block in blocks))
        self.struct = LinearMapStruct(array, len(blocks), x_dim, y_dim)
        self.reference = byref(self.struct)


class GateBlockStruct(Structure):
    """`equipot_gate_block`."""

    _fields_ = [
        *((name, c_int64) for name in ("activation", "dim", "n_channels", "gate_start", "x_start", "y_start")),
        ("factor", c_double),
    ]


class GateMapStruct(Structure):
    """`equipot_gate_map`."""

    _fields_ = [("blocks", POINTER(GateBlockStruct)), ("n_blocks", c_int64), ("x_dim", c_int64), ("y_dim", c_int64)]


class GateMap:
    """The blocks of a gate for the library, and the lengths of its rows."""

    def __init__(self, x_dim: int, y_dim: int, blocks: list[GateBlockStruct]):
        self.x_dim, self.y_dim = x_dim, y_dim
        self.struct = GateMapStruct((GateBlockStruct * len(blocks))(*blocks), len(blocks), x_dim, y_dim)
        self.reference = byref(self.struct)


class BesselStruct(Structure):
    """`equipot_bessel`."""

    _fields_ = [*((name, c_int64) for name in ("n_basis", "envelope", "p")), ("cutoff", c_double), ("factor", c_double)]


class PerceptronStruct(Structure):
    """`equipot_perceptron`."""

    _fields_ = [("n_layers", c_int64), ("widths", POINTER(c_int64)), ("factors", POINTER(c_double)), ("activation", c_int64)]


class NativePerceptron:
    """The layers of a perceptron for the library."""

    def __init__(self, widths: tuple[int, ...], factors: tuple[float, ...], activation: str):
        self.widths, self.n_layers, self.n_hidden = widths, len(factors), sum(widths[1:-1])
        arrays = (c_int64 * len(widths))(*widths), (c_double * len(factors))(*factors)
        self.struct = PerceptronStruct(len(factors), *arrays, ACTIVATIONS.index(activation))
        self.reference = byref(self.struct)


class ProductEntryStruct(Structure):
    """`equipot_product_entry`."""

    _fields_ = [("weight", c_int64), ("out", c_int64), ("order", c_int64), ("factor", c_int64 * MAX_CORRELATION), ("value", c_double)]


class NativeProduct:
    """A plan of the symmetric product of the library, and its numbers of components and weights."""

    def __init__(self, lib: ctypes.CDLL, n_in: int, n_out: int, n_weights: int, entries: list[ProductEntryStruct]):
        self.n_in, self.n_out, self.n_weights = n_in, n_out, n_weights
        self._lib = lib
        self.handle = c_void_p()
        array = (ProductEntryStruct * len(entries))(*entries)
        check(lib.equipot_product_create(array, len(entries), n_in, n_out, n_weights, byref(self.handle)))

    def __del__(self) -> None:
        if self.handle:
            self._lib.equipot_product_destroy(self.handle)


class NativePlan:
    """A plan of the library, and the row lengths that go with it."""

    def __init__(self, lib: ctypes.CDLL, l_max: int, h_dim: int, w_dim: int, out_dim: int, paths: list[list[int]]):
        self.h_dim, self.y_dim, self.w_dim, self.out_dim = h_dim, (l_max + 1) ** 2, w_dim, out_dim
        self._lib = lib
        self.handle = c_void_p()
        array = (PathStruct * len(paths))(*(PathStruct(*path) for path in paths))
        check(lib.equipot_plan_create(array, len(paths), l_max, h_dim, w_dim, out_dim, byref(self.handle)))

    def __del__(self) -> None:
        if self.handle:
            self._lib.equipot_plan_destroy(self.handle)


@cache
def library() -> ctypes.CDLL | None:
    """The loaded library with its functions declared, on torch's own threads; None if it was not built or does not load."""
    path = library_path()
    if path is None:
        return None
    try:
        lib = ctypes.CDLL(str(path))
        _declare(lib)
    except (OSError, AttributeError):
        return None
    if lib.equipot_abi_version() != ABI_VERSION:
        return None
    lib.equipot_set_parallel(_gomp_parallel())
    return lib


def library_path() -> Path | None:
    """Where the built library is: in `_lib` of a folder the package is made of; an editable install has two, the installed one first."""
    spec = importlib.util.find_spec("equipot")
    for folder in (spec and spec.submodule_search_locations) or []:
        for name in _NAMES:
            candidate = Path(folder) / "_lib" / name
            if candidate.exists():
                return candidate
    return None


@cache
def function(name: str, suffix: str) -> Callable[..., int]:
    """The function equipot_NAME_SUFFIX of the loaded library."""
    return getattr(library(), f"equipot_{name}_{suffix}")


def check(status: int) -> None:
    """Raises NativeError unless `status` is success."""
    if status:
        raise NativeError(f"equipot native operation: {library().equipot_status_message(status).decode()}")


@cache
def plan_of_key(key: str) -> NativePlan:
    """The library's plan for what `plan_key` wrote."""
    lib = library()
    assert lib is not None
    head, *paths = key.split(";")
    l_max, h_dim, w_dim, out_dim = map(int, head.split(","))
    return NativePlan(lib, l_max, h_dim, w_dim, out_dim, [list(map(int, path.split(","))) for path in paths])


@cache
def linear_map(key: str) -> LinearMap:
    """The map "x_dim,y_dim;block;block…", a block being dim, k_in, k_out, x_start, y_start."""
    head, *blocks = key.split(";")
    x_dim, y_dim = map(int, head.split(","))
    return LinearMap(x_dim, y_dim, [list(map(int, block.split(","))) for block in blocks])


@cache
def gate_map(key: str) -> GateMap:
    """The gate "x_dim,y_dim;block;block…", a block being activation, dim, n_channels, gate_start, x_start, y_start, factor."""
    head, *lines = key.split(";")
    blocks = []
    for line in lines:
        activation, *numbers, factor = line.split(",")
        blocks.append(GateBlockStruct(ACTIVATIONS.index(activation), *map(int, numbers), float(factor)))
    return GateMap(*map(int, head.split(",")), blocks)


@cache
def bessel(key: str, n_basis: int) -> BesselStruct:
    """The radial functions "envelope,p,cutoff,factor"."""
    envelope, p, cutoff, factor = key.split(",")
    return BesselStruct(n_basis, ("polynomial", "cosine").index(envelope), int(p), float(cutoff), float(factor))


@cache
def perceptron(widths: tuple[int, ...], factors: tuple[float, ...], activation: str) -> NativePerceptron:
    """The library's description of a perceptron."""
    return NativePerceptron(widths, factors, activation)


@cache
def product_of_key(key: str) -> NativeProduct:
    """The library's plan for "n_in,n_out,n_weights;entry;entry…", an entry being weight, out, value, factors."""
    head, *lines = key.split(";")
    entries = []
    for line in lines:
        weight, out, value, *factors = line.split(",")
        entries.append(
            ProductEntryStruct(int(weight), int(out), len(factors), (c_int64 * MAX_CORRELATION)(*map(int, factors)), float(value))
        )
    return NativeProduct(library(), *map(int, head.split(",")), entries)


def plan_key(plan: ConvolutionPlan) -> str:
    """All that the library must know of a plan, as text: a constant that a compiled graph can carry to another process."""
    head = f"{plan.l_max},{plan.irreps_in.dim},{plan.n_weights},{plan.irreps_out.dim}"
    paths = [
        f"{p.l1},{p.l2},{p.l3},{p.n_channels},{p.h_start},{p.w_start},{p.out_start},{p.out_stride},{p.out_channel}" for p in plan.paths
    ]
    return ";".join([head, *paths])


def _declare(lib: ctypes.CDLL) -> None:
    """Argument and result types of every function of the header."""
    lib.equipot_abi_version.restype = c_int
    lib.equipot_status_message.argtypes, lib.equipot_status_message.restype = [c_int], c_char_p
    lib.equipot_instruction_set.restype = c_char_p
    lib.equipot_set_instruction_set.argtypes, lib.equipot_set_instruction_set.restype = [c_char_p], c_int
    lib.equipot_set_parallel.argtypes, lib.equipot_set_parallel.restype = [c_void_p], None
    lib.equipot_plan_create.argtypes = [POINTER(PathStruct), c_int64, c_int64, c_int64, c_int64, c_int64, POINTER(c_void_p)]
    lib.equipot_plan_create.restype = c_int
    lib.equipot_plan_destroy.argtypes, lib.equipot_plan_destroy.restype = [c_void_p], None
    lib.equipot_product_create.argtypes = [POINTER(ProductEntryStruct), c_int64, c_int64, c_int64, c_int64, POINTER(c_void_p)]
    lib.equipot_product_create.restype = c_int
    lib.equipot_product_destroy.argtypes, lib.equipot_product_destroy.restype = [c_void_p], None
    lib.equipot_bessel_work.argtypes, lib.equipot_bessel_work.restype = [c_int64, c_int64], c_int64
    for suffix in ("f32", "f64"):
        for name, n_arrays in (("convolution", 4), ("convolution_backward", 8), ("convolution_double_backward", 12)):
            function = getattr(lib, f"equipot_{name}_{suffix}")
            function.argtypes = [c_void_p, POINTER(EdgesStruct), c_int] + [c_void_p] * n_arrays
            function.restype = c_int
        for name in ("linear", "linear_transposed", "linear_weights"):
            function = getattr(lib, f"equipot_{name}_{suffix}")
            function.argtypes = [POINTER(LinearMapStruct), c_int64, c_int64, c_void_p, c_int] + [c_void_p] * 3
            function.restype = c_int
        for name, n_arrays in (("gate", 2), ("gate_backward", 3), ("gate_double_backward", 5)):
            function = getattr(lib, f"equipot_{name}_{suffix}")
            function.argtypes = [POINTER(GateMapStruct), c_int64, c_int] + [c_void_p] * n_arrays
            function.restype = c_int
        for name, n_arrays in (("harmonics", 2), ("harmonics_backward", 3), ("harmonics_double_backward", 5)):
            function = getattr(lib, f"equipot_{name}_{suffix}")
            function.argtypes = [c_int64, c_int64, c_int] + [c_void_p] * n_arrays
            function.restype = c_int
        for name, n_arrays in (("bessel", 3), ("bessel_backward", 6), ("bessel_double_backward", 9)):
            function = getattr(lib, f"equipot_{name}_{suffix}")
            function.argtypes = [POINTER(BesselStruct), c_int64, c_int] + [c_void_p] * n_arrays
            function.restype = c_int
        for name, n_arrays in (("perceptron", 4), ("perceptron_backward", 7), ("perceptron_double_backward", 9)):
            function = getattr(lib, f"equipot_{name}_{suffix}")
            function.argtypes = [POINTER(PerceptronStruct), c_int64, c_int] + [c_void_p] * n_arrays
            function.restype = c_int
        for name, n_arrays in (("product", 3), ("product_backward", 5), ("product_double_backward", 8)):
            function = getattr(lib, f"equipot_{name}_{suffix}")
            function.argtypes = [c_void_p, c_int64, c_int64, c_void_p, c_int64, c_int] + [c_void_p] * n_arrays
            function.restype = c_int


def _gomp_parallel() -> int | None:
    """The address of GOMP_parallel in the OpenMP runtime that torch loaded; None (one thread) where there is none."""
    for handle in _openmp_handles():
        try:
            return ctypes.cast(handle.GOMP_parallel, c_void_p).value
        except AttributeError:
            continue
    return None


def _openmp_handles() -> list[ctypes.CDLL]:
    """Already loaded libraries that may hold torch's OpenMP runtime: never loads a new one."""
    handles = [] if os.name == "nt" else [ctypes.CDLL(None)]
    mode = getattr(os, "RTLD_NOLOAD", 0) | getattr(os, "RTLD_NOW", 0)
    if not getattr(os, "RTLD_NOLOAD", 0):
        return handles
    for path in sorted((Path(torch.__file__).parent / "lib").glob("*omp*")):
        try:
            handles.append(ctypes.CDLL(str(path), mode=mode))
        except OSError:
            continue
    return handles
