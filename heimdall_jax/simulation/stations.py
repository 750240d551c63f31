"""The default network: seven receivers in north-west Italy."""

from __future__ import annotations

from heimdall_jax.types import Station

SEVEN_STATIONS = (
    Station("Aquila di Giaveno", 45.02, 7.29, 600.0),
    Station("Montanaro", 45.234, 7.857, 300.0),
    Station("Torino", 45.044, 7.672, 250.0),
    Station("Coazze", 45.03, 7.27, 700.0),
    Station("Passo dei Giovi", 44.561, 8.956, 480.0),
    Station("Genova", 44.395, 8.956, 100.0),
    Station("Milano Baggio", 45.478, 9.123, 120.0),
)
"""Name, latitude and longitude in degrees, altitude in metres."""
