"""What tests of the C++ operations share."""

import pytest

from equipot.ops import native


@pytest.fixture(params=["avx512", "avx2", "baseline"])
def instruction_set(request):
    """Every instruction set of this machine in turn."""
    lib = native.library()
    best = lib.equipot_instruction_set()
    if lib.equipot_set_instruction_set(request.param.encode()):
        pytest.skip(f"no {request.param} here")
    assert lib.equipot_instruction_set().decode() == request.param
    yield request.param
    lib.equipot_set_instruction_set(best)


@pytest.fixture
def calls(monkeypatch):
    """Names of the library's functions that are called."""
    seen: list[str] = []
    function = native.function
    monkeypatch.setattr(native, "function", lambda name, suffix: seen.append(f"{name}_{suffix}") or function(name, suffix))
    return seen
