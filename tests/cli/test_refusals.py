"""What the machine refuses reaches the user as one line, and what is a mistake of the program does not."""

import errno
import sys

import pytest

from equipot import cli


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device: make room"),
        (PermissionError(errno.EACCES, "Permission denied", "runs/a"), "runs/a: Permission denied"),
        (MemoryError(), "out of memory: take smaller batches"),
        (RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried …"), "out of memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"), "out of memory"),
    ],
)
def test_one_line_and_exit_status_2(error, words, monkeypatch, capsys):
    def refuse():
        def run(**_):
            raise error

        return run

    monkeypatch.setattr(cli, "build", refuse)
    monkeypatch.setattr(sys, "argv", ["equipot"])
    with pytest.raises(SystemExit) as left:
        cli.main()
    said = capsys.readouterr().err
    assert left.value.code == 2
    assert said.startswith(f"equipot: {words}") and said.count("\n") == 1


def test_a_mistake_of_the_program_is_not_hidden():
    assert cli.in_words(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) is None
