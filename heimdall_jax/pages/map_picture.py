"""What a map of a fix shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from jaxtyping import Float64
from numpy import ndarray


@dataclass(frozen=True)
class MapReceiver:
    """A receiver as the map and its table tell it.

    Attributes:
        name: Written beside its mark.
        latitude_deg: Of its place.
        longitude_deg: Of its place.
        used: Had a part in the fix.
        note: What it gave, or why it was refused.
    """

    name: str
    latitude_deg: float
    longitude_deg: float
    used: bool
    note: str = ""


@dataclass(frozen=True, eq=False)
class MapCurve:
    """Where the transmitter would be by one measurement alone.

    Attributes:
        kind: A hyperbola is of a pair's difference of arrival times, a ring of one receiver's range.
        label: Of whom it is, such as "A less B".
        points_deg: Latitude, longitude of its points, in order.
    """

    kind: Literal["hyperbola", "ring"]
    label: str
    points_deg: Float64[ndarray, "n 2"]


@dataclass(frozen=True, eq=False)
class Heat:
    """How likely places are, on a regular grid of degrees, ascending; of any scale."""

    latitude_deg_Y: Float64[ndarray, " Y"]
    longitude_deg_X: Float64[ndarray, " X"]
    density_YX: Float64[ndarray, "Y X"]


@dataclass(frozen=True, eq=False)
class FixPicture:
    """What a map shows.

    Attributes:
        title: Of the page.
        fix: As `locate.py --json` prints it. Where it says `located: false`, the map says that the place is not known,
            with the `reasons`, and draws what stands under `best_guess` faintly.
        receivers: All that were given, used or refused.
        curves: Hyperbolas or rings.
        heat: Density of the place; None for none.
    """

    title: str
    fix: Mapping[str, Any]
    receivers: tuple[MapReceiver, ...]
    curves: tuple[MapCurve, ...] = ()
    heat: Heat | None = None
