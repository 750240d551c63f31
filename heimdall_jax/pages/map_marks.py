"""What a fix puts on its map: density, curves, ellipses, receivers and the place."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from heimdall_jax import geodesy
from heimdall_jax.errors import DataError, explain
from heimdall_jax.pages.map_labels import Label, Labels
from heimdall_jax.pages.map_picture import FixPicture, Heat, MapCurve
from heimdall_jax.pages.map_view import PICTURE, View
from heimdall_jax.pages.outlines import SPARE, THINNED, cut_area, cut_line, filled_in, path_data

REGIONS = (0.95, 0.68)
BANDS = (0.95, 0.8, 0.5, 0.25)
"""Of all probability, that the bands of a density hold, from the widest to the innermost."""
MOST_NAMED = 8
"""Curves: names of more would hide the map."""


class Mark(NamedTuple):
    """A point with its name, which may have found no room."""

    x: float
    y: float
    used: bool
    name: str
    label: Label | None


class Drawn(NamedTuple):
    """A path with what it is, and its name on the map."""

    kind: str
    name: str
    path: str
    label: Label | None = None


class Marks(NamedTuple):
    """What is drawn in one view, from below to above."""

    bands: list[Drawn]
    curves: list[Drawn]
    regions: list[Drawn]
    frame: str
    receivers: list[Mark]
    place: Mark | None
    wish: Mark | None


def place_of(fix: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The part of a fix with its place: itself, its best guess where it is not located, or None."""
    whole = fix if fix["located"] else fix.get("best_guess")
    return whole if whole is not None and whole.get("latitude") is not None else None


def wish_of(fix: Mapping[str, Any]) -> tuple[float, float] | None:
    """Latitude, longitude where one more receiver would help most; None where the fix does not tell."""
    there = (fix.get("helps") or {}).get("place")
    return None if there is None else (there["latitude"], there["longitude"])


def outline_deg(place: Mapping[str, Any], probability: float) -> np.ndarray | None:
    """Latitude, longitude (n, 2) of the ellipse that holds `probability`; None where there is no covariance.

    As far from the place as its half-axes say, but no farther than the map goes.
    """
    if place.get("covariance_m2") is None:
        return None
    root = np.linalg.cholesky(np.asarray(place["covariance_m2"], np.float64))
    angle = np.linspace(0, 2 * math.pi, 181)
    around_m = math.sqrt(-2 * math.log1p(-probability)) * np.stack([np.cos(angle), np.sin(angle)], axis=-1) @ root.T
    length_m = np.linalg.norm(around_m, axis=-1, keepdims=True)
    around_m *= np.minimum(1.0, geodesy.FARTHEST_M / np.maximum(length_m, 1e-9))
    return geodesy.azimuthal_to_degrees(around_m, (place["latitude"], place["longitude"]))


def bands_deg(heat: Heat, shares: Sequence[float] = BANDS) -> list[list[np.ndarray]]:
    """For each share the outlines, latitude and longitude (n, 2), of the smallest area that holds it.

    Raises:
        DataError: The density is negative, not finite or nowhere positive, or the grid does not fit it.
    """
    from contourpy import FillType, contour_generator

    density = heat.density_YX
    sides = (len(heat.latitude_deg_Y), len(heat.longitude_deg_X))
    if density.shape != sides or min(sides) < 2 or not (density >= 0).all() or not 0 < density.max() < math.inf:
        allowed = f"{sides} of at least 2 each, finite, nowhere negative, and somewhere positive"
        cure = "Leave the heat map out, or check where it comes from."
        raise DataError(explain("density of a heat map", got=f"{density.shape}", allowed=allowed, cure=cure))
    at_deg = np.stack([heat.latitude_deg_Y, np.zeros(sides[0])], axis=-1)
    parallel = np.linalg.norm(geodesy.degrees_to_ecef(at_deg)[..., :2], axis=-1)  # a cell is as wide as its parallel
    order = np.argsort(density, axis=None)[::-1]
    held = np.cumsum((density * parallel[:, None]).ravel()[order])
    found, top = [], float(density.max())
    contours = contour_generator(
        heat.longitude_deg_X, heat.latitude_deg_Y, density / top, fill_type=FillType.OuterOffset
    )
    for share in shares:
        least = density.ravel()[order[min(int(np.searchsorted(held, share * held[-1])), len(order) - 1)]] / top
        rings: list[np.ndarray] = []
        outers: Any = contours.filled(float(least), 2.0)
        for points, offsets in zip(*outers, strict=True):  # an outline and its holes, one after the other
            rings += np.split(points[:, ::-1], offsets[1:-1].astype(np.int64))
        found.append(rings)
    return found


