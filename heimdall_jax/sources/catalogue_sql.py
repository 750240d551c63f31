"""The platform's SQL tables of recording sessions, read and written. The only door to SQLAlchemy.

In PostgreSQL the tables are in the schema `heimdall`; embedded, the same tables are in SQLite without a schema.
The URL chooses; the code is one.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from heimdall_jax.errors import ConfigError, DataError, StorageError, explain
from heimdall_jax.sources.matching import Interval, Measurement
from heimdall_jax.sources.rows import BUCKET, Catalogue, Recording, SessionRow, object_key
from heimdall_jax.store import ObjectStore
from heimdall_jax.types import Station

SCHEMA = "heimdall"


class UtcDateTime(sa.types.TypeDecorator[dt.datetime]):
    """A moment with its zone; SQLite, which keeps none, holds UTC."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: dt.datetime | None, dialect: sa.Dialect) -> dt.datetime | None:
        """To UTC; without its zone for SQLite."""
        if value is None:
            return None
        moment = value.astimezone(dt.UTC)
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment

    def process_result_value(self, value: dt.datetime | None, dialect: sa.Dialect) -> dt.datetime | None:
        """With a zone always."""
        return value.replace(tzinfo=dt.UTC) if value is not None and value.tzinfo is None else value


METADATA = sa.MetaData(schema=SCHEMA)


def _id() -> sa.Column[uuid.UUID]:
    return sa.Column("id", sa.Uuid, primary_key=True, default=uuid.uuid4)


def _one_of(column: str, *values: str) -> sa.CheckConstraint:
    return sa.CheckConstraint(f"{column} in ({', '.join(map(repr, values))})")


STATIONS = sa.Table(
    "websdr_stations",
    METADATA,
    _id(),
    sa.Column("name", sa.Text, nullable=False, unique=True),
    sa.Column("url", sa.Text, nullable=False, default=""),
    sa.Column("country", sa.Text),
    sa.Column("latitude", sa.Double, nullable=False),
    sa.Column("longitude", sa.Double, nullable=False),
    sa.Column("altitude_asl", sa.Integer),
    sa.Column("frequency_min_hz", sa.BigInteger),
    sa.Column("frequency_max_hz", sa.BigInteger),
    sa.Column("is_active", sa.Boolean, nullable=False, default=True),
)
SOURCES = sa.Table(
    "known_sources",
    METADATA,
    _id(),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("description", sa.Text),
    sa.Column("frequency_hz", sa.BigInteger),
    sa.Column("latitude", sa.Double),
    sa.Column("longitude", sa.Double),
    sa.Column("power_dbm", sa.Double),
    sa.Column("source_type", sa.Text),
    sa.Column("is_validated", sa.Boolean, nullable=False, default=False),
    sa.Column("error_margin_meters", sa.Double, sa.CheckConstraint("error_margin_meters > 0"), default=50.0),
)
SESSIONS = sa.Table(
    "recording_sessions",
    METADATA,
    _id(),
    sa.Column("known_source_id", sa.ForeignKey(SOURCES.c.id), nullable=False),
    sa.Column("session_name", sa.Text, nullable=False),
    sa.Column("session_start", UtcDateTime, nullable=False),
    sa.Column("session_end", UtcDateTime),
    sa.Column("duration_seconds", sa.Double),
    sa.Column("celery_task_id", sa.Text),
    sa.Column("status", sa.Text, nullable=False, default="pending"),
    sa.Column("approval_status", sa.Text, nullable=False, default="pending"),
    _one_of("status", "pending", "in_progress", "completed", "failed"),
    _one_of("approval_status", "pending", "approved", "rejected"),
)
MEASUREMENTS = sa.Table(
    "measurements",
    METADATA,
    sa.Column("timestamp", UtcDateTime, primary_key=True),
    _id(),
    sa.Column("websdr_station_id", sa.ForeignKey(STATIONS.c.id), nullable=False),
    sa.Column("frequency_hz", sa.BigInteger, nullable=False),
    sa.Column("signal_strength_db", sa.Double, nullable=False),
    sa.Column("snr_db", sa.Double),
    sa.Column("frequency_offset_hz", sa.Integer),
    sa.Column("iq_data_location", sa.Text),
    sa.Column("iq_data_format", sa.Text, default="complex64"),
    sa.Column("iq_sample_rate", sa.Integer),
    sa.Column("iq_samples_count", sa.Integer),
    sa.Column("duration_seconds", sa.Double),
    sa.Column("created_at", UtcDateTime, default=lambda: dt.datetime.now(dt.UTC)),
)


