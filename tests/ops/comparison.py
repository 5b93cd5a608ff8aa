"""How results of two implementations are compared."""

from torch import Tensor


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    """Equal up to `tolerance` times the largest number of each tensor, or to `tolerance` where all are below 1."""
    for name, x in expected.items():
        assert found[name].shape == x.shape and found[name].dtype == x.dtype, name
        if x.numel():
            error, scale = float((found[name] - x).abs().max()), max(float(x.abs().max()), 1.0)
            assert error <= tolerance * scale, f"{name}: error {error:.2e} of {scale:.2e}"
