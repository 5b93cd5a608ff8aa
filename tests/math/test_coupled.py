"""The basis of coupled channels: as many functions as there are invariants, all independent."""

from collections import Counter

import numpy as np
import pytest
import torch

from equipot.math import Irreps, coupled
from equipot.math.coupled import coupled_basis, intermediate_degrees
from equipot.math.symmetric import count_couplings, symmetric_multiplicity
from equipot.nn.coupled import CoupledProduct


def values(basis, n_channels: int, n: int) -> np.ndarray:
    """All functions at n random densities, (n, n_functions)."""
    irreps = Irreps.uniform(n_channels, basis.l_max)
    product = CoupledProduct(basis, irreps, Irreps.parse("1x0e"), None).double()
    generator = torch.Generator().manual_seed(0)
    return product.functions(torch.randn(n, irreps.dim, dtype=torch.float64, generator=generator)).numpy()


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_one_channel_has_all_invariants_of_the_symmetric_power(order):
    """With one channel and no limit, functions of an order are as many as invariants of Sym^ν(0 + 1 + 2)."""
    basis = coupled_basis(1, 1, 2, (100.0,) * order)
    single = ((0, 1), (1, -1), (2, 1))
    assert (basis.orders == order).sum() == symmetric_multiplicity(single, order, 0, 1)


def test_every_set_of_factors_has_its_invariants_once():
    basis = coupled_basis(2, 2, 2, (3.0, 5.0, 6.0, 9.0))
    found = Counter(tuple(tuple(v) for v in factors) for factors in basis.labels.tolist())
    for factors, number in found.items():
        labels = [v for v in factors if v[0] >= 0]
        powers = tuple((v[1], n) for v, n in Counter(labels).items())
        assert number == count_couplings(powers, 0), labels
    assert max(found.values()) > 1
    assert len({tuple(sorted(factors)) for factors in found}) == len(found)


def test_functions_are_independent():
    basis = coupled_basis(1, 2, 2, (3.0, 5.0, 7.0, 8.0))
    assert (basis.orders == 4).sum() > 10
    x = values(basis, 4, 3 * basis.n_functions)
    size = np.linalg.svd(x / np.linalg.norm(x, axis=0), compute_uv=False)
    assert size[-1] > 1e-6 * size[0]


def test_dependent_couplings_are_left_out(monkeypatch):
    """Four equal labels of degree 1 have one invariant, though two intermediate degrees lead to one: with both, the test above fails."""
    assert intermediate_degrees((1, 1, 1, 1), (0, 0, 0, 0)) == (0,)
    assert intermediate_degrees((1, 1, 1, 1), (0, 1, 2, 3)) == (0, 1, 2)
    monkeypatch.setattr(coupled, "intermediate_degrees", lambda l, equal: (0, 2) if l == (1, 1, 1, 1) else intermediate_degrees(l, equal))
    with pytest.raises(AssertionError):
        coupled_basis.cache_clear()
        try:
            test_functions_are_independent()
        finally:
            coupled_basis.cache_clear()


def test_degrees_bound_the_products():
    n_radial, weight, degrees = 3, 1.5, (3.0, 5.0, 6.0)
    basis = coupled_basis(2, n_radial, 3, degrees, weight)
    on = basis.labels[:, :, 0] >= 0
    size = (np.where(on, basis.labels[:, :, 0] % n_radial + 1 + weight * basis.labels[:, :, 1], 0.0)).sum(1)
    assert all(size[basis.orders == nu].max() <= degrees[nu - 1] for nu in (1, 2, 3))
    assert (size > 5.0).any()


def test_a_basis_without_functions_is_refused():
    with pytest.raises(ValueError, match="leave no function"):
        coupled_basis(1, 2, 1, (0.5,))
    with pytest.raises(ValueError, match="1 to 4 factors"):
        coupled_basis(1, 2, 1, (2.0,) * 5)
