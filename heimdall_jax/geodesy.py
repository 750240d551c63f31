"""Degrees to local metres and back (WGS84), distances, and the speed of light.

Local coordinates are east, north in the plane tangent to the ellipsoid at the origin; a ground point and
its local coordinates determine each other exactly. Formulas: Hofmann-Wellenhof, Lichtenegger, Wasle,
"GNSS", Springer 2008, section 8.2.
"""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from heimdall_jax.errors import DataError, explain

SPEED_OF_LIGHT_M_PER_S = 299_792_458.0
SEMI_MAJOR_M = 6_378_137.0
FLATTENING = 1 / 298.257223563
ECCENTRICITY_SQUARED = FLATTENING * (2 - FLATTENING)
MEAN_RADIUS_M = SEMI_MAJOR_M * (1 - FLATTENING / 3)
FARTHEST_M = 9_000_000.0
"""That `azimuthal_to_degrees` goes: a tangent plane sees no more than a quarter of the way around, 10,000 km."""
WEB_MERCATOR_EDGE_M = math.pi * SEMI_MAJOR_M
"""East and north of the middle of a web map, whose tiles cut the square in two at every zoom."""
DIRECTIONS, HALVINGS = 64, 44
"""Of a quarter turn, over which a circle's probability is averaged: smooth, so exact to 1e-4 even for a needle."""


class Ellipse(NamedTuple):
    """Half-axes in metres, and the longer one's direction in degrees clockwise from north, 0 to below 180."""

    semi_major_m: float
    semi_minor_m: float
    azimuth_deg: float


def degrees_to_ecef(position_deg: Any, altitude_m: Any = 0.0, xp: ModuleType = np) -> Any:
    """Earth-centred x, y, z (..., 3) in metres of latitude, longitude (..., 2) in degrees."""
    lat, lon = xp.deg2rad(position_deg[..., 0]), xp.deg2rad(position_deg[..., 1])
    radius = SEMI_MAJOR_M / xp.sqrt(1 - ECCENTRICITY_SQUARED * xp.sin(lat) ** 2)
    horizontal = (radius + altitude_m) * xp.cos(lat)
    vertical = (radius * (1 - ECCENTRICITY_SQUARED) + altitude_m) * xp.sin(lat)
    return xp.stack([horizontal * xp.cos(lon), horizontal * xp.sin(lon), vertical], axis=-1)


def local_axes(origin_deg: tuple[float, float]) -> np.ndarray:
    """Unit vectors east, north, up (3, 3), rows, at latitude, longitude in degrees."""
    lat, lon = np.deg2rad(origin_deg[0]), np.deg2rad(origin_deg[1])
    return np.array(
        [
            [-np.sin(lon), np.cos(lon), 0.0],
            [-np.sin(lat) * np.cos(lon), -np.sin(lat) * np.sin(lon), np.cos(lat)],
            [np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)],
        ]
    )


def degrees_to_enu(position_deg: Any, altitude_m: Any, origin_deg: tuple[float, float], xp: ModuleType = np) -> Any:
    """East, north, up (..., 3) in metres of latitude, longitude (..., 2) in degrees at an altitude in metres."""
    there = degrees_to_ecef(xp.asarray(position_deg, xp.float64), xp.asarray(altitude_m), xp)
    origin_ecef = degrees_to_ecef(np.asarray(origin_deg, np.float64))
    return (there - origin_ecef[(None,) * (there.ndim - 1)]) @ local_axes(origin_deg).T


def degrees_to_local(position_deg: Any, origin_deg: tuple[float, float]) -> np.ndarray:
    """East, north (..., 2) in metres of a ground point's latitude, longitude (..., 2) in degrees."""
    return degrees_to_enu(position_deg, 0.0, origin_deg)[..., :2]