def marks_of(
    picture: FixPicture, bands: list[list[np.ndarray]], view: View, labels: Labels, closer: View | None
) -> Marks:
    """All that a fix puts into a view; `closer` is the view that is drawn beside it, for its frame."""
    place, known = place_of(picture.fix), picture.fix["located"]
    lines = [cut_line(view.units(curve.points_deg), PICTURE, THINNED) for curve in picture.curves]
    labels.avoid(spot[:2] for pieces in lines for piece in pieces for spot in _ends_first(piece, 5.0))
    placed = _points(view, [(r.latitude_deg, r.longitude_deg) for r in picture.receivers])
    middle = None if place is None else _points(view, [(place["latitude"], place["longitude"])])[0]
    wished = wish_of(picture.fix)
    wish = None if wished is None else _points(view, [wished])[0]
    for spot in (*placed, middle, wish):
        if spot is not None:
            labels.keep_free_about(*spot)

    def mark(spot: tuple[float, float] | None, name: str, used: bool = True) -> Mark | None:
        return None if spot is None else Mark(*spot, used=used, name=name, label=labels.name(name, *spot))

    fix = mark(middle, "fix" if known else "best guess", known)
    order = sorted(zip(picture.receivers, placed, strict=True), key=lambda pair: not pair[0].used)
    marks = [mark(spot, receiver.name, receiver.used) for receiver, spot in order]
    receivers = [found for found in marks if found is not None]
    shares = [f"{share:.0%}" for share in BANDS]
    heat = [Drawn("band", share, _area(view, rings)) for share, rings in zip(shares, bands, strict=False)]
    outlines = {} if place is None else {share: outline_deg(place, share) for share in REGIONS}
    regions = [
        Drawn(f"p{share * 100:.0f}", f"{share:.0%} region", _area(view, [outline]))
        for share, outline in outlines.items()
        if outline is not None
    ]
    frame = "" if closer is None else _area(view, [closer.places_deg(filled_in(_edge(), 40.0))])
    curves = _curves(picture.curves, lines, labels)
    return Marks(heat, curves, regions, frame, receivers, fix, mark(wish, "add here"))


def _points(view: View, places_deg: Sequence[tuple[float, float]]) -> list[tuple[float, float] | None]:
    """x, y of each place, rounded; None where it is not on the picture."""
    if not places_deg:
        return []
    points_deg = np.array(places_deg, np.float64)
    units, shown = view.units(points_deg), view.shows(points_deg)
    return [
        (round(x, 1), round(y, 1)) if inside else None for (x, y), inside in zip(units.tolist(), shown, strict=True)
    ]


def _area(view: View, rings_deg: Sequence[np.ndarray]) -> str:
    frame, pieces = PICTURE.grown(SPARE), []
    for ring in rings_deg:
        pieces += [line for cut in cut_area(view.units(ring), frame) for line in cut_line(cut, frame, THINNED)]
    return path_data(pieces, closed=True)


def _edge() -> np.ndarray:
    """x, y around the picture."""
    x_low, y_low, x_high, y_high = PICTURE
    return np.array([[x_low, y_low], [x_high, y_low], [x_high, y_high], [x_low, y_high], [x_low, y_low]])


def _curves(curves: Sequence[MapCurve], lines: Sequence[list[np.ndarray]], labels: Labels) -> list[Drawn]:
    """Those that cross the picture, named where they leave it if there is room."""
    drawn = []
    for curve, pieces in zip(curves, lines, strict=True):
        spots = [spot for piece in pieces for spot in _ends_first(piece)]
        label = labels.along(curve.label, spots) if len(curves) <= MOST_NAMED else None
        drawn.append(Drawn(curve.kind, curve.label, path_data(pieces, closed=False), label))
    return [curve for curve in drawn if curve.path]


def _ends_first(piece: np.ndarray, spacing: float = 12.0) -> list[tuple[float, float, float, float]]:
    """Points of a line with its direction there, evenly, from its ends to its middle."""
    along = np.r_[0.0, np.cumsum(np.linalg.norm(np.diff(piece, axis=0), axis=-1))]
    at = np.arange(spacing, max(along[-1] - spacing, spacing + 1), spacing)
    here, ahead = (np.stack([np.interp(p, along, piece[:, axis]) for axis in (0, 1)]) for p in (at, at + spacing / 4))
    order = np.argsort(np.minimum(at, along[-1] - at), kind="stable")
    return [(x, y, dx, dy) for x, y, dx, dy in np.concatenate([here, ahead - here])[:, order].T.tolist()]
