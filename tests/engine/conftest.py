"""The native engine's tests use the contracts' models; without the built engine they are skipped."""

import sys
from pathlib import Path

import pytest

from equipot.engine.library import library

sys.path.append(str(Path(__file__).resolve().parents[1] / "contracts"))

if library() is None:
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(scope="session", autouse=True)
def _built() -> None:
    if library() is None:
        pytest.skip("the native engine was not built")
