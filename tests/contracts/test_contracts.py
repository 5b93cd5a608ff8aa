"""Every contract, over every preset and its variants, and over random points of the design space."""

from functools import cache

import pytest
from contract_checks import (
    CHECKS,
    batch_is_single,
    finite_difference_forces,
    hidden_features,
    permutation,
    reflection,
    rotation,
    save_is_load,
    visible,
)
from contract_models import POINTS, odd_gates, potential_of

from equipot.spec import layer_features


@cache
def potential(point: str):
    return potential_of(POINTS[point])


@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)
@pytest.mark.parametrize("point", POINTS)
def test_contract(point, check):
    check(potential(point))


@pytest.mark.parametrize("point", ["nequip both parities", "nequip_linear", "botnet", "botnet radial by element"])
def test_both_parities_are_there_to_be_seen(point):
    """Features of l = 1 and l = 2 with the parity harmonics do not have, read by what follows."""
    found = {block.irrep for irreps in layer_features(POINTS[point]) for block in irreps}
    assert {(1, 1), (1, -1), (2, 1), (2, -1)} <= found


@pytest.mark.parametrize(
    "check",
    [visible, rotation, reflection, hidden_features, permutation, finite_difference_forces, batch_is_single, save_is_load],
    ids=lambda c: c.__name__,
)
def test_odd_gates(check):
    check(potential_of(odd_gates()))
