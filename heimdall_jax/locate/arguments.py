"""Flags of `scripts/locate.py`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from heimdall_jax.flags import flag


@dataclass(frozen=True)
class LocateArguments:
    """Locate the transmitter that several receivers recorded at once.

    Exit code 3: "I don't know where it is", with the reasons.

    Examples: locate.py *_iq.wav --stations FOLDER · locate.py x.sigmf-collection --map out.html
    """

    recordings: tyro.conf.Positional[tuple[Path, ...]]
    """KiwiSDR *_iq.wav, SigMF (pair, archive, collection), .npy with .json."""
    stations: Annotated[Path | None, flag("FOLDER", "the recordings' own places")] = None
    """STATION.txt for each receiver whose recording has no place."""
    method: Literal["tdoa", "rss"] = "tdoa"
    """By differences of arrival times, or by received powers alone."""
    model: Annotated[str | None, flag("URI")] = None
    """Model that locates instead: RUN, s3://bucket/name, models:/name@alias."""
    window: Annotated[float | None, flag("SECONDS", "1, or all they hold")] = None
    """Correlated at once; all windows are combined."""
    sigma_us: Annotated[float | None, flag("MICROSECONDS", "20 below 30 MHz, 0 above")] = None
    """Sigma of propagation and receiver delay."""
    clock_us: Annotated[float, tyro.conf.arg(metavar="MICROSECONDS")] = 1.0
    """Sigma of clocks of which recordings say nothing."""
    start: Annotated[str | None, flag("UTC", "the recordings' own")] = None
    """First sample of recordings that do not say it: 2026-01-31T12:00:00Z."""
    frequency_hz: Annotated[float | None, flag("HERTZ", "the recordings' own")] = None
    """Tuned to, of recordings that do not say it."""
    json: bool = False
    """Print one JSON object instead of words."""
    geojson: Annotated[Path | None, flag("FILE")] = None
    """Also write place, regions and receivers as GeoJSON."""
    map: Annotated[Path | None, flag("FILE.html")] = None
    """Also write a map that works offline."""
    tiles: Annotated[str | None, flag("URL")] = None
    """Tiles below the map, with {z}, {x}, {y}; asks that host."""
    debug: bool = False
    """Show tracebacks."""
