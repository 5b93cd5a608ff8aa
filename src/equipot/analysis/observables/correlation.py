"""Sums over time origins by Fourier transforms, in float64."""

import numpy as np

_AT_ONCE = 1 << 24  # numbers transformed at a time


def autocorrelation(series: np.ndarray, n_lags: int) -> np.ndarray:
    """C(m) = ⟨x_t · x_{t+m}⟩ over all origins t, (n_lags, n): series (T, n, d) summed over d.

    By the Wiener-Khinchin theorem with zero padding, so that nothing wraps around; every origin counts.
    """
    n_frames, n, _ = series.shape
    size = 1 << (2 * n_frames - 1).bit_length()
    found = np.empty((n_lags, n))
    step = max(1, _AT_ONCE // (size * series.shape[2]))
    for i in range(0, n, step):
        spectrum = np.fft.rfft(series[:, i : i + step], size, axis=0)
        found[:, i : i + step] = np.fft.irfft((np.abs(spectrum) ** 2).sum(axis=2), size, axis=0)[:n_lags]
    return found / (n_frames - np.arange(n_lags))[:, None]


def mean_square_displacement(positions: np.ndarray, n_lags: int) -> np.ndarray:
    """⟨|r_{t+m} − r_t|²⟩ over all origins t, (n_lags, n): positions (T, n, d) in Å, unwrapped.

    = ⟨r_{t+m}²⟩ + ⟨r_t²⟩ − 2 ⟨r_t · r_{t+m}⟩, about each atom's mean so that little cancels.
    V. Calandrini et al., Collection SFN 12, 201 (2011).
    """
    centred = positions - positions.mean(axis=0)
    n_frames = len(centred)
    squares = np.concatenate([np.zeros((1, centred.shape[1])), np.cumsum((centred**2).sum(axis=2), axis=0)])
    lags = np.arange(n_lags)
    both = squares[-1] - squares[lags] + squares[n_frames - lags]
    return both / (n_frames - lags)[:, None] - 2.0 * autocorrelation(centred, n_lags)
