"""Which sessions and measurements of a catalogue may be used, by its tables alone; what may not is counted."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np

from heimdall_jax.errors import DataError, explain
from heimdall_jax.sources.matching import Measurement, match
from heimdall_jax.sources.plausible import RANGES, is_plausible
from heimdall_jax.sources.rows import Catalogue, SessionRow
from heimdall_jax.sources.session_iq import UNLIKE, shorter

MARGIN_SIGMAS = math.sqrt(-2 * math.log(0.05))
"""Radius that holds 95 % of an isotropic Gaussian, in standard deviations per axis (Rayleigh: 2.45)."""
IQ_FORMAT = "complex64"


@dataclass(frozen=True)
class CatalogueSession:
    """A session that its rows make usable, before its samples are read: a `Transmission` that splits can divide."""

    session_id: str
    start_time_s: float
    end_time_s: float
    """Infinite where it is open."""
    truth_deg: tuple[float, float]
    truth_error_m: float
    frequency_hz: float
    measurements: tuple[Measurement | None, ...]


def active_stations(catalogue: Catalogue, counts: Counter[str]) -> list[str]:
    """Keys of the active stations in the order of their names.

    Raises:
        DataError: A station is nowhere on Earth, or none has a place.
    """
    keys = sorted(catalogue.stations, key=lambda key: catalogue.stations[key].name)
    at_zero = 0
    for key in keys:
        station = catalogue.stations[key]
        if not (abs(station.latitude_deg) <= 90 and abs(station.longitude_deg) <= 180):
            got = f"({station.latitude_deg}, {station.longitude_deg})"
            cure = "Correct the station's row."
            raise DataError(explain(f"station {station.name}", got=got, allowed="degrees on Earth", cure=cure))
        if not is_plausible("altitude_m", station.altitude_m):
            got, allowed, cure = f"{station.altitude_m} m", RANGES["altitude_m"], "Correct the station's row."
            raise DataError(explain(f"altitude of {station.name}", got=got, allowed=allowed, cure=cure))
        at_zero += (station.latitude_deg, station.longitude_deg) == (0.0, 0.0)
    if at_zero == len(keys):
        raise DataError(
            explain("catalogue", got="no active station with a place", allowed="one or more", cure="Activate stations.")
        )
    counts["station at (0, 0), masked"] += at_zero
    return keys


def eligible_sessions(
    catalogue: Catalogue,
    stations: dict[str, bool],
    counts: Counter[str],
    *,
    min_receivers: int,
    iq: bool,
    samples: int | None,
) -> list[CatalogueSession]:
    """Sessions that may be used, in the order of time.

    Args:
        catalogue: All rows.
        stations: Keys of the active stations in their order, and whether each has a place.
        counts: Takes how often each thing was skipped, by reason.
        min_receivers: Sessions with fewer measurements are skipped.
        iq: Whether a measurement needs a recording.
        samples: That a recording must have at least; None: any number.
    """
    matched = match([row.interval for row in catalogue.sessions], catalogue.measurements)
    found = []
    for row in catalogue.sessions:
        reason = _unusable(row)
        if reason is not None:
            counts[reason] += 1
            continue
        good = {}
        for key, measurement in matched[row.interval.session_id].items():
            reason = _unreadable(measurement, stations, iq, samples)
            if reason is None:
                good[key] = measurement
            else:
                counts[reason] += 1
        alike = _alike(good, samples) if iq and good else good
        counts[UNLIKE] += len(good) - len(alike)
        if len(alike) < max(min_receivers, 1):
            counts[f"session with fewer than {min_receivers} readable measurements"] += 1
        else:
            found.append(_session(row, [alike.get(key) for key in stations]))
    return sorted(found, key=lambda session: (session.start_time_s, session.session_id))


def _unusable(row: SessionRow) -> str | None:
    """Why a session may not be used."""
    if row.status != "completed":
        return "session not completed"
    if row.approval != "approved":
        return "session not approved"
    if row.truth_deg is None:
        return "session whose source has no place"
    if not (abs(row.truth_deg[0]) <= 90 and abs(row.truth_deg[1]) <= 180) or row.truth_deg == (0.0, 0.0):
        return "session whose source is at an impossible place"
    return None


def _unreadable(measurement: Measurement, stations: dict[str, bool], iq: bool, samples: int | None) -> str | None:
    """Why a measurement cannot be used."""
    if measurement.station_id not in stations:
        return "measurement of an inactive station"
    if not stations[measurement.station_id]:
        return "measurement of a station at (0, 0), masked"
    if measurement.rss_db is None or not is_plausible("rss_db", measurement.rss_db):
        return "measurement without a signal strength"
    if not iq:
        return None
    if measurement.key is None:
        return "measurement without a recording"
    if measurement.iq_format not in (None, IQ_FORMAT):
        return f"recording in another format than {IQ_FORMAT}"
    if samples is not None and measurement.samples is not None and measurement.samples < samples:
        return shorter(samples)
    return None


def _alike(good: dict[str, Measurement], samples: int | None) -> dict[str, Measurement]:
    """Samples are one array: the rate and length most receivers share counts."""
    kinds = {key: (m.sample_rate_hz, None if samples else m.samples) for key, m in good.items()}
    if len(set(kinds.values())) == 1:
        return good
    kind = Counter(kinds.values()).most_common(1)[0][0]
    return {key: measurement for key, measurement in good.items() if kinds[key] == kind}


def _session(row: SessionRow, measurements: list[Measurement | None]) -> CatalogueSession:
    interval = row.interval
    assert row.truth_deg is not None
    heard = [measurement.frequency_hz for measurement in measurements if measurement is not None]
    return CatalogueSession(
        interval.session_id,
        interval.start.timestamp(),
        math.inf if interval.end is None else interval.end.timestamp(),
        row.truth_deg,
        row.error_margin_m / MARGIN_SIGMAS,
        interval.frequency_hz or float(np.median(heard)),
        tuple(measurements),
    )
