"""Curves on the ground that one measurement alone leaves to a transmitter: hyperbolas of time, rings of range.

They are exact on `geodesy.ground_distance_m`: a first guess in the plane about the middle is moved by Newton's method.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from heimdall_jax import geodesy
from heimdall_jax.errors import DataError, explain

STEPS, STEP_DEG, NEAR_M = 8, 1e-4, 1.0


def hyperbola_deg(
    place_a_deg: tuple[float, float],
    place_b_deg: tuple[float, float],
    difference_m: float,
    *,
    reach_m: float | None = None,
    points: int = 241,
) -> Float64[ndarray, "n 2"]:
    """Latitude, longitude (n, 2) of places whose ground distance to a less that to b is `difference_m`.

    Args:
        place_a_deg: Latitude, longitude in degrees.
        place_b_deg: Likewise.
        difference_m: Negative where a is nearer.
        reach_m: The curve ends this far from the middle of a and b, at most 9,000 km; by default 2,000 km, or twice
            their distance where that is more. It is empty where all of it is farther.
        points: At most so many; they are denser about the middle, where the curve bends.

    Raises:
        DataError: No place has such a difference: it is not smaller than the distance of a and b.
    """
    a_deg, b_deg = np.asarray(place_a_deg, np.float64), np.asarray(place_b_deg, np.float64)
    apart_m = float(geodesy.ground_distance_m(a_deg, b_deg))
    if not abs(difference_m) < apart_m:
        cure = "Leave the pair out: its difference is no path's, or the clocks are off."
        allowed = f"less than {apart_m:.0f} m, the distance of the two"
        raise DataError(explain("difference of distances", got=f"{difference_m:.0f} m", allowed=allowed, cure=cure))
    middle_deg = _middle_deg(place_a_deg, place_b_deg)
    reach_m = min(max(2_000_000.0, 2 * apart_m) if reach_m is None else reach_m, geodesy.FARTHEST_M)
    vertex_m, focus_m = difference_m / 2, apart_m / 2
    if reach_m <= abs(vertex_m):
        return np.empty((0, 2))
    side_m = math.sqrt(focus_m**2 - vertex_m**2)
    end = math.asinh(math.sqrt(reach_m**2 - vertex_m**2) / focus_m)
    along = np.linspace(-end, end, points)
    # x runs from a to b: a positive difference is nearer to b.
    plane_m = np.stack([vertex_m * np.cosh(along), side_m * np.sinh(along)], axis=-1)
    towards = geodesy.degrees_to_azimuthal(b_deg, middle_deg) - geodesy.degrees_to_azimuthal(a_deg, middle_deg)
    towards /= np.linalg.norm(towards)
    turned_m = plane_m @ np.stack([towards, [-towards[1], towards[0]]])
    place_deg = geodesy.azimuthal_to_degrees(turned_m, middle_deg)
    for _ in range(STEPS):
        off_m, slope = _off(place_deg, a_deg, b_deg, difference_m)
        place_deg = place_deg - (off_m / (slope**2).sum(axis=-1))[:, None] * slope
    off_m, _ = _off(place_deg, a_deg, b_deg, difference_m)
    return place_deg[np.abs(off_m) < NEAR_M]


def ring_deg(place_deg: tuple[float, float], radius_m: float, *, points: int = 181) -> Float64[ndarray, "n 2"]:
    """Latitude, longitude (points, 2) of places at a ground distance of `radius_m`; the last is the first.

    Raises:
        DataError: The radius is not positive, or above 9,000 km.
    """
    if not 0 < radius_m <= geodesy.FARTHEST_M:
        allowed = f"above 0, at most {geodesy.FARTHEST_M:.0f} m"
        cure = "Leave the ring out."
        raise DataError(explain("radius of a ring", got=f"{radius_m:.0f} m", allowed=allowed, cure=cure))
    angle = np.linspace(0, 2 * math.pi, points)
    outward = np.stack([np.sin(angle), np.cos(angle)], axis=-1)
    return geodesy.azimuthal_to_degrees(radius_m * outward, place_deg)


def _off(
    place_deg: np.ndarray, a_deg: np.ndarray, b_deg: np.ndarray, difference_m: float
) -> tuple[np.ndarray, np.ndarray]:
    """Metres (n,) by which places miss the difference, and their slope (n, 2) in metres per degree."""

    def difference(there_deg: np.ndarray) -> np.ndarray:
        return geodesy.ground_distance_m(there_deg, a_deg) - geodesy.ground_distance_m(there_deg, b_deg)

    steps_deg = STEP_DEG * np.eye(2)
    slope = [difference(place_deg + step) - difference(place_deg - step) for step in steps_deg]
    return difference(place_deg) - difference_m, np.stack(slope, axis=-1) / (2 * STEP_DEG)


def _middle_deg(a_deg: tuple[float, float], b_deg: tuple[float, float]) -> tuple[float, float]:
    """Latitude, longitude half-way between two places; along the ground."""
    half_m = geodesy.degrees_to_azimuthal(np.asarray(b_deg), a_deg) / 2
    half_m *= min(1.0, geodesy.FARTHEST_M / float(np.linalg.norm(half_m)))  # as far as the map goes back
    latitude, longitude = geodesy.azimuthal_to_degrees(half_m, a_deg).tolist()
    return latitude, longitude
