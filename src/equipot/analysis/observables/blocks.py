"""Means over blocks of a trajectory: their errors, and means of blocks drawn anew."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Blocked:
    """A quantity in each of B consecutive blocks of a trajectory, long enough that blocks are independent of each other.

    mean = Σ_b w_b x_b and error² = B/(B − 1) Σ_b w_b² (x_b − mean)², the standard error of the mean: for equal weights s/√B.
    H. Flyvbjerg, H. G. Petersen, J. Chem. Phys. 91, 461 (1989).
    """

    values: np.ndarray  # (B, ...)
    weights: np.ndarray  # (B,), sum 1; zero for a block that has nothing to say

    @staticmethod
    def of(values: np.ndarray, weights: np.ndarray | None = None) -> "Blocked":
        """From values (B, ...) and weights (B,) of any sum; equal ones if they are not given."""
        values = np.asarray(values, dtype=np.float64)
        weights = np.ones(len(values)) if weights is None else np.asarray(weights, dtype=np.float64)
        keep = weights > 0
        return Blocked(values[keep], weights[keep] / weights.sum())

    @property
    def n_blocks(self) -> int:
        return len(self.values)

    @property
    def mean(self) -> np.ndarray:
        return np.tensordot(self.weights, self.values, 1)

    @property
    def error(self) -> np.ndarray:
        """One standard deviation of the mean; NaN for a single block."""
        if self.n_blocks < 2:
            return np.full(self.values.shape[1:], np.nan)
        deviation = self.values - self.mean
        return np.sqrt(self.n_blocks / (self.n_blocks - 1) * np.tensordot(self.weights**2, deviation**2, 1))

    def resampled(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """(n, ...) deviations from the mean of means of B blocks drawn with replacement; their spread is the error of the mean.

        Drawing from B blocks spreads by √(1 − 1/B) too little, which is made good. B. Efron, Ann. Stat. 7, 1 (1979).
        """
        if self.n_blocks < 2:
            return np.zeros((n, *self.values.shape[1:]))
        drawn = rng.multinomial(self.n_blocks, np.full(self.n_blocks, 1.0 / self.n_blocks), size=n) * self.weights
        means = np.tensordot(drawn / drawn.sum(axis=1, keepdims=True), self.values, 1)
        return np.sqrt(self.n_blocks / (self.n_blocks - 1)) * (means - self.mean)


def block_slices(n_frames: int, n_blocks: int) -> list[slice]:
    """Consecutive frames in at most `n_blocks` blocks whose lengths differ by one at most."""
    ends = np.linspace(0, n_frames, min(n_blocks, n_frames) + 1).round().astype(int)
    return [slice(int(a), int(b)) for a, b in zip(ends[:-1], ends[1:], strict=True)]


def equal_slices(n_frames: int, n_blocks: int) -> list[slice]:
    """Blocks of one length, as quantities over time differences need; frames at the start that do not fill one are left out."""
    length = n_frames // n_blocks
    first = n_frames - length * n_blocks
    return [slice(first + i * length, first + (i + 1) * length) for i in range(n_blocks)]
