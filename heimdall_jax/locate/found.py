"""What a method found, or why it did not, before it is told in words, JSON, GeoJSON or on a map."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from heimdall_jax import geodesy
from heimdall_jax.locate.advice import Advice
from heimdall_jax.pages.map_page import MapCurve
from heimdall_jax.types import Station

REGIONS = (0.68, 0.95)
LogDensity = Callable[[Float64[ndarray, "N 2"]], Float64[ndarray, " N"]]
"""Of places in degrees, up to a constant."""


@dataclass(frozen=True, eq=False)
class Fix:
    """A place and how sure it is.

    Attributes:
        place_deg: Latitude, longitude.
        covariance_m2: Of east, north at the place itself.
    """

    place_deg: tuple[float, float]
    covariance_m2: Float64[ndarray, "2 2"]

    @classmethod
    def at(
        cls, position_m: Float64[ndarray, " 2"], covariance_m2: Float64[ndarray, "2 2"], origin_deg: tuple[float, float]
    ) -> Fix:
        """From east, north (2,) in the plane about an origin."""
        latitude, longitude = geodesy.local_to_degrees(position_m, origin_deg).tolist()
        return cls((latitude, longitude), geodesy.covariance_at(covariance_m2, position_m, origin_deg))

    @property
    def radius_68_m(self) -> float:
        """Of the circle that holds it with 68 %."""
        return float(geodesy.error_radius_m(self.covariance_m2, 0.68))

    def to_tree(self) -> dict[str, Any]:
        """As plain values."""
        ellipses = {f"ellipse_{share:.0%}"[:-1]: geodesy.error_ellipse(self.covariance_m2, share) for share in REGIONS}
        return {
            "latitude": self.place_deg[0],
            "longitude": self.place_deg[1],
            "radius_68_m": self.radius_68_m,
            "covariance_m2": self.covariance_m2.tolist(),
            **{name: ellipse._asdict() for name, ellipse in ellipses.items()},
        }


@dataclass(frozen=True, eq=False)
class Found:
    """The answer of a method.

    Attributes:
        method: tdoa, rss or model.
        fix: The best guess; None where there is none.
        reasons: Why no place is claimed; empty where `fix` is.
        stations: All receivers whose place is known, used or not.
        used: Names of those that had a part.
        refused: Name and reason of those that had none.
        windows: Their length, how many all hold, and how many were used.
        notes: What to know before trusting it.
        more: What the method adds to the answer.
        advice: Which receiver would help most.
        curves: Where each measurement alone would put it.
        log_density: The likelihood that made the fix.
    """

    method: str
    fix: Fix | None
    reasons: tuple[str, ...]
    stations: tuple[Station, ...]
    used: tuple[str, ...]
    refused: tuple[dict[str, str], ...]
    windows: dict[str, Any]
    notes: tuple[str, ...]
    more: dict[str, Any] = field(default_factory=dict)
    advice: Advice | None = None
    curves: tuple[MapCurve, ...] = ()
    log_density: LogDensity | None = None

    @property
    def located(self) -> bool:
        """Whether a place is claimed."""
        return self.fix is not None and not self.reasons

    def to_tree(self) -> dict[str, Any]:
        """As `--json` prints it: where no place is claimed, what there is of one stands under `best_guess`."""
        place = None if self.fix is None else self.fix.to_tree()
        tree: dict[str, Any] = {"located": self.located, "reasons": list(self.reasons)}
        tree |= (place or {}) if self.located else {"best_guess": place}
        receivers = [
            {"name": s.name, "latitude": s.latitude_deg, "longitude": s.longitude_deg, "used": s.name in self.used}
            for s in self.stations
        ]
        return tree | {
            "receivers": receivers,
            "receivers_used": list(self.used),
            "receivers_refused": list(self.refused),
            "helps": None if self.advice is None else self.advice.to_tree(),
            "windows": self.windows,
            "method": self.method,
            **self.more,
            "notes": list(self.notes),
        }


def gaussian(fix: Fix) -> LogDensity:
    """The density of a fix of which only the covariance is known."""
    precision = np.linalg.inv(fix.covariance_m2)

    def log_density(place_deg_NE: np.ndarray) -> np.ndarray:
        off_m = geodesy.degrees_to_local(place_deg_NE, fix.place_deg)
        return -0.5 * np.einsum("ne,ef,nf->n", off_m, precision, off_m)

    return log_density
