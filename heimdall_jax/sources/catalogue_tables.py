"""The platform's SQL tables of recording sessions. With its neighbours `catalogue_*` the only door to SQLAlchemy.

In PostgreSQL the tables are in the schema `heimdall`; embedded, the same tables are in SQLite without a schema.
"""

from __future__ import annotations

import datetime as dt
import uuid

import sqlalchemy as sa

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
