"""A part of the Earth on a picture: what is where, and how large."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64
from numpy import ndarray

from heimdall_jax import geodesy
from heimdall_jax.pages.outlines import Rectangle

WIDTH, HEIGHT = 460.0, 400.0
"""Units of a picture: about pixels, on a telephone a little less, beside another on a desk a little more."""
PICTURE = Rectangle(0.0, 0.0, WIDTH, HEIGHT)
ROOM = 56.0
"""Units on each side for names."""
LEAST_M = 500.0
"""That a picture shows from left to right."""
COARSEST_M = 2 * geodesy.FARTHEST_M / (math.hypot(WIDTH, HEIGHT) + 60)
"""Metres per unit: no corner is farther than the map goes back to degrees."""


@dataclass(frozen=True)
class View:
    """An azimuthal equidistant map about its middle, or a web map where tiles lie below.

    Attributes:
        middle_deg: Latitude, longitude in the middle of the picture.
        metres_per_unit: On the map; on a web map they are shorter on the ground.
        web: Whether it is a web map.
    """

    middle_deg: tuple[float, float]
    metres_per_unit: float
    web: bool = False

    def units(self, points_deg: Float64[ndarray, "n 2"]) -> Float64[ndarray, "n 2"]:
        """Units to the right and down (n, 2) of latitude, longitude (n, 2)."""
        east, north = (plane_m(points_deg, self.middle_deg, self.web) / self.metres_per_unit).T
        return np.stack([WIDTH / 2 + east, HEIGHT / 2 - north], axis=-1)

    def places_deg(self, units: Float64[ndarray, "n 2"]) -> Float64[ndarray, "n 2"]:
        """Latitude, longitude (n, 2) of x, y (n, 2)."""
        flat_m = (units - (WIDTH / 2, HEIGHT / 2)) * (self.metres_per_unit, -self.metres_per_unit)
        return place_deg(flat_m, self.middle_deg, self.web)

    def shows(self, points_deg: Float64[ndarray, "n 2"]) -> Bool[ndarray, " n"]:
        """Whether each place (n,) is on the picture."""
        units = self.units(points_deg)
        return np.all((units > 0) & (units < (WIDTH, HEIGHT)), axis=1)

    @property
    def width_m(self) -> float:
        """From left to right through the middle, on the ground."""
        return self.ground_m_per_unit * WIDTH

    @property
    def ground_m_per_unit(self) -> float:
        """In the middle."""
        a_deg, b_deg = self.places_deg(np.array([[WIDTH / 2 - 1, HEIGHT / 2], [WIDTH / 2 + 1, HEIGHT / 2]]))
        return float(geodesy.ground_distance_m(a_deg, b_deg)) / 2

    @property
    def part(self) -> Rectangle:
        """West, south, east, north in degrees of all that is on the picture; all longitudes where a pole is."""
        across = np.stack(np.meshgrid(np.linspace(0, WIDTH, 33), np.linspace(0, HEIGHT, 33)), axis=-1).reshape(-1, 2)
        latitude, longitude = self.places_deg(across).T
        about = self.middle_deg[1]
        turned = about + (longitude - about + 180) % 360 - 180
        spare = 0.02 * float(np.ptp(latitude)) + 1e-6
        west, south, east, north = turned.min(), latitude.min(), turned.max(), latitude.max()
        if not self.web:
            poles = self.shows(np.array([[-90.0, 0.0], [90.0, 0.0]]))
            south, north = (-90.0 if poles[0] else south), (90.0 if poles[1] else north)
            west, east = (about - 180, about + 180) if poles.any() else (west, east)
        edges = Rectangle(float(west), float(south), float(east), float(north)).grown(spare)
        return edges._replace(y_low=max(edges.y_low, -90.0), y_high=min(edges.y_high, 90.0))


def plane_m(points_deg: ndarray, middle_deg: tuple[float, float], web: bool) -> ndarray:
    """East, north (n, 2) in metres of the middle on the map."""
    if not web:
        return geodesy.degrees_to_azimuthal(points_deg, middle_deg)
    latitude, longitude = np.clip(points_deg[:, 0], -85.0, 85.0), points_deg[:, 1]
    turned = middle_deg[1] + (longitude - middle_deg[1] + 180) % 360 - 180
    there_m = geodesy.degrees_to_web_mercator(np.stack([latitude, turned], axis=-1))
    return there_m - geodesy.degrees_to_web_mercator(np.asarray(middle_deg))


def place_deg(flat_m: ndarray, middle_deg: tuple[float, float], web: bool) -> ndarray:
    """Latitude, longitude (n, 2) of east, north (n, 2) in metres of the middle on the map."""
    if not web:
        return geodesy.azimuthal_to_degrees(flat_m, middle_deg)
    return geodesy.web_mercator_to_degrees(flat_m + geodesy.degrees_to_web_mercator(np.asarray(middle_deg)))


def view_of(points_deg: Float64[ndarray, "n 2"], *, web: bool = False) -> View:
    """The largest scale at which all places (n, 2), or as many as a map can hold, are well inside the picture."""
    middle_deg = (float(points_deg[0, 0]), float(points_deg[0, 1]))
    low, high = np.zeros(2), np.zeros(2)
    for _ in range(4):  # the box of places changes a little with the middle it is taken about
        flat_m = plane_m(points_deg, middle_deg, web)
        reach_m = np.linalg.norm(flat_m, axis=-1, keepdims=True)
        flat_m = flat_m * np.minimum(1.0, geodesy.FARTHEST_M / np.maximum(reach_m, 1.0))
        low, high = flat_m.min(axis=0), flat_m.max(axis=0)
        latitude, longitude = place_deg((low + high)[None] / 2, middle_deg, web)[0].tolist()
        middle_deg = (latitude, longitude)
    across = float(np.max((high - low) / (WIDTH - 2 * ROOM, HEIGHT - 2 * ROOM)))
    return View(middle_deg, min(max(across, LEAST_M / WIDTH), COARSEST_M), web)
