"""What numbers from outside may be: beyond these they are mistakes, whatever file they stand in."""

from __future__ import annotations

RANGES = {
    "altitude_m": (-1000.0, 100_000.0),
    "frequency_hz": (1.0, 1e12),
    "sample_rate_hz": (1.0, 1e9),
    "error_margin_m": (1e-3, 2e7),
    "rss_db": (-1000.0, 1000.0),
    "snr_db": (-1000.0, 1000.0),
    "clock_sigma_s": (0.0, 1e6),
}
"""Least and most by the name of a column; of places `powder_files.checked_place` tells more."""
YEARS = (1970, 2200)
"""The first, and the one after the last."""


def is_plausible(name: str, value: float) -> bool:
    """Whether a number lies in the range of its name; NaN lies in none."""
    low, high = RANGES[name]
    return low <= value <= high
