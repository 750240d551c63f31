"""Latitude and longitude given in the wrong order, where that is still a place on Earth: told by who is near."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from heimdall_jax.errors import DataError, explain
from heimdall_jax.geodesy import ground_distance_m
from heimdall_jax.types import Station

Place = tuple[float, float]

FAR_M, FAR_SHORT_WAVE_M = 1_000_000.0, 3_000_000.0
"""Beyond them no receiver of a network hears a transmitter at 30 MHz and above, and below; stations are no farther."""
NEAR_M = 300_000.0
"""Within so much of a station lies what was meant."""
SHORT_WAVE_HZ = 30e6


def refuse_swapped(place_deg: Place, others: Sequence[Station], where: str, far_m: float) -> None:
    """Refuse a place that is far from every station, while the same numbers in the other order are near one.

    Args:
        place_deg: Latitude, longitude in degrees.
        others: The stations.
        where: What the place is of, for the message.
        far_m: From where on it is far, metres along the ground.

    Raises:
        DataError: The two look swapped.
    """
    if not others or abs(place_deg[1]) > 90:
        return
    others_deg = np.array([(station.latitude_deg, station.longitude_deg) for station in others])
    given_m, swapped_m = (
        float(ground_distance_m(np.array(place), others_deg).min()) for place in (place_deg, place_deg[::-1])
    )
    if given_m > far_m and swapped_m < NEAR_M:
        got = f"({place_deg[0]:g}, {place_deg[1]:g}), {given_m / 1000:,.0f} km from the nearest station"
        allowed = f"latitude, longitude within {far_m / 1000:,.0f} km"
        cure = f"Latitude and longitude seem swapped: the other way round it is {swapped_m / 1000:,.0f} km."
        raise DataError(explain(where, got=got, allowed=allowed, cure=cure))


def refuse_swapped_stations(stations: Sequence[Station]) -> None:
    """Refuse a station that is far from all others, while the same numbers in the other order are near one.

    Raises:
        DataError: Its latitude and longitude look swapped.
    """
    if len(stations) < 3:  # of two nobody knows which
        return
    for station in stations:
        others = [other for other in stations if other is not station]
        place_deg = (station.latitude_deg, station.longitude_deg)
        refuse_swapped(place_deg, others, f"station {station.name!r}", FAR_SHORT_WAVE_M)


def refuse_swapped_transmitter(place_deg: Place, heard_at: Sequence[Station], frequency_hz: float, where: str) -> None:
    """Refuse a transmitter that its receivers cannot have heard, unless the numbers stood in the other order.

    Raises:
        DataError: Its latitude and longitude look swapped.
    """
    far_m = FAR_M if frequency_hz >= SHORT_WAVE_HZ else FAR_SHORT_WAVE_M
    refuse_swapped(place_deg, heard_at, f"{where}, transmitter", far_m)
