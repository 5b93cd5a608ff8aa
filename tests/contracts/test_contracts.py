"""Every contract, over every preset and its variants, and over random points of the design space."""

from functools import cache

import pytest
from contract_checks import CHECKS
from contract_models import POINTS, potential_of


@cache
def potential(point: str):
    return potential_of(POINTS[point])


@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)
@pytest.mark.parametrize("point", POINTS)
def test_contract(point, check):
    check(potential(point))
