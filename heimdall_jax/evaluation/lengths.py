"""Metres as a person reads them."""

from __future__ import annotations


def in_km(metres: float) -> str:
    """With a unit: kilometres from ten on."""
    return f"{metres / 1000:,.1f} km" if metres >= 10_000 else f"{metres:.0f} m"
