"""The Triton kernels become machine code of GPUs that are not here, without spilled registers: `benchmarks/gpu_compile.py`."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

if importlib.util.find_spec("triton") is None:  # not imported: its interpreter, which other tests use, is chosen when it is
    pytest.skip("triton is not installed: `pip install triton` to compile the GPU operations", allow_module_level=True)

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu_compile.py"


def compile_kernels(*words: str, code: str | None = None, **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, *(["-c", code] if code else [str(SCRIPT)]), *words]
    clean = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    return subprocess.run(command, capture_output=True, text=True, env=clean | environment, cwd=SCRIPT.parent)


def test_kernels_compile_for_an_h200(tmp_path):
    run = compile_kernels("--quick", "--arch", "90", TRITON_CACHE_DIR=str(tmp_path))
    assert run.returncode == 0, run.stderr[-2000:]
    rows = [line for line in run.stdout.splitlines() if "| float32 | 90 |" in line]
    assert len(rows) == 2 and all(row.rstrip("| ").endswith("0") for row in rows)


def test_a_kernel_that_spills_is_told(tmp_path):
    """With 24 registers a thread the double backward cannot do without the stack."""
    code = """
import sys, gpu_compile
from equipot.ops.triton import convolution
convolution.double_backward_tuning = lambda plan, dtype, of=convolution.double_backward_tuning: of(plan, dtype)._replace(registers=24)
sys.argv[1:] = ["--quick"]
raise SystemExit(gpu_compile.main())
"""
    run = compile_kernels(code=code, TRITON_CACHE_DIR=str(tmp_path))
    assert run.returncode == 1 and "spills" in run.stderr, run.stderr[-2000:]


def test_the_interpreter_is_refused():
    run = compile_kernels("--quick", TRITON_INTERPRET="1")
    assert run.returncode != 0 and "unset it" in run.stderr
