"""The settings of the propagation model that training rows are fitted with, and what receivers read of a signal.

Some receivers tell a power even where they hear nothing: with s the power of the signal alone and F the noise floor,
both in dB, they read

    y = 10 log10(10^(s / 10) + 10^(F / 10))

so that far transmitters all read about F, whatever the distance law says. A reading that exceeds the floor by
`MARGIN_DB` gives s; one that does not says only that s is below what would exceed it, as a receiver that did not hear.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import ModuleType
from typing import Any

NO_FLOOR_DB = -1e4
"""Of a receiver that has none: what it reads is the signal."""
MARGIN_DB = 1.0
"""Less above the floor a reading is taken for noise, which varies by about 1 dB from one recording to another."""
BELIEVED_DB = 6.0
"""A reading further below the floor is of a receiver that fails: it says nothing (no training row of POWDER)."""
NOISE_DB = 1.0
"""What is left of a reading's spread at the floor."""
NEPERS = math.log(10) / 10


@dataclass(frozen=True)
class RadioMapConfig:
    """The propagation model of `training/radio_map.py`. Shadowing and noise as measured on 462.7 MHz campus data."""

    cross_validate: bool = False
    """Choose shadowing, correlation and noise for each receiver by cross-validation; take the noise floors out of
    readings; place by the geometric median."""
    shadowing_db: float = 7.0
    correlation_m: float = 150.0
    noise_db: float = 3.0
    spacing_m: float = 50.0
    """Of the grid on which the map is kept."""
    margin_m: float = 200.0
    """How far the grid goes beyond the training places."""
    offset_db: float = 4.0
    """Standard deviation of the unknown transmit power."""
    moving_std_db: float = 8.0
    """Spread about the distance law for receivers that move or were seldom heard."""
    inflation: float = 1.0
    """Factor on the spread of what is drawn."""
    neighbours: int = 24
    """Training recordings that each grid point is interpolated from."""
    fingerprints: int = 0
    """Training recordings that new ones are compared with, drawn at random where there are more; 0: none."""
    missed: float = 0.01
    """Share of transmissions that a receiver misses whatever their power."""


def signal_db(reading_db: Any, floor_db: Any, xp: ModuleType) -> Any:
    """Power of the signal (s) by a reading, at least the least that is told from noise; in NumPy or JAX."""
    told_db = xp.maximum(reading_db, floor_db + MARGIN_DB)
    return told_db + xp.log1p(-xp.exp(NEPERS * (floor_db - told_db))) / NEPERS


def least_signal_db(floor_db: Any) -> Any:
    """The weakest signal that is told from noise."""
    return floor_db + math.log(math.expm1(NEPERS * MARGIN_DB)) / NEPERS


def reading_db(signal_db: Any, floor_db: Any, xp: ModuleType) -> Any:
    """What a receiver reads (y) of a signal, in NumPy or JAX."""
    return xp.logaddexp(NEPERS * signal_db, NEPERS * floor_db) / NEPERS


def reading_slope(signal_db: Any, floor_db: Any, xp: ModuleType) -> Any:
    """Derivative of the reading by the signal: the signal's share of the power that is read."""
    return xp.exp(NEPERS * (signal_db - reading_db(signal_db, floor_db, xp)))


def signal_noise_db2(reading_db: Any, floor_db: Any, xp: ModuleType) -> Any:
    """Variance of the signal by a reading whose noise varies by `NOISE_DB`: the nearer the floor, the larger."""
    noise = xp.exp(NEPERS * (floor_db - xp.maximum(reading_db, floor_db + MARGIN_DB)))  # its share of the reading
    return (NOISE_DB * noise / (1.0 - noise)) ** 2
