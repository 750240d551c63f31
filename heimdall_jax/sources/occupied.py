"""The band that a recorded signal occupies, and recordings without what lies outside it.

What lies outside carries noise and other stations, which stand elsewhere and have other delays.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy
from jaxtyping import Complex64, Float64
from numpy import ndarray

RESOLUTION_HZ = 20.0
SMOOTHED_HZ = 200.0
ABOVE_FLOOR_DB = 3.0
FLOOR_QUANTILE = 0.25
"""Of the smoothed spectrum: where signals fill less than three quarters of the band it is noise."""
BRIDGED_HZ = 1000.0
"""Widest gap inside the band of one signal, between its tones or sidebands."""
EDGE_HZ = 100.0
"""Over which the band ends."""


class Band(NamedTuple):
    """Hertz from the tuned frequency.

    Attributes:
        low_hz: Lower end.
        high_hz: Upper end.
    """

    low_hz: float
    high_hz: float

    def in_words(self) -> str:
        """A line for the notes of a fix."""
        return f"correlated: {self.low_hz:+.0f} to {self.high_hz:+.0f} Hz about the tuned frequency"


def power_spectrum(iq_RT: Complex64[ndarray, "R T"], sample_rate_hz: float) -> Float64[ndarray, "R F"]:
    """Mean power of half overlapping parts under a Hann window, bins `RESOLUTION_HZ` apart, lowest frequency first."""
    size = min(round(sample_rate_hz / RESOLUTION_HZ), iq_RT.shape[1])
    starts = range(0, iq_RT.shape[1] - size + 1, max(size // 2, 1))
    parts = np.stack([iq_RT[:, start : start + size] for start in starts], axis=1)
    return np.fft.fftshift(np.mean(np.abs(np.fft.fft(parts * np.hanning(size))) ** 2, axis=1), axes=-1)


def occupied_band(power_RF: Float64[ndarray, "R F"], sample_rate_hz: float) -> Band:
    """The band with most power of those in which the receivers, in the mean of decibels, hear more than noise.

    Where nothing stands out, or a signal fills the spectrum, it is all of it.
    """
    half_hz, step_hz = sample_rate_hz / 2, sample_rate_hz / power_RF.shape[1]
    frequency_hz = (np.arange(power_RF.shape[1]) - power_RF.shape[1] // 2) * step_hz
    heard_RF = power_RF[power_RF.sum(axis=1) > 0]
    if not len(heard_RF):
        return Band(-half_hz, half_hz)
    smooth = scipy.ndimage.uniform_filter1d(heard_RF, max(1, round(SMOOTHED_HZ / step_hz)), axis=1, mode="wrap")
    # Running sums leave rounding of either sign where a line's neighbours hold nothing.
    smooth = np.maximum(smooth, 1e-12 * smooth.max(axis=1, keepdims=True))
    floor = np.quantile(smooth, FLOOR_QUANTILE, axis=1, keepdims=True)
    excess_db = np.mean(10 * np.log10(smooth / floor), axis=0)
    above = np.flatnonzero(excess_db > ABOVE_FLOOR_DB)
    if not above.size:
        return Band(-half_hz, half_hz)
    runs = np.split(above, np.flatnonzero(np.diff(above) * step_hz > BRIDGED_HZ) + 1)
    share = np.mean(heard_RF / heard_RF.sum(axis=1, keepdims=True), axis=0)
    run = max(runs, key=lambda bins: share[bins].sum())
    return Band(float(frequency_hz[run[0]]), float(frequency_hz[run[-1]]))


def keep_band(iq_RT: Complex64[ndarray, "R T"], band: Band, sample_rate_hz: float) -> Complex64[ndarray, "R T"]:
    """The recordings within the band; phases stay, so that no delay changes."""
    gain = _gain(band, iq_RT.shape[1], sample_rate_hz)
    return np.fft.ifft(np.fft.fft(iq_RT, axis=1) * gain, axis=1).astype(np.complex64)


def kept_share(band: Band, samples: int, sample_rate_hz: float) -> float:
    """How many independent samples of noise are left of each in a recording of so many."""
    power = _gain(band, samples, sample_rate_hz) ** 2
    return float(power.sum() ** 2 / (power @ power) / samples)


def _gain(band: Band, samples: int, sample_rate_hz: float) -> Float64[ndarray, " T"]:
    """Of each frequency in FFT order, 0 to 1."""
    frequency_hz = np.fft.fftfreq(samples, 1 / sample_rate_hz)
    outside_hz = np.maximum(np.maximum(band.low_hz - frequency_hz, frequency_hz - band.high_hz), 0.0)
    return np.clip(1 - outside_hz / EDGE_HZ, 0.0, 1.0)
