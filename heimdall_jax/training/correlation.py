"""How alike the shadowing of one receiver is at two places of the transmitter.

    c(x, x') = (1 - k) exp(-|x - x'| / delta) + k exp(-|b - b'| / B - |l - l'|)

The first part is Gudmundson's (1991): what stands about the transmitter. The second is that of the sector: what stands
in the way of a receiver does so for all places of one bearing b and range, l its natural logarithm, as correlations of
shadowing over angle are modelled (Graziano 1978). On POWDER it predicts readings of ground no one walked better for
two receivers in three.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Float64
from numpy import ndarray

SECTOR_RAD = 0.3
"""B."""
NEAREST_M = 20.0
"""Added to ranges: bearings and ratios of ranges beside the receiver mean nothing."""


class Kernels(NamedTuple):
    """What is assumed of C fields: spreads, correlation distances delta, shares k of the sector, noise of readings."""

    shadowing_db_C: Float64[ndarray, " C"]
    correlation_m_C: Float64[ndarray, " C"]
    sector_share_C: Float64[ndarray, " C"]
    noise_db_C: Float64[ndarray, " C"]


def by_distance(
    places_m: Float[Any, "n 2"], others_m: Float[Any, "m 2"], correlation_m: float
) -> Float32[ndarray, "n m"]:
    """The first part, before its share."""
    apart_m = np.hypot(*(places_m[:, None].astype(np.float32) - others_m.astype(np.float32)).transpose(2, 0, 1))
    return np.exp(-apart_m / np.float32(correlation_m))


def by_sector(
    places_m: Float[Any, "n 2"], others_m: Float[Any, "m 2"], receiver_m: Float[Any, " 2"]
) -> Float32[ndarray, "n m"]:
    """The second part, before its share, for a receiver at (E,)."""
    (bearing, reach), (other_bearing, other_reach) = (_polar(side, receiver_m) for side in (places_m, others_m))
    turn = np.abs(bearing[:, None] - other_bearing)
    turn = np.minimum(turn, np.float32(2 * np.pi) - turn)
    return np.exp(-turn / np.float32(SECTOR_RAD) - np.abs(reach[:, None] - other_reach))


def correlation(
    places_m: Float[Any, "n 2"],
    others_m: Float[Any, "m 2"],
    receiver_m: Float[Any, " 2"],
    correlation_m: float,
    sector_share: float,
) -> Float32[ndarray, "n m"]:
    """Of every place with every other, for a receiver at (E,)."""
    near = by_distance(places_m, others_m, correlation_m)
    if sector_share == 0:
        return near
    share = np.float32(sector_share)
    return (1 - share) * near + share * by_sector(places_m, others_m, receiver_m)


def _polar(places_m: np.ndarray, receiver_m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bearing in radians and logarithm of the range of places (n, E) from a receiver."""
    east_m, north_m = (places_m - receiver_m).T
    bearing = np.arctan2(east_m, north_m)
    return bearing.astype(np.float32), np.log(np.hypot(east_m, north_m) + NEAREST_M).astype(np.float32)
