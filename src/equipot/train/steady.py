"""What a long loop over the same sizes should ask of the process: keep its memory, and do not search the whole program for garbage."""

import ctypes
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# of glibc's malloc.h
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_MMAP_AT = 32 << 20  # the most that glibc takes
_TRIM_AT = 1 << 30


@contextmanager
def steady_memory() -> Iterator[None]:
    """Freed arrays stay with the process for the next update, and objects made before the loop are no longer searched for garbage.

    By default glibc gives arrays from 128 KiB on back to the system when they are freed, and the next update pays for every page anew. The limits
    stay as they are set here; where there is no glibc, only the collector is told.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):
            libc.mallopt(_MMAP_THRESHOLD, _MMAP_AT)
            libc.mallopt(_TRIM_THRESHOLD, _TRIM_AT)
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
