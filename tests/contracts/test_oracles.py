"""Modules against e3nn, with the same raw weights."""

import pytest
from oracle_checks import ORACLES


@pytest.mark.parametrize("check", ORACLES, ids=lambda c: c.__name__)
def test_oracle(check):
    check()
