"""Loads the native engine and declares its C interface (`csrc/engine/equipot_engine.h` is the contract). No torch."""

import ctypes
from ctypes import POINTER, c_char_p, c_double, c_int, c_int32, c_int64, c_void_p
from functools import cache
from pathlib import Path

from equipot.errors import UserError

ABI_VERSION = 2
_NAMES = ("libequipot_engine.so", "libequipot_engine.dylib", "equipot_engine.dll")
# result and arguments of every function; arrays are addresses
_FUNCTIONS = {
    "eq_abi_version": (c_int, []),
    "eq_instruction_set": (c_char_p, []),
    "eq_open": (c_int, [c_char_p, c_int, POINTER(c_void_p), c_char_p, c_int64]),
    "eq_open_memory": (c_int, [c_char_p, c_int64, c_int, POINTER(c_void_p), c_char_p, c_int64]),
    "eq_close": (None, [c_void_p]),
    "eq_error": (c_char_p, [c_void_p]),
    "eq_set_threads": (c_int, [c_void_p, c_int]),
    "eq_precision": (c_int, [c_void_p]),
    "eq_n_elements": (c_int, [c_void_p]),
    "eq_elements": (POINTER(c_int32), [c_void_p]),
    "eq_cutoff": (c_double, [c_void_p]),
    "eq_pair_cutoff": (c_double, [c_void_p, c_int, c_int]),
    "eq_n_layers": (c_int, [c_void_p]),
    "eq_row_length": (c_int64, [c_void_p, c_int]),
    "eq_header": (c_char_p, [c_void_p]),
    "eq_bytes": (c_int64, [c_void_p]),
    "eq_n_members": (c_int, [c_void_p]),
    "eq_compute": (c_int, [c_void_p, c_int64] + [c_void_p] * 11),
    "eq_compute_spread": (c_int, [c_void_p, c_int64] + [c_void_p] * 13),
    "eq_next_member": (c_int, [c_void_p]),
    "eq_begin": (c_int, [c_void_p, c_int64, c_int64] + [c_void_p] * 4),
    "eq_forward_layer": (c_int, [c_void_p, c_int]),
    "eq_rows": (c_void_p, [c_void_p, c_int]),
    "eq_energies": (c_int, [c_void_p] * 3),
    "eq_backward_layer": (c_int, [c_void_p, c_int]),
    "eq_row_gradients": (c_void_p, [c_void_p, c_int]),
    "eq_forces": (c_int, [c_void_p] * 4),
}


def library_path() -> Path | None:
    """Where the built library is: in `_lib` of a folder the package is made of (an editable install has two); None if it was not built."""
    import equipot

    return next((p for folder in equipot.__path__ for name in _NAMES if (p := Path(folder) / "_lib" / name).exists()), None)


@cache
def library() -> ctypes.CDLL | None:
    """The loaded library; None if it was not built, does not load or has another version of the interface."""
    path = library_path()
    if path is None:
        return None
    try:
        lib = ctypes.CDLL(str(path))
        for name, (result, arguments) in _FUNCTIONS.items():
            function = getattr(lib, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError):
        return None
    return lib if lib.eq_abi_version() == ABI_VERSION else None


def require_library() -> ctypes.CDLL:
    """The library; raises UserError, which names the mend, without it."""
    lib = library()
    if lib is None:
        raise UserError("the native engine was not built: install a C++ compiler and reinstall equipot, or use engine='torch'")
    return lib