def create_catalogue(database_url: str) -> None:
    """Create the tables that are missing.

    Raises:
        ConfigError: The URL is none that can be opened.
        StorageError: The database cannot be written.
    """
    with _connection(database_url, create=True) as connection:
        if connection.dialect.name != "sqlite":
            connection.execute(sa.schema.CreateSchema(SCHEMA, if_not_exists=True))
        METADATA.create_all(connection)


def read_catalogue(database_url: str) -> Catalogue:
    """All stations, sessions and measurements.

    Raises:
        ConfigError: The URL is none that can be opened.
        StorageError: There is no such database, or it has not the tables.
    """
    joined = sa.select(
        SESSIONS, SOURCES.c.latitude, SOURCES.c.longitude, SOURCES.c.frequency_hz, SOURCES.c.error_margin_meters
    ).join(SOURCES, SESSIONS.c.known_source_id == SOURCES.c.id)
    with _connection(database_url) as connection:
        stations = {str(row.id): _station(row) for row in connection.execute(sa.select(STATIONS)) if row.is_active}
        sessions = tuple(_session(row) for row in connection.execute(joined))
        measurements = tuple(_measurement(row) for row in connection.execute(sa.select(MEASUREMENTS)))
    return Catalogue(stations, sessions, measurements)


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
    with _connection(database_url) as connection:
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
        str(row.id), row.session_start, row.session_end, row.celery_task_id or None, _number(row.frequency_hz)
    )
    truth = None if latitude is None or longitude is None else (latitude, longitude)
    return SessionRow(interval, truth, _number(row.error_margin_meters) or 0.0, row.status, row.approval_status)


def _measurement(row: Any) -> Measurement:
    return Measurement(
        time=row.timestamp,
        station_id=str(row.websdr_station_id),
        frequency_hz=float(row.frequency_hz),
        rss_db=_number(row.signal_strength_db),
        snr_db=_number(row.snr_db),
        key=object_key(row.iq_data_location),
        sample_rate_hz=_number(row.iq_sample_rate),
        samples=row.iq_samples_count,
    )


def _number(value: Any) -> float | None:
    """PostgreSQL may give decimals."""
    return None if value is None else float(value)


def _url(database_url: str) -> sa.URL:
    try:
        url = sa.make_url(database_url)
    except ArgumentError as error:
        allowed = "sqlite:///catalogue.sqlite or postgresql://user@host/database"
        raise ConfigError(explain("database", got=error, allowed=allowed, cure="Correct the URL.")) from error
    # SQLAlchemy 2.0 and 2.1 differ in the driver they take for this name.
    return url.set(drivername="postgresql+psycopg") if url.drivername == "postgresql" else url


@contextmanager
def _connection(database_url: str, *, create: bool = False) -> Iterator[sa.Connection]:
    """A transaction, with errors of the database as ours."""
    url = _url(database_url)
    sqlite = url.get_backend_name() == "sqlite"
    if sqlite and url.database:
        # Opening a file that is not there would make an empty one.
        try:
            Path(url.database).parent.mkdir(parents=True, exist_ok=True) if create else Path(url.database).stat()
        except OSError as error:
            raise _unusable(database_url, error) from error
    try:
        # No pool: a connection kept open would not survive into a data loader's worker.
        engine = sa.create_engine(url, poolclass=NullPool)
    except (ImportError, ArgumentError) as error:
        cure = "For PostgreSQL: pip install 'heimdall-jax[platform]'."
        raise ConfigError(explain("database", got=error, allowed="sqlite:/// or postgresql://", cure=cure)) from error
    if sqlite:
        engine = engine.execution_options(schema_translate_map={SCHEMA: None})
    try:
        with engine.begin() as connection:
            yield connection
    except SQLAlchemyError as error:
        raise _unusable(database_url, error) from error


def _unusable(database_url: str, error: object) -> StorageError:
    got = " ".join(str(getattr(error, "orig", None) or error).split())
    cure = "Check the address; a new catalogue is made by scripts/prepare_data.py."
    shown = _url(database_url).render_as_string(hide_password=True)
    return StorageError(explain(f"catalogue {shown}", got=got, allowed="a database with the tables", cure=cure))