def offset_to_local(offset_deg: Any, origin_deg: tuple[float, float], xp: ModuleType = np) -> Any:
    """East, north (..., 2) in metres of a ground point's latitude, longitude less the origin's (..., 2) in degrees.

    Good to float32, which degrees themselves are not; the meridian's arc is taken at its middle, which errs by less
    than 1 m over 500 km.
    """
    latitude = float(np.deg2rad(origin_deg[0]))
    north, east = xp.deg2rad(offset_deg[..., 0]), xp.deg2rad(offset_deg[..., 1])
    flat = 1 - ECCENTRICITY_SQUARED * xp.sin(latitude + north / 2) ** 2
    meridian_m = SEMI_MAJOR_M * (1 - ECCENTRICITY_SQUARED) / flat**1.5 * xp.sin(north)
    flat = 1 - ECCENTRICITY_SQUARED * xp.sin(latitude + north) ** 2
    parallel_m = SEMI_MAJOR_M / xp.sqrt(flat) * xp.cos(latitude + north)
    bulge_m = 2 * parallel_m * float(np.sin(latitude)) * xp.sin(east / 2) ** 2
    return xp.stack([parallel_m * xp.sin(east), meridian_m + bulge_m], axis=-1)


def local_to_degrees(position_m: Any, origin_deg: tuple[float, float], xp: ModuleType = np) -> Any:
    """Latitude, longitude (..., 2) in degrees of the ground point at east, north (..., 2) in metres.

    Solves for the height above the tangent plane at which the point lies on the ellipsoid, so it inverts
    `degrees_to_local` exactly. Use float64: a float32 step at 45 degrees is 0.42 m.
    """
    # Turned about the Earth's axis until the origin lies on the first meridian; no angle is then near a half turn.
    there = (origin_deg[0], 0.0)
    same_rank = (None,) * (position_m.ndim - 1)  # jax.numpy may be told not to add axes by itself
    # Shrunk so that the ellipsoid is the unit sphere: what is across the way up leaves the rest of the length to it.
    shrink = 1 / (SEMI_MAJOR_M * np.array([1.0, 1.0, 1 - FLATTENING]))
    up = local_axes(there)[2] * shrink
    up /= np.linalg.norm(up)
    level = shrink[:, None] * (np.eye(3) - np.outer(up, up))
    # Products and whole columns, and both angles at once: half the operators of an exported model.
    origin_ecef = degrees_to_ecef(np.asarray(there, np.float64))
    across = (origin_ecef @ level)[same_rank] + position_m @ (local_axes(there)[:2] @ level)
    ground = across + xp.sqrt(1 - (across * across) @ np.ones((3, 1))) * up[same_rank]
    horizontal = xp.sqrt((ground * ground) @ ((1 - FLATTENING) ** 2 * np.array([[1.0], [1.0], [0.0]])))
    x, y, z = (ground[..., axis : axis + 1] for axis in range(3))
    opposite, adjacent = xp.concatenate([z, y], axis=-1), xp.concatenate([horizontal, x], axis=-1)
    turns = xp.arctan2(opposite, adjacent) * (0.5 / math.pi) + np.array([0.0, origin_deg[1] / 360])[same_rank]
    return 360 * (turns - xp.round(turns))


def ground_height_m(
    position_m: Any, origin_deg: tuple[float, float], xp: ModuleType = np, *, axis: int = -1, keepdims: bool = False
) -> Any:
    """Height (...) in metres over the tangent plane of the ground point at east, north (..., 2): about -d^2/2R.

    The quadratic of `local_to_degrees`, written about the origin so that float32 keeps millimetres. `axis` and
    `keepdims` are those of a sum over east and north.
    """
    _, north, up = local_axes(origin_deg)  # east is across the Earth's axis, and none of what follows mixes with it
    squash = np.array([1.0, 1.0, 1 / (1 - ECCENTRICITY_SQUARED)])
    slope = float(up @ (squash * degrees_to_ecef(np.asarray(origin_deg, np.float64))))
    along = [1] * position_m.ndim
    along[axis] = 2
    tilt = xp.asarray(np.array([0.0, up @ (squash * north)]).reshape(along), position_m.dtype)
    shape = xp.asarray(np.sqrt([1.0, north @ (squash * north)]).reshape(along), position_m.dtype)
    half_b = -slope - xp.sum(tilt * position_m, axis=axis, keepdims=keepdims)
    c = xp.sum((shape * position_m) ** 2, axis=axis, keepdims=keepdims)
    return c / (half_b - xp.sqrt(half_b * half_b - float(up @ (squash * up)) * c))


