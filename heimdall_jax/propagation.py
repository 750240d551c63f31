"""The settings of the propagation model that training rows are fitted with (`training/radio_map.py`)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RadioMapConfig:
    """The propagation model of `training/radio_map.py`. Shadowing and noise as measured on 462.7 MHz campus data."""

    cross_validate: bool = False
    """Choose shadowing, correlation and noise for each receiver by cross-validation; place by the geometric median."""
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
