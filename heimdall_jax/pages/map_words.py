"""What the page of a fix says beside its maps: in words, in tables, and to those who do not see them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from heimdall_jax import geodesy
from heimdall_jax.evaluation.table import spoken_m
from heimdall_jax.pages.coast import SOURCE
from heimdall_jax.pages.map_marks import BANDS, REGIONS, place_of
from heimdall_jax.pages.map_picture import FixPicture, MapCurve
from heimdall_jax.pages.map_view import View
from heimdall_jax.pages.render import Sheet

METHODS = {
    "tdoa": "By differences of arrival times",
    "rss": "By received powers",
    "model": "By a trained model of what was received",
}
_TIED = "\N{NO-BREAK SPACE}"


def degrees_told(latitude: float, longitude: float, decimals: int = 4) -> str:
    """A place in degrees, with the halves of the Earth."""
    north, east = "NS"[latitude < 0], "EW"[longitude < 0]
    return f"{abs(latitude):.{decimals}f}°{_TIED}{north}, {abs(longitude):.{decimals}f}°{_TIED}{east}"


def subtitle(picture: FixPicture) -> str:
    """How it was found, and by how many."""
    used, method = sum(receiver.used for receiver in picture.receivers), picture.fix["method"]
    return f"{METHODS.get(method, f'By {method}')}, at {used} of {len(picture.receivers)} receivers."


def headlines(picture: FixPicture) -> list[tuple[str, str]]:
    """The few numbers that matter."""
    place, used = place_of(picture.fix), sum(receiver.used for receiver in picture.receivers)
    told = []
    if place is not None:
        known = picture.fix["located"]
        radius_m = place.get("radius_68_m")
        decimals = 4 if radius_m is None or radius_m < 10_000 else 3 if radius_m < 100_000 else 2  # no finer than it is
        told.append(("place" if known else "best guess, not trusted", degrees_told(*_at(place), decimals)))
        if radius_m is not None:
            told.append(("68 % within", spoken_m(radius_m)))
        if place.get("covariance_m2") is not None:
            ellipse = geodesy.error_ellipse(place["covariance_m2"], 0.95)
            axes = f"{spoken_m(ellipse.semi_major_m)} by {spoken_m(ellipse.semi_minor_m)}"
            told.append(("95 % region, half-axes", axes))
    return [*told, ("receivers used", f"{used} of {len(picture.receivers)}")]


def alt(picture: FixPicture, view: View) -> str:
    """What is to be seen on a map, in a sentence or two."""
    shown = [r for r in picture.receivers if view.shows(np.array([[r.latitude_deg, r.longitude_deg]]))[0]]
    parts = []
    place = place_of(picture.fix)
    if place is not None:
        what = "The fix" if picture.fix["located"] else "A best guess, drawn faintly,"
        parts.append(f"{what} is at {degrees_told(*_at(place), 2)}")
        if place.get("covariance_m2") is not None:
            ellipse = geodesy.error_ellipse(place["covariance_m2"], REGIONS[0])
            axes = f"{spoken_m(ellipse.semi_major_m)} by {spoken_m(ellipse.semi_minor_m)}"
            parts[-1] += f", in a {REGIONS[0]:.0%} ellipse with half-axes of {axes}"
    for used, what in ((True, "used"), (False, "refused")):
        if names := [r.name for r in shown if r.used == used]:
            parts.append(f"Receivers {what}: {', '.join(names)}")
    if picture.curves:
        parts.append(f"Curves: {', '.join(curve.label for curve in picture.curves)}")
    return f"Map, {round_m(view.width_m)} wide. {'. '.join(parts)}."


def caption(picture: FixPicture, view: View, *, framed: bool) -> str:
    """Below a map: how wide it is, and what lies on it that has no name there."""
    parts = [f"{round_m(view.width_m)} from left to right."]
    if picture.curves:
        parts.append("Each curve is one measurement: the transmitter would be somewhere along it.")
    if framed:
        parts.append("The dotted frame is the next map.")
    return " ".join(parts)


def round_m(metres: float) -> str:
    """Two digits, in m or km."""
    rounded = float(f"{metres:.2g}")
    return f"{rounded / 1000:,g} km" if rounded >= 1000 else f"{rounded:g} m"


def sheets(picture: FixPicture, bands: Sequence[Sequence[np.ndarray]]) -> list[Sheet]:
    """The tables behind the maps: receivers, regions, curves, bands of density."""
    found = [_receivers(picture)]
    place = place_of(picture.fix)
    if place is not None and place.get("covariance_m2") is not None:
        ellipses = [(share, geodesy.error_ellipse(place["covariance_m2"], share)) for share in REGIONS[::-1]]
        rows = [
            (
                f"{share:.0%}",
                spoken_m(ellipse.semi_major_m),
                spoken_m(ellipse.semi_minor_m),
                f"{ellipse.azimuth_deg:.0f}°",
                f"{math.pi * ellipse.semi_major_m * ellipse.semi_minor_m / 1e6:,.3g} km²",
            )
            for share, ellipse in ellipses
        ]
        header = ("holds", "longer half-axis", "shorter half-axis", "longer one from north", "area")
        caption = "Ellipses about the place that hold the transmitter with that probability, if the fix is right."
        found.append(Sheet("Regions", caption, header, tuple(rows)))
    if picture.curves:
        found.append(_curves(picture))
    if bands:
        rows = [(f"{share:.0%}", f"{_area_km2(rings):,.3g} km²") for share, rings in zip(BANDS, bands, strict=True)]
        caption = "The smallest areas of the density that hold so much of all probability."
        found.append(Sheet("Density", caption, ("holds", "area"), tuple(rows[::-1])))
    return found


def beyond(picture: FixPicture, view: View) -> list[str]:
    """Receivers that the widest map has no room for."""
    out = [r.name for r in picture.receivers if not view.shows(np.array([[r.latitude_deg, r.longitude_deg]]))[0]]
    return [f"beyond the edge of the map: {', '.join(out)}"] if out else []


def about(host: str | None) -> list[str]:
    """How the maps were made, and of what."""
    if host is None:
        how = "Maps are azimuthal equidistant about their middle: distances and directions from there are true."
        fetched = "This page holds all that it shows, and fetches nothing."
    else:
        how = "Maps are web maps (EPSG:3857); the bar of kilometres holds in the middle."
        fetched = f"Tiles are fetched from {host} when this page is opened, under its terms; all else is in the page."
    return [how, f"{SOURCE}; true to about 1 km, and borders as of the source.", fetched]


def _receivers(picture: FixPicture) -> Sheet:
    place = place_of(picture.fix)
    from_place = () if place is None else ("from the fix" if picture.fix["located"] else "from best guess",)
    rows, noted = [], any(r.note for r in picture.receivers)
    for r in picture.receivers:
        at = (r.latitude_deg, r.longitude_deg)
        away = (
            () if place is None else (spoken_m(float(geodesy.ground_distance_m(np.array(at), np.array(_at(place))))),)
        )
        rows.append((r.name, degrees_told(*at), *away, "used" if r.used else "refused", *([r.note] if noted else [])))
    header = ("receiver", "place", *from_place, "part", *(["note"] if noted else []))
    return Sheet("Receivers", "All that were given.", header, tuple(rows))


def _curves(picture: FixPicture) -> Sheet:
    place = place_of(picture.fix)
    rows = []
    for curve in picture.curves:
        away = () if place is None else (spoken_m(passes_m(curve, _at(place))),)
        rows.append((curve.label, curve.kind, *away))
    header = ("curve", "kind", *(() if place is None else ("passes the place at",)))
    caption = "Where the transmitter would be by one measurement alone; they need not meet in one point."
    return Sheet("Curves", caption, header, tuple(rows))


def passes_m(curve: MapCurve, place: tuple[float, float]) -> float:
    """How near a curve comes to a place, metres; NaN of a curve without points."""
    if len(curve.points_deg) < 2:
        return math.nan
    start = geodesy.degrees_to_azimuthal(curve.points_deg, place)
    step = np.diff(start, axis=0)
    squared = np.maximum((step**2).sum(axis=-1), 1e-12)
    share = np.clip(-(start[:-1] * step).sum(axis=-1) / squared, 0.0, 1.0)
    return float(np.linalg.norm(start[:-1] + share[:, None] * step, axis=-1).min())


def _area_km2(rings_deg: Sequence[np.ndarray]) -> float:
    """Area in km² inside outlines, of which holes turn the other way (the shoelace formula)."""
    total = 0.0
    for ring in rings_deg:
        middle = rings_deg[0][0]
        x, y = geodesy.degrees_to_azimuthal(ring, (float(middle[0]), float(middle[1]))).T
        total += float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1])) / 2
    return abs(total) / 1e6


def _at(place: Mapping[str, Any]) -> tuple[float, float]:
    return place["latitude"], place["longitude"]
