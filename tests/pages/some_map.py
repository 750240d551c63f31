"""A fix with all that a map can show, made up."""

from __future__ import annotations

from typing import Any

import numpy as np

from heimdall_jax import geodesy
from heimdall_jax.evaluation.curves import hyperbola_deg, ring_deg
from heimdall_jax.pages.map_page import FixPicture, Heat, MapCurve, MapReceiver

TRUTH = (45.1, 7.9)
WISH = (45.6, 8.7)
"""Where one more receiver would help most."""
PLACES = {"Torino": (45.07, 7.69), "Genova": (44.41, 8.93), "Aosta": (45.74, 7.32), "Cuneo": (44.39, 7.55)}


def a_fix(place: tuple[float, float] = TRUTH, sigma_m: float = 4_000.0) -> dict[str, Any]:
    """As `locate.py --json` prints it."""
    covariance_m2 = sigma_m**2 * np.array([[1.0, 0.3], [0.3, 0.5]])
    wish = {"latitude": WISH[0], "longitude": WISH[1], "bearing_deg": 48.0, "distance_m": 84e3, "radius_68_m": 3_000.0}
    return {
        "located": True,
        "reasons": [],
        "latitude": place[0],
        "longitude": place[1],
        "radius_68_m": float(geodesy.error_radius_m(covariance_m2, 0.68)),
        "covariance_m2": covariance_m2.tolist(),
        "ellipse_68": geodesy.error_ellipse(covariance_m2, 0.68)._asdict(),
        "ellipse_95": geodesy.error_ellipse(covariance_m2, 0.95)._asdict(),
        "receivers_used": ["Torino", "Genova", "Aosta"],
        "receivers_refused": [{"name": "Cuneo", "reason": "stale clock"}],
        "helps": {"radius_68_now_m": 5_000.0, "place": wish, "station": None},
        "windows": {"length_s": 1.0, "in_common": 28, "used": 28},
        "method": "tdoa",
        "notes": ["what to know of it"],
    }


def an_unknown_fix(guessed: bool = True) -> dict[str, Any]:
    """Where no place is claimed, perhaps with a best guess."""
    fix = a_fix()
    place = ("latitude", "longitude", "radius_68_m", "covariance_m2", "ellipse_68", "ellipse_95")
    guess = {name: fix.pop(name) for name in place}
    why = {"located": False, "reasons": ["too few receivers"], "best_guess": guess if guessed else None}
    return fix | why | {"helps": None}


def a_heat(sigma_m: float = 3_000.0) -> Heat:
    """A round normal density about the place."""
    latitude, longitude = (np.linspace(middle - 0.2, middle + 0.2, 161) for middle in TRUTH)
    grid_deg = np.stack(np.meshgrid(latitude, longitude, indexing="ij"), axis=-1)
    away_m = geodesy.ground_distance_m(grid_deg, np.array(TRUTH))
    return Heat(latitude, longitude, np.exp(-0.5 * (away_m / sigma_m) ** 2))


def a_picture() -> FixPicture:
    """Three receivers used and one refused, a hyperbola, a ring and a density."""
    receivers = tuple(
        MapReceiver(name, *place, used=name != "Cuneo", note="stale clock" if name == "Cuneo" else "clock 50 ns")
        for name, place in PLACES.items()
    )
    curves = (
        MapCurve("hyperbola", "Genova less Torino", hyperbola_deg(PLACES["Genova"], PLACES["Torino"], 90_000.0)),
        MapCurve("ring", "Aosta", ring_deg(PLACES["Aosta"], 80_000.0)),
    )
    return FixPicture("A transmitter near Torino", a_fix(), receivers, curves, a_heat())
