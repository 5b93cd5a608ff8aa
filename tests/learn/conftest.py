"""Plans of tiny learnings."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_learning import settings, written

from equipot.learn.config_file import Plan, read_plan


@pytest.fixture
def make_plan(tmp_path: Path) -> Callable[..., Plan]:
    """make_plan(**sections) is the checked plan of a tiny learning into tmp_path / "out"."""

    def make(**sections: dict) -> Plan:
        return read_plan(written(tmp_path, settings(tmp_path, **sections)))

    return make
