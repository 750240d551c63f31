"""Outlines cut to a rectangle, thinned, and written as the path of an SVG."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

THINNED = 0.25
"""Units by which a thinned outline may be off; a unit is about a pixel."""
SPARE = 4.0
"""Units beyond the edge that are kept, so that the edge shows no stroke of a cut."""


class Rectangle(NamedTuple):
    """Edges along x and y: west, south, east, north in degrees; or left, top, right, bottom in units of a picture."""

    x_low: float
    y_low: float
    x_high: float
    y_high: float

    def grown(self, by: float) -> Rectangle:
        """The same with more on all sides."""
        return Rectangle(self.x_low - by, self.y_low - by, self.x_high + by, self.y_high + by)

    def meets(self, other: Rectangle) -> bool:
        """Whether they have a point in common."""
        apart_x = self.x_high < other.x_low or other.x_high < self.x_low
        return not (apart_x or self.y_high < other.y_low or other.y_high < self.y_low)

    def within(self, other: Rectangle) -> bool:
        """Whether all of it is inside the other."""
        inside_x = other.x_low <= self.x_low and self.x_high <= other.x_high
        return inside_x and other.y_low <= self.y_low and self.y_high <= other.y_high


def cut_area(points: Float64[ndarray, "n 2"], to: Rectangle) -> list[Float64[ndarray, "_ 2"]]:
    """What is inside of a closed outline (n, 2): closed outlines, which may run along the rectangle's edge."""
    from matplotlib.path import Path
    from matplotlib.transforms import Bbox

    return [np.asarray(ring) for ring in Path(points).clip_to_bbox(Bbox.from_extents(*to)).to_polygons()]


def cut_line(points: Float64[ndarray, "n 2"], to: Rectangle, thinned: float = 0.0) -> list[Float64[ndarray, "_ 2"]]:
    """The pieces of a line (n, 2) that are inside, of which points may be left out that are off by less than `thinned`.

    Matplotlib's own clipping, which leaves 1 on each side, and its simplification (`path.simplify_threshold`).
    """
    from matplotlib.path import Path

    path = Path(points)
    path.simplify_threshold = thinned
    kept = path.cleaned(clip=(to.x_low, to.y_low, to.x_high, to.y_high), simplify=thinned > 0)
    codes = np.asarray(kept.codes)
    ends = np.flatnonzero((codes == Path.MOVETO) | (codes == Path.STOP))
    pieces = np.split(np.asarray(kept.vertices, np.float64), ends[1:])
    return [piece for piece in pieces if len(piece) > 1]


def filled_in(points: Float64[ndarray, "n 2"], step: float) -> Float64[ndarray, "m 2"]:
    """A line with points between its own, so that none is farther than `step` from the next."""
    along = np.r_[0.0, np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=-1))]
    more = [np.linspace(a, b, int(np.ceil((b - a) / step)), endpoint=False) for a, b in pairwise(along) if b > a]
    at = np.concatenate([*more, along[-1:]])
    return np.stack([np.interp(at, along, points[:, axis]) for axis in (0, 1)], axis=-1)


def path_data(lines: Iterable[Float64[ndarray, "_ 2"]], *, closed: bool) -> str:
    """The `d` of an SVG path: to a tenth of a unit, relative to the point before, which is the shortest."""
    parts = []
    for line in lines:
        tenths = np.round(np.asarray(line) * 10).astype(np.int64)
        steps = np.diff(tenths, axis=0)
        steps = steps[(steps != 0).any(axis=1)]
        if len(steps) < (2 if closed else 1):
            continue
        text = " ".join(f"{_tenth(x)},{_tenth(y)}" for x, y in steps.tolist())
        start = ",".join(map(_tenth, tenths[0].tolist()))
        parts.append(f"M{start}l{text}{'z' if closed else ''}")
    return "".join(parts)


def _tenth(tenths: int) -> str:
    return f"{tenths / 10:g}" if abs(tenths) < 1_000_000 else f"{tenths / 10:.1f}"
