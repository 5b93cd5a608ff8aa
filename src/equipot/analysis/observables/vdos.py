"""Vibrational densities of states from velocities."""

import numpy as np
from ase import units

from equipot.analysis.observables.blocks import Blocked
from equipot.analysis.observables.result import Curve, Observable
from equipot.analysis.observables.settings import Settings
from equipot.analysis.observables.trajectory import Trajectory
from equipot.analysis.observables.vacf import ALL, correlations

PER_CM = 1e12 / (100.0 * units._c)  # of one THz: 33.356
PADDING = 4
FASTEST_WITH_HYDROGEN = 4000.0  # 1/cm, above stretching of O-H and H-F
SHOWN, MARGIN, LEAST = 0.99, 1.4, 200.0  # frequencies are given to where this part of the area is, and a margin beyond; 1/cm


def vdos(trajectory: Trajectory, settings: Settings) -> Observable:
    """g(ν) ∝ ∫ C(t) w(t) cos(2πνt) dt of the mass-weighted velocity autocorrelation, w a Hann window: ∫ g dν = 1, in cm.

    Elements show their share: their curves sum to that of all atoms where all have the same temperature. Raises as `vacf` does.
    """
    times, blocks, interval = correlations(trajectory, settings)
    window = np.cos(0.5 * np.pi * np.arange(len(times)) / len(times)) ** 2
    size = PADDING * 2 * len(times)
    frequencies = np.fft.rfftfreq(size, interval) * PER_CM
    total = blocks[ALL] if ALL in blocks else next(iter(blocks.values()))
    shown = frequencies <= _end(frequencies, spectrum(total.mean(axis=0)[None], window, size)[0])
    curves = []
    for name, values in blocks.items():
        share = float(values[:, 0].mean() / total[:, 0].mean())
        density = spectrum(values / values[:, :1], window, size)
        area = np.trapezoid(density, frequencies, axis=1)[:, None]
        curves.append(Curve(name, frequencies[shown], Blocked.of(share * density[:, shown] / area)))
    nyquist = frequencies[-1]
    width = 1.0 / (times[-1] + interval) * PER_CM  # Hann: half width at half maximum of 1/(2 T) each side
    notes = [
        f"resolution {width:.0f} 1/cm (correlations to {times[-1]:.3g} ps), highest frequency {nyquist:.0f} 1/cm (a frame every {trajectory.interval:g} fs)"
    ]
    if "H" in trajectory.elements and nyquist < FASTEST_WITH_HYDROGEN:
        needed = 1e3 * PER_CM / (2.0 * FASTEST_WITH_HYDROGEN)
        notes.append(
            f"frames are too far apart for the stretching of bonds to hydrogen, which shows at a false frequency: write one every {needed:.0f} fs or less"
        )
    return Observable(
        "vdos", "Vibrational density of states", "wavenumber, 1/cm", "density of states, cm", curves, notes=notes, together=True
    )


def _end(frequencies: np.ndarray, density: np.ndarray) -> float:
    area = np.cumsum(np.maximum(density, 0.0))
    return max(LEAST, MARGIN * float(frequencies[np.searchsorted(area, SHOWN * area[-1])]))


def spectrum(correlation: np.ndarray, window: np.ndarray, size: int) -> np.ndarray:
    """Cosine transform of an even function given for t ≥ 0, (n_blocks, n_lags) -> (n_blocks, size/2 + 1)."""
    even = np.zeros((len(correlation), size))
    windowed = correlation * window
    even[:, : windowed.shape[1]] = windowed
    even[:, size - windowed.shape[1] + 1 :] = windowed[:, :0:-1]
    return np.fft.rfft(even, axis=1).real
