"""What this process takes and may take, from files as Linux writes them."""

import subprocess
import sys
from pathlib import Path

import pytest

from equipot.errors import OutOfMemoryError, UserError, ran_out_of_memory
from equipot.train import memory

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc")


def test_a_process_is_refused_what_goes_beyond():
    """In a process of its own, which is confined for good; its peak is what it touched."""
    code = """
from equipot.train import memory
kept = bytearray(b"x" * (64 << 20)); del kept
memory.reset_peak(); before = memory.resident()
taken = bytearray(b"x" * (64 << 20))
print(memory.peak() - before)
memory.confine(0.05)
try: bytearray(100 << 20); print("taken")
except MemoryError: print("refused")
"""
    grown, word = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert word == "refused"
    assert 0.06 < float(grown) < 0.14


@pytest.mark.parametrize(
    ("limit", "expected"), [(str(3 << 30), 2.5), (str(1 << 30), 0.5), ("max", float("inf")), (str(1 << 62), float("inf"))]
)
def test_a_group_with_a_limit(tmp_path: Path, limit, expected):
    """Files kept in memory, which the kernel drops where it needs the room, are not use."""
    (tmp_path / "memory.max").write_text(limit)
    (tmp_path / "memory.current").write_text(str(1 << 30))
    (tmp_path / "memory.stat").write_text(f"anon 17\ninactive_file {1 << 29}\n")
    assert memory._of_the_group(tmp_path, "memory.max", "memory.current", "inactive_file") == expected
    assert 0.0 < memory.available_memory() < float("inf")


def test_what_running_out_of_memory_looks_like():
    import torch

    for error in (
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried …"),
        RuntimeError("CUBLAS_STATUS_ALLOC_FAILED"),
        OutOfMemoryError("x"),
    ):
        assert ran_out_of_memory(error)
    with pytest.raises(RuntimeError) as refused:
        torch.empty(1 << 60)
    assert ran_out_of_memory(refused.value)
    for error in (RuntimeError("shapes"), UserError("out of memory"), KeyError("out of memory")):
        assert not ran_out_of_memory(error)
