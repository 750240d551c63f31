"""An answer as a map takes it: receivers, curves, and how likely places are."""

from __future__ import annotations

import numpy as np

from heimdall_jax import geodesy
from heimdall_jax.locate.found import Fix, Found, LogDensity
from heimdall_jax.pages.map_page import FixPicture, Heat, MapReceiver

CELLS_PER_SIDE = 161
AROUND = 4.0
"""Standard deviations, along the longer axis, that the density reaches to each side."""
FARTHEST_M = geodesy.SEMI_MAJOR_M / 4


def to_picture(found: Found) -> FixPicture:
    """What `pages.map_page` draws."""
    why = {entry["name"]: entry["reason"] for entry in found.refused}
    receivers = tuple(
        MapReceiver(s.name, s.latitude_deg, s.longitude_deg, s.name in found.used, why.get(s.name, ""))
        for s in found.stations
    )
    heat = None
    if found.fix is not None and found.log_density is not None:
        heat = _heat(found.fix, found.log_density)
    title = "Where the transmitter is" if found.located else "I don't know where the transmitter is"
    return FixPicture(title, found.to_tree(), receivers, found.curves, heat)


def _heat(fix: Fix, log_density: LogDensity) -> Heat | None:
    """On a grid about the place, its highest value 1; None where the plane does not reach so far."""
    half_m = AROUND * float(np.sqrt(np.linalg.eigvalsh(fix.covariance_m2)[-1]))
    if half_m > FARTHEST_M:
        return None
    steps = np.linspace(-half_m, half_m, CELLS_PER_SIDE)
    edge_m = np.array([[half_m, 0.0], [0.0, half_m]])
    step_deg = np.abs(geodesy.local_to_degrees(edge_m, fix.place_deg) - np.array(fix.place_deg))
    latitude = fix.place_deg[0] + steps / half_m * step_deg[1, 0]
    longitude = fix.place_deg[1] + steps / half_m * ((step_deg[0, 1] + 180) % 360 - 180)
    places = np.stack(np.meshgrid(latitude, longitude, indexing="ij"), axis=-1).reshape(-1, 2)
    density = log_density(places).reshape(CELLS_PER_SIDE, CELLS_PER_SIDE)
    return Heat(latitude, longitude, np.exp(density - density.max()))
