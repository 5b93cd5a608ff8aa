"""The one exception for what a user can get wrong, and what running out of memory looks like."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class UserError(Exception):
    """A user's mistake: the message is one line that says what is wrong, where, and how to mend it.

    The command line prints it on standard error and ends with exit status 2; Python callers can catch it.
    """


class CannotExpressError(UserError):
    """A model the asked-for engine cannot run, though it is a sound one: another engine can."""


class MissingPackageError(UserError, ImportError):
    """What is optional is not installed; also the exception Python expects where a module cannot be imported.

    `mend`: what installs it, else pip with an extra of equipot.
    """

    def __init__(self, package: str, extra: str = "", mend: str = "") -> None:
        command = mend or f'pip install "equipot[{extra}]"'
        super().__init__(f"{package} is not installed: {command}")


class OutOfMemoryError(UserError):
    """The memory of the machine or of a GPU did not suffice for a batch or a structure."""


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether that is what an exception means: MemoryError, torch's on a GPU (torch.OutOfMemoryError, cuBLAS's) and on a CPU, and our C++ operations'."""
    if isinstance(error, OutOfMemoryError | MemoryError):
        return True
    said = str(error).lower()
    return isinstance(error, RuntimeError) and any(sign in said for sign in _SIGNS)


_SIGNS = ("out of memory", "can't allocate memory", "cublas_status_alloc_failed", "std::bad_alloc")


@contextmanager
def explained_memory(words: Callable[[], str]) -> Iterator[None]:
    """Memory that runs out in the block raises OutOfMemoryError with `words()`; everything else passes."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not ran_out_of_memory(error):
            raise
        raise OutOfMemoryError(words()) from None
