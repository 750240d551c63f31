"""How far a place on the ground is from every receiver, and how that changes as the place moves. float64."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from heimdall_jax.geodesy import FLATTENING, SEMI_MAJOR_M, ground_height_m

Path = Literal["space", "ground"]
"""`space`: the straight line to the antenna (VHF and up). `ground`: along the surface (LF and MF waves)."""
MEAN_RADIUS_M = SEMI_MAJOR_M * (1 - FLATTENING / 3)


def distance_m(position_m: Any, receiver_m: Any, origin_deg: tuple[float, float], path: Path = "space") -> np.ndarray:
    """Distances (..., R) in metres from ground points at east, north (..., 2) to receivers (..., R, 3).

    Exact at any range, for a ground point and its local coordinates determine each other; along the ground it is the
    arc over the chord, within 1e-5 of the geodesic to 1000 km.

    Args:
        position_m: East, north (..., 2).
        receiver_m: East, north, up (..., R, 3) in the same frame; for `ground`, of the points below the antennas.
        origin_deg: Latitude, longitude of the frame's origin.
        path: Which way the wave takes.
    """
    return _distance_m(np.linalg.norm(_away_m(position_m, receiver_m, origin_deg), axis=-1), path)


def distance_and_slope(
    position_m: Any, receiver_m: Any, origin_deg: tuple[float, float], path: Path = "space"
) -> tuple[np.ndarray, np.ndarray]:
    """The distances (..., R), and their derivatives (..., R, 2) by east and north, the ground's own slope included."""
    away_m = _away_m(position_m, receiver_m, origin_deg)
    chord_m = np.linalg.norm(away_m, axis=-1)
    unit = away_m / np.maximum(chord_m, 1e-9)[..., None]
    slope = unit[..., :2] + unit[..., 2:] * _ground_slope(position_m, origin_deg)[..., None, :]
    if path == "ground":
        slope /= np.sqrt(1 - (chord_m / (2 * MEAN_RADIUS_M)) ** 2)[..., None]
    return _distance_m(chord_m, path), slope


def _distance_m(chord_m: np.ndarray, path: Path) -> np.ndarray:
    if path == "space":
        return chord_m
    return 2 * MEAN_RADIUS_M * np.arcsin(chord_m / (2 * MEAN_RADIUS_M))


def _away_m(position_m: Any, receiver_m: Any, origin_deg: tuple[float, float]) -> np.ndarray:
    """From receivers to ground points (..., R, 3)."""
    position_m = np.asarray(position_m, np.float64)
    up_m = ground_height_m(position_m, origin_deg)
    return np.concatenate([position_m, up_m[..., None]], axis=-1)[..., None, :] - np.asarray(receiver_m, np.float64)


def _ground_slope(position_m: Any, origin_deg: tuple[float, float]) -> np.ndarray:
    """Rise of the ground (..., 2) by metre east and north: central differences, which a smooth ellipsoid forgives."""
    position_m = np.asarray(position_m, np.float64)
    step_m = 10.0
    rises = [
        ground_height_m(position_m + step, origin_deg) - ground_height_m(position_m - step, origin_deg)
        for step in step_m * np.eye(2)
    ]
    return np.stack(rises, axis=-1) / (2 * step_m)