def ground_distance_m(a_deg: Any, b_deg: Any) -> np.ndarray:
    """Distance (...) in metres along the ground between latitude, longitude pairs (..., 2) in degrees.

    The arc over the chord through the ellipsoid with the mean Earth radius: within 1e-6 of the geodesic at 100 km.
    """
    chord = np.linalg.norm(
        degrees_to_ecef(np.asarray(a_deg, np.float64)) - degrees_to_ecef(np.asarray(b_deg, np.float64)), axis=-1
    )
    return np.asarray(2 * MEAN_RADIUS_M * np.arcsin(np.minimum(chord / (2 * MEAN_RADIUS_M), 1.0)))


def degrees_to_azimuthal(position_deg: Any, origin_deg: tuple[float, float]) -> np.ndarray:
    """East, north (..., 2) in metres on a map about the origin that keeps distance and direction from it.

    The azimuthal equidistant projection (Snyder, "Map Projections: A Working Manual", USGS 1987, page 191), with
    `ground_distance_m` and the direction in the tangent plane.
    """
    flat_m = degrees_to_local(position_deg, origin_deg)
    away_m = ground_distance_m(position_deg, np.asarray(origin_deg))
    length_m = np.linalg.norm(flat_m, axis=-1)
    return flat_m * np.divide(away_m, length_m, out=np.ones_like(length_m), where=length_m > 0)[..., None]


def azimuthal_to_degrees(position_m: Any, origin_deg: tuple[float, float]) -> np.ndarray:
    """Latitude, longitude (..., 2) of east, north (..., 2) on the map of `degrees_to_azimuthal`, up to `FARTHEST_M`."""
    position_m = np.asarray(position_m, np.float64)
    wanted_m = np.linalg.norm(position_m, axis=-1)
    away_m = wanted_m.copy()
    for _ in range(8):  # of the sphere's shadow, whose error is 0.5 %: each time 200 times closer
        shrink = np.sinc(away_m / (math.pi * MEAN_RADIUS_M)) * away_m / np.where(wanted_m > 0, wanted_m, 1.0)
        place_deg = local_to_degrees(position_m * shrink[..., None], origin_deg)
        away_m = away_m + wanted_m - ground_distance_m(place_deg, np.asarray(origin_deg))
    return place_deg


def degrees_to_web_mercator(position_deg: Any) -> np.ndarray:
    """East, north (..., 2) in metres on a web map (EPSG:3857) of latitude, longitude (..., 2), below 90 degrees.

    The sphere of WGS84's half-axis takes geodetic latitudes (IOGP guidance note 7-2, section 3.2.1.2).
    """
    latitude, longitude = np.moveaxis(np.deg2rad(np.asarray(position_deg, np.float64)), -1, 0)
    return SEMI_MAJOR_M * np.stack([longitude, np.arcsinh(np.tan(latitude))], axis=-1)


def web_mercator_to_degrees(position_m: Any) -> np.ndarray:
    """Latitude, longitude (..., 2) in degrees of east, north (..., 2) in metres on a web map."""
    east, north = np.moveaxis(np.asarray(position_m, np.float64) / SEMI_MAJOR_M, -1, 0)
    return np.rad2deg(np.stack([np.arctan(np.sinh(north)), east], axis=-1))


