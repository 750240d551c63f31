"""Which further receiver would help most: the Cramér-Rao bound of the fix with it added.

A new receiver is taken to be as good as the middle one of those in use (its variance their median), and to stand on a
grid of bearings and distances about the place; a station whose recording is missing or was refused, where it is. Where
there is no best guess, bounds are the median over places about the receivers. All that is known beforehand is the
method's own: the transmitter is somewhere about the receivers, one standard deviation of `reach_m` east and north.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from heimdall_jax import geodesy
from heimdall_jax.types import Station

BEARINGS = 24
DISTANCES = (0.125, 0.25, 0.5, 1.0)
"""From the place, in half diagonals of the receivers' bounding box."""
AS_GOOD = 1.01
"""Of bounds: among those within a hundredth of the best the place nearest to the receivers' middle is suggested."""
PLACES_PER_SIDE = 5
"""Of the grid of places where there is no best guess."""

Information = Callable[[Float64[ndarray, "N 2"], Float64[ndarray, "N R 3"]], Float64[ndarray, "N 2 2"]]
"""Of places east, north, from receivers, the last of them new: per square metre."""


@dataclass(frozen=True, eq=False)
class Layout:
    """Receivers in use, in the plane about `origin_deg`, and where the transmitter may be.

    Attributes:
        receiver_m_RX: East, north, up.
        place_deg: The best guess; None where there is none.
        information: Of any number of receivers, the last of them new where there are more than R.
        origin_deg: Latitude, longitude of the plane's origin.
        reach_m: Standard deviation east and north, about the receivers' middle, of all that is known beforehand.
    """

    receiver_m_RX: Float64[ndarray, "R 3"]
    place_deg: tuple[float, float] | None
    information: Information
    origin_deg: tuple[float, float]
    reach_m: float


@dataclass(frozen=True)
class Advice:
    """What would shrink the 68 % radius most.

    Attributes:
        now_m: Its bound as it is.
        place_deg: Where a further receiver should stand.
        bearing_deg: From the best guess, or the receivers' middle, clockwise from north.
        distance_m: Likewise.
        then_m: The bound with it.
        station: The known station that would help most, if there is any.
        station_then_m: The bound with that.
    """

    now_m: float
    place_deg: tuple[float, float]
    bearing_deg: float
    distance_m: float
    then_m: float
    station: Station | None
    station_then_m: float

    def to_tree(self) -> dict[str, Any]:
        """As plain values."""
        station = None
        if self.station is not None:
            place = {"latitude": self.station.latitude_deg, "longitude": self.station.longitude_deg}
            station = {"name": self.station.name, **place, "radius_68_m": self.station_then_m}
        place = {"latitude": self.place_deg[0], "longitude": self.place_deg[1]}
        way = {"bearing_deg": self.bearing_deg, "distance_m": self.distance_m, "radius_68_m": self.then_m}
        return {"radius_68_now_m": self.now_m, "place": place | way, "station": station}


def half_diagonal_m(receiver_m_RX: Float64[ndarray, "R ..."]) -> float:
    """Of the bounding box of receivers: the radius of the circle that holds them."""
    low, high = receiver_m_RX[:, :2].min(axis=0), receiver_m_RX[:, :2].max(axis=0)
    return max(float(np.linalg.norm(high - low)) / 2, 1.0)


def advise(layout: Layout, spare: Sequence[Station]) -> Advice:
    """The best place for a further receiver, and the best of some stations that are not in use.

    Args:
        layout: What there is.
        spare: Stations whose places are known.
    """
    middle_m = (layout.receiver_m_RX[:, :2].min(axis=0) + layout.receiver_m_RX[:, :2].max(axis=0)) / 2
    half_m = half_diagonal_m(layout.receiver_m_RX)
    if layout.place_deg is None:
        steps = np.linspace(-half_m, half_m, PLACES_PER_SIDE)
        place_m_HE = middle_m + np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)
        centre_m = middle_m
    else:
        place_m_HE = geodesy.degrees_to_local(np.array([layout.place_deg]), layout.origin_deg)
        centre_m = place_m_HE[0]
    turn = np.arange(BEARINGS) * (2 * np.pi / BEARINGS)
    outward = np.stack([np.sin(turn), np.cos(turn)], axis=-1)
    away_m = half_m * np.array(DISTANCES)
    ring_m = (away_m[:, None, None] * outward).reshape(-1, 2)
    bound_m = _radius_m(layout, place_m_HE, centre_m + ring_m)
    good = np.flatnonzero(bound_m <= AS_GOOD * bound_m.min())
    best = good[np.argmin(np.linalg.norm(centre_m + ring_m[good] - middle_m, axis=1))]
    latitude, longitude = geodesy.local_to_degrees(centre_m + ring_m[best], layout.origin_deg).tolist()
    spare_deg = np.array([(s.latitude_deg, s.longitude_deg) for s in spare]).reshape(-1, 2)
    spare_m = _radius_m(layout, place_m_HE, geodesy.degrees_to_local(spare_deg, layout.origin_deg))
    chosen = int(np.argmin(spare_m)) if len(spare) else None
    return Advice(
        now_m=float(_radius_m(layout, place_m_HE, None)[0]),
        place_deg=(latitude, longitude),
        bearing_deg=float(best % BEARINGS) * 360.0 / BEARINGS,
        distance_m=float(away_m[best // BEARINGS]),
        then_m=float(bound_m[best]),
        station=None if chosen is None else spare[chosen],
        station_then_m=float("nan") if chosen is None else float(spare_m[chosen]),
    )


def _radius_m(layout: Layout, place_m_HE: np.ndarray, new_m_CE: np.ndarray | None) -> np.ndarray:
    """Bound (C,) of the 68 % radius with each new receiver at east, north (C, 2); one without any where it is None."""
    count, places = 1 if new_m_CE is None else len(new_m_CE), len(place_m_HE)
    receiver_m = np.broadcast_to(layout.receiver_m_RX, (count, *layout.receiver_m_RX.shape))
    if new_m_CE is not None:
        up_m = geodesy.ground_height_m(new_m_CE, layout.origin_deg)
        new_m = np.concatenate([new_m_CE, np.reshape(up_m, (-1, 1))], axis=1)[:, None]
        receiver_m = np.concatenate([receiver_m, new_m], axis=1)
    if count == 0:
        return np.empty(0)
    information = layout.information(np.tile(place_m_HE, (count, 1)), np.repeat(receiver_m, places, axis=0))
    covariance_m2 = np.linalg.inv(information + np.eye(2) / layout.reach_m**2)
    return np.median(geodesy.error_radius_m(covariance_m2, 0.68).reshape(count, places), axis=1)
