"""The rows of a catalogue, read from its database and written to it. The URL chooses SQLite or PostgreSQL."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from heimdall_jax.errors import DataError, explain
from heimdall_jax.sources.catalogue_connection import reading, writing
from heimdall_jax.sources.catalogue_tables import MEASUREMENTS, METADATA, SCHEMA, SESSIONS, SOURCES, STATIONS
from heimdall_jax.sources.matching import Interval, Measurement
from heimdall_jax.sources.rows import BUCKET, Catalogue, Recording, SessionRow, object_key
from heimdall_jax.store import ObjectStore
from heimdall_jax.types import Station

ROWS_AT_ONCE = 2000
"""That the server sends, so that it, not this process, holds the others."""


def create_catalogue(database_url: str) -> None:
    """Create the tables that are missing.

    Raises:
        ConfigError: The URL is none that can be opened.
        StorageError: The database cannot be written.
    """
    with writing(database_url, create=True) as connection:
        if connection.dialect.name != "sqlite":
            connection.execute(sa.schema.CreateSchema(SCHEMA, if_not_exists=True))
        METADATA.create_all(connection)


def read_catalogue(database_url: str) -> Catalogue:
    """All stations, sessions and measurements, the last two in the order of time; nothing is written.

    Raises:
        ConfigError: The URL is none that can be opened.
        StorageError: There is no such database, it has not the tables, may not be read, or stays away.
    """
    return reading(database_url, _read)


def _read(connection: sa.Connection) -> Catalogue:
    s, m = SESSIONS.c, MEASUREMENTS.c
    joined = (
        sa.select(s.id, s.session_start, s.session_end, s.celery_task_id, s.status, s.approval_status)
        .add_columns(*(SOURCES.c[name] for name in ("latitude", "longitude", "frequency_hz", "error_margin_meters")))
        .join(SOURCES, s.known_source_id == SOURCES.c.id)
        .order_by(s.session_start, s.id)
    )
    measured = sa.select(m.timestamp, m.websdr_station_id, m.frequency_hz, m.signal_strength_db, m.snr_db).add_columns(
        *(m[name] for name in ("iq_data_location", "iq_data_format", "iq_sample_rate", "iq_samples_count"))
    )
    stations = {str(row.id): _station(row) for row in connection.execute(sa.select(STATIONS)) if row.is_active}
    streamed = {"yield_per": ROWS_AT_ONCE}
    sessions = tuple(_session(row) for row in connection.execute(joined, execution_options=streamed))
    rows = connection.execute(measured.order_by(m.timestamp, m.id), execution_options=streamed)
    return Catalogue(stations, sessions, _measurements(rows))


def add_session(
    database_url: str,
    store: ObjectStore,
    *,
    name: str,
    start: dt.datetime,
    duration_s: float,
    truth_deg: tuple[float, float] | None,
    recordings: Sequence[Recording],
    frequency_hz: float,
    sample_rate_hz: float,
    error_margin_m: float = 50.0,
    status: str = "completed",
    approval: str = "approved",
) -> str:
    """Write a session, its source, its stations where they are new, and its recordings; gives the session's key.

    Args:
        database_url: Of a catalogue that exists (`create_catalogue`).
        store: Where the recordings go.
        name: Of the session and of its source.
        start: With a time zone; every measurement is stamped with it.
        duration_s: The session ends this long after it.
        truth_deg: Latitude, longitude of the transmitter; None where unknown.
        recordings: One per station.
        frequency_hz: Carrier.
        sample_rate_hz: Of all recordings; the table keeps whole hertz.
        error_margin_m: Radius about the truth that holds the transmitter with 95 %.
        status: pending, in_progress, completed or failed.
        approval: pending, approved or rejected.

    Raises:
        DataError: `start` has no zone.
        StorageError: The database or the store cannot be written.
    """
    if start.tzinfo is None:
        raise DataError(explain(f"session {name}", got=f"{start}", allowed="a start with a zone", cure="Add one."))
    session, source, task = uuid.uuid4(), uuid.uuid4(), str(uuid.uuid4())
    latitude, longitude = truth_deg or (None, None)
    at = {"frequency_hz": round(frequency_hz), "latitude": latitude, "longitude": longitude}
    when = {"session_start": start, "session_end": start + dt.timedelta(seconds=duration_s)}
    state = {"status": status, "approval_status": approval, "celery_task_id": task, "duration_seconds": duration_s}
    with writing(database_url) as connection:
        connection.execute(SOURCES.insert().values(id=source, name=name, error_margin_meters=error_margin_m, **at))
        connection.execute(
            SESSIONS.insert().values(id=session, known_source_id=source, session_name=name, **when, **state)
        )
        for number, recording in enumerate(recordings, 1):
            key = f"sessions/{task}/websdr_{number}.npy"
            row = {"signal_strength_db": recording.rss_db, "snr_db": recording.snr_db, "timestamp": start}
            if recording.iq_T is not None:
                recording.write(store, key)
                row["iq_data_location"] = f"s3://{BUCKET}/{key}"
                row["iq_samples_count"] = len(recording.iq_T)
                row["iq_sample_rate"] = round(sample_rate_hz)
                row["duration_seconds"] = len(recording.iq_T) / sample_rate_hz
            row["websdr_station_id"] = _station_id(connection, recording.station)
            connection.execute(MEASUREMENTS.insert().values(frequency_hz=round(frequency_hz), **row))
    return str(session)


def _station_id(connection: sa.Connection, station: Station) -> uuid.UUID:
    """Key of the station of this name, which is written where it is new."""
    held = connection.execute(sa.select(STATIONS.c.id).where(STATIONS.c.name == station.name)).scalar()
    if held is not None:
        return held
    key = uuid.uuid4()
    connection.execute(
        STATIONS.insert().values(
            id=key,
            name=station.name,
            latitude=station.latitude_deg,
            longitude=station.longitude_deg,
            altitude_asl=round(station.altitude_m),
        )
    )
    return key


def _station(row: Any) -> Station:
    return Station(str(row.name), float(row.latitude), float(row.longitude), float(row.altitude_asl or 0.0))


def _session(row: Any) -> SessionRow:
    latitude, longitude = _number(row.latitude), _number(row.longitude)
    interval = Interval(
        str(row.id), row.session_start, row.session_end, _text(row.celery_task_id), _number(row.frequency_hz)
    )
    truth = None if latitude is None or longitude is None else (latitude, longitude)
    return SessionRow(interval, truth, _number(row.error_margin_meters) or 0.0, row.status, row.approval_status)


def _measurements(rows: sa.Result[Any]) -> tuple[Measurement, ...]:
    """All of them; made without attributes of rows and with each station's name once, as there are many."""
    names: dict[uuid.UUID, str] = {}
    found = []
    for row in rows:
        time, station, frequency_hz, rss_db, snr_db, location, iq_format, rate_hz, samples = tuple(row)
        name = names.get(station) or names.setdefault(station, str(station))
        numbers = float(frequency_hz), _number(rss_db), _number(snr_db)
        count = None if samples is None else int(samples)
        found.append(
            Measurement(time, name, *numbers, object_key(location), _number(rate_hz), count, iq_format or None)
        )
    return tuple(found)


def _text(value: Any) -> str | None:
    return str(value) if value else None


def _number(value: Any) -> float | None:
    """PostgreSQL may give decimals."""
    return None if value is None else float(value)
