"""What several tests of the mathematics share."""

import warnings

import numpy as np
import pytest


@pytest.fixture(scope="session")
def o3():
    """e3nn's `o3`, the oracle; its import warns about things that are not ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("e3nn")
        from e3nn import o3
    return o3


@pytest.fixture
def rng():
    return np.random.default_rng(20240607)


@pytest.fixture
def rotation(rng):
    """A random proper rotation matrix."""
    q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return q * np.linalg.det(q)


@pytest.fixture
def reflection(rng):
    """A random element of O(3) with determinant −1."""
    q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return -q * np.linalg.det(q)
