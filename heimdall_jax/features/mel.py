"""Mel filter banks on Slaney's scale, one-sided and mirrored about the carrier (NumPy constants)."""

from __future__ import annotations

import warnings
from typing import Literal

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

# Slaney, "Auditory Toolbox", Interval Research technical report 1998-010: linear below 1 kHz, logarithmic above.
LINEAR_HZ_PER_MEL = 200 / 3
KNEE_HZ = 1000.0
KNEE_MEL = KNEE_HZ / LINEAR_HZ_PER_MEL
LOG_STEP_PER_MEL = np.log(6.4) / 27

EMPTY = 1e-9
"""A filter whose largest sample is below this share of its peak holds rounding error only."""


def hz_to_mel(frequency_hz: ndarray | float) -> ndarray:
    """Slaney's mel number of each non-negative frequency in hertz, same shape."""
    frequency_hz = np.asarray(frequency_hz, np.float64)
    above = KNEE_MEL + np.log(np.maximum(frequency_hz, KNEE_HZ) / KNEE_HZ) / LOG_STEP_PER_MEL
    return np.where(frequency_hz < KNEE_HZ, frequency_hz / LINEAR_HZ_PER_MEL, above)


def mel_to_hz(mel: ndarray | float) -> ndarray:
    """Frequency in hertz of each of Slaney's mel numbers, same shape; inverts `hz_to_mel`."""
    mel = np.asarray(mel, np.float64)
    above = KNEE_HZ * np.exp(LOG_STEP_PER_MEL * (np.maximum(mel, KNEE_MEL) - KNEE_MEL))
    return np.where(mel < KNEE_MEL, mel * LINEAR_HZ_PER_MEL, above)


def mel_bank(
    frequency_hz: ndarray, n_mels: int, fmin: float, fmax: float, sided: Literal["two", "envelope"]
) -> Float64[ndarray, "M F"]:
    """Triangular filters of unit area in hertz (Slaney norm, 1/Hz), sampled at signed frequencies (F,) in hertz.

    `sided="envelope"`: n_mels filters from fmin up to fmax, those of `librosa.filters.mel`; negative frequencies get
    no weight. `sided="two"`: n_mels / 2 such filters on each side of the carrier, mirror images; rows run from -fmax
    up to -fmin, then from fmin up to +fmax. With fmin 0 the carrier's own bin has weight zero, as in librosa.
    """
    count = n_mels // 2 if sided == "two" else n_mels
    edge_hz = mel_to_hz(np.linspace(hz_to_mel(fmin), hz_to_mel(fmax), count + 2))
    positive = _triangles(frequency_hz, edge_hz)
    return positive if sided == "envelope" else np.concatenate([_triangles(-frequency_hz, edge_hz)[::-1], positive])


def _triangles(frequency_hz: ndarray, edge_hz: ndarray) -> ndarray:
    """(M, F) filters rising from edge m to m + 1 and falling to m + 2."""
    low, peak, high = (edge[:, None] for edge in (edge_hz[:-2], edge_hz[1:-1], edge_hz[2:]))
    height = np.minimum((frequency_hz - low) / (peak - low), (high - frequency_hz) / (high - peak))
    return np.where(height > EMPTY, height, 0.0) * 2 / (high - low)


def warn_if_empty(bank: ndarray) -> None:
    """Warn (UserWarning) where a filter (row of `bank`) lies between two bins: it would always read the floor."""
    empty = int(np.sum(~bank.any(axis=1)))
    if empty:
        warnings.warn(
            f"mel bank: {empty} of {len(bank)} filters hold no frequency bin and will always read the floor. "
            "Lower n_mels or raise n_fft.",
            UserWarning,
            stacklevel=3,
        )
