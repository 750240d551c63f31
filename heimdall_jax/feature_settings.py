"""How recordings become features (`features/`). Imports no JAX."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class FeatureConfig:
    """IQ to log-mel spectrogram; (128, 32) from 12,000 samples by default."""

    sample_rate_hz: float = 12_000.0
    n_fft: int = 512
    hop_length: int = 370
    n_mels: int = 128
    n_frames: int = 32
    fmin: float = 0.0
    fmax: float | None = None
    sided: Literal["two", "envelope"] = "two"
    floor_db: float = -140.0
    """Lowest value of the spectrogram, dB relative to full scale."""


@dataclass(frozen=True)
class TimingConfig:
    """IQ of all receivers to differences of arrival times (`features/tdoa.py`)."""

    max_lag: int = 24  # lags computed on each side, samples: `features.interpolation.lags_needed`
    half_width: int = 16  # of the interpolator, samples; peaks are sought up to max_lag - half_width
    block: int = 128  # samples summed before the search over frequency: 30 Hz between two receivers cost 1.5 dB
    max_offset_hz: float = 30.0  # largest frequency offset between two receivers that is sought
    min_bandwidth_hz: float = 100.0  # rms; below it a peak falls by less than a tenth over the lags sought
    min_snr_db: float = 13.0
    """Of a pair after integration. Stein's formula needs 10; the best peak of noise reached 12.5 in 4,032 pairs."""
    max_clock_s: float = 50e-6
    """Receivers with a worse clock are not timed: 15 km a sigma, and their delays leave the lags that are sought."""
    method: Literal["plain", "phat", "scot"] = "plain"