def error_ellipse(covariance_m2: Any, probability: float) -> Ellipse:
    """The region of constant density that holds `probability` of N(., C), C (2, 2) in east, north order.

    Its half-axes are the square roots of C's eigenvalues times sqrt(-2 ln(1 - probability)).

    Raises:
        DataError: C is no covariance, or the probability not between 0 and 1.
    """
    variances, directions = _spread(covariance_m2, probability)
    minor_m, major_m = np.sqrt(variances * -2 * math.log1p(-probability))
    east, north = directions[:, 1]
    # The second remainder: of -1e-17 the first is 180.
    return Ellipse(float(major_m), float(minor_m), float(np.rad2deg(np.arctan2(east, north)) % 180 % 180))


def error_radius_m(covariance_m2: Any, probability: float) -> np.ndarray:
    """Radius (...) in metres of the circle about the mean that holds `probability` of N(., C), C (..., 2, 2).

    In the direction a of a standard normal draw its length in metres is g(a) times a Rayleigh one, so that
    P(r) = mean over a of 1 - exp(-r^2 / 2 g(a)^2), g(a)^2 = s1^2 cos^2 a + s2^2 sin^2 a; the radius is bisected.

    Raises:
        DataError: As `error_ellipse`.
    """
    variances, _ = _spread(covariance_m2, probability)
    angle = (np.arange(DIRECTIONS) + 0.5) * (math.pi / 2 / DIRECTIONS)
    spread = variances @ np.stack([np.cos(angle) ** 2, np.sin(angle) ** 2])
    low, high = np.zeros(variances.shape[:-1]), -2 * math.log1p(-probability) * variances[..., 1]
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        beyond = -np.expm1(-0.5 * middle[..., None] / spread).mean(axis=-1) > probability
        low, high = np.where(beyond, low, middle), np.where(beyond, middle, high)
    return np.asarray(np.sqrt(high))


def covariance_at(covariance_m2: Any, position_m: Any, origin_deg: tuple[float, float]) -> np.ndarray:
    """C (2, 2) of a ground point, from the origin's axes to east, north at the point itself at `position_m` (2,).

    Meridians converge: 250 km east of the origin north has turned by 2.6 degrees at latitude 49.
    """
    place_deg = local_to_degrees(np.asarray(position_m, np.float64), origin_deg)
    step_m = 10.0
    there = (float(place_deg[0]), float(place_deg[1]))
    moved = local_to_degrees(position_m + step_m * np.concatenate([np.eye(2), -np.eye(2)]), origin_deg)
    local = degrees_to_local(moved, there)
    turn = ((local[:2] - local[2:]) / (2 * step_m)).T
    return turn @ np.asarray(covariance_m2, np.float64) @ turn.T


def _spread(covariance_m2: Any, probability: float) -> tuple[np.ndarray, np.ndarray]:
    """Variances (..., E) along the axes, ascending, and the axes as columns (..., E, E)."""
    matrix = np.asarray(covariance_m2, np.float64)
    good = matrix.shape[-2:] == (2, 2) and bool(np.isfinite(matrix).all())
    good = good and np.allclose(matrix, np.swapaxes(matrix, -1, -2))
    variances, directions = np.linalg.eigh(matrix) if good else (np.zeros(2), np.eye(2))
    if not ((variances > 0).all() and 0 < probability < 1):
        got = f"{matrix.tolist() if matrix.ndim < 3 else f'some of {len(matrix)}'} at probability {probability}"
        allowed = "symmetric, positive definite (2, 2) matrices, and between 0 and 1"
        raise DataError(explain("covariance", got=got, allowed=allowed, cure="Check where it comes from."))
    return variances, directions


def bounding_box_m(position_m: np.ndarray) -> tuple[float, float, float, float]:
    """West, south, east and north edge of places (N, E) in metres."""
    west, south = map(float, position_m.min(axis=0))
    east, north = map(float, position_m.max(axis=0))
    return west, south, east, north
