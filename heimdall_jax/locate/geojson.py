"""An answer as GeoJSON (RFC 7946): the place, its 68 and 95 % regions, and the receivers.

Longitude comes first, and outer rings run counter-clockwise. Beyond the antimeridian longitudes go on past 180 degrees,
so that no ring is torn. A place that is not claimed is not in it; `located` and `reasons` are members of the whole.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from heimdall_jax import geodesy
from heimdall_jax.locate.found import REGIONS, Fix, Found

CORNERS = 72
FARTHEST_M = geodesy.SEMI_MAJOR_M / 2
"""Half-axis of a region up to which the plane about the place shows it."""
DIGITS = 7
"""Of degrees: 1 cm."""


def to_geojson(found: Found) -> dict[str, Any]:
    """A FeatureCollection as plain values."""
    features = []
    if found.located and found.fix is not None:
        latitude, longitude = found.fix.place_deg
        about = {"role": "fix", "method": found.method, "radius_68_m": found.fix.radius_68_m}
        features.append(_feature("Point", _position(latitude, longitude), about))
        features += [region for share in REGIONS if (region := _region(found.fix, share)) is not None]
    features += [
        _feature(
            "Point",
            _position(station.latitude_deg, station.longitude_deg),
            {"role": "receiver", "name": station.name, "used": station.name in found.used},
        )
        for station in found.stations
    ]
    return {
        "type": "FeatureCollection",
        "features": features,
        "located": found.located,
        "reasons": list(found.reasons),
    }


def region_deg(fix: Fix, probability: float) -> np.ndarray | None:
    """Latitude, longitude (n, 2) around a region, counter-clockwise, the last the first; None where it is too large."""
    variances, axes = np.linalg.eigh(fix.covariance_m2)
    half_m = np.sqrt(variances * -2 * math.log1p(-probability))
    if half_m.max() > FARTHEST_M:
        return None
    turn = np.arange(CORNERS) * (2 * np.pi / CORNERS)
    side = np.sign(np.linalg.det(axes))  # a mirrored pair of axes would turn the other way
    around_m = np.stack([half_m[0] * np.cos(turn), side * half_m[1] * np.sin(turn)], axis=-1) @ axes.T
    around_deg = geodesy.local_to_degrees(around_m, fix.place_deg)
    around_deg[:, 1] = fix.place_deg[1] + (around_deg[:, 1] - fix.place_deg[1] + 180) % 360 - 180
    return np.concatenate([around_deg, around_deg[:1]])


def _region(fix: Fix, probability: float) -> dict[str, Any] | None:
    around_deg = region_deg(fix, probability)
    if around_deg is None:
        return None
    ring = [_position(latitude, longitude) for latitude, longitude in around_deg.tolist()]
    return _feature("Polygon", [ring], {"role": "region", "probability": probability})


def _position(latitude: float, longitude: float) -> list[float]:
    return [round(longitude, DIGITS), round(latitude, DIGITS)]


def _feature(kind: str, coordinates: list[Any], about: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "Feature", "geometry": {"type": kind, "coordinates": coordinates}, "properties": dict(about)}
