"""Connections to a catalogue's database: reading waits for a server that is away, and never writes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from heimdall_jax.errors import ConfigError, DataError, HeimdallError, StorageError, explain
from heimdall_jax.patience import patiently
from heimdall_jax.sources.catalogue_tables import SCHEMA

Result = TypeVar("Result")

ALIVE = {"connect_timeout": 10, "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}
"""libpq's seconds and counts, after which a server that says nothing is taken for gone."""
PASSING_STATES = ("08", "40", "53", "57P01", "57P02", "57P03")
"""SQLSTATE classes and codes: connection lost, transaction to be repeated, out of resources, server stops or starts."""
PASSING_REFUSALS = ("starting up", "shutting down", "recovery", "too many", "slots are reserved")
REFUSALS = ("FATAL:", "no password supplied", "SSL", "certificate")
"""What a server or libpq says to who is not let in; the codes are lost before there is a connection."""
CURES = {
    ("password", "authentication", "pg_hba.conf", "role "): "Check the user, and PGPASSWORD or ~/.pgpass.",
    ("permission denied",): f"Grant the user USAGE on the schema {SCHEMA} and SELECT on its tables.",
    ("refused", "resolve", "closed", "timeout", "terminating", "lost", "unreachable"): (
        "Check the address and that the server runs."
    ),
}
"""By what the database says."""


def reading(database_url: str, action: Callable[[sa.Connection], Result]) -> Result:
    """The result of `action` on one unchanging state of the database, in a transaction that cannot write.

    Args:
        database_url: SQLAlchemy's.
        action: Begun anew, on another connection, where the server goes away.

    Raises:
        ConfigError: The URL is none that can be opened.
        DataError: A row holds what its column cannot.
        StorageError: Refused, without the tables, or away for `patience.patience_s`.
    """
    engine = _engine(database_url)

    def attempt() -> Result:
        with engine.connect() as connection:
            if connection.dialect.name == "postgresql":
                connection = connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            else:
                connection.exec_driver_sql("pragma query_only = on")
            return action(connection)

    try:
        return patiently(_shown(database_url), attempt, _passes)
    except SQLAlchemyError as error:
        raise _unusable(database_url, error) from error
    except HeimdallError:
        raise
    except (ValueError, TypeError, AttributeError, ArithmeticError) as error:  # SQLite holds any value in any column
        cure = "Correct the row; the column's type says what it may hold."
        raise DataError(explain(_shown(database_url), got=error, allowed="rows of the tables", cure=cure)) from error


@contextmanager
def writing(database_url: str, *, create: bool = False) -> Iterator[sa.Connection]:
    """A transaction, with errors of the database as ours; `create` makes the folder of an embedded one.

    Raises:
        ConfigError: The URL is none that can be opened.
        StorageError: It cannot be reached or written.
    """
    engine = _engine(database_url, create=create)
    try:
        with engine.begin() as connection:
            yield connection
    except SQLAlchemyError as error:
        raise _unusable(database_url, error) from error


def _engine(database_url: str, *, create: bool = False) -> sa.Engine:
    url = _url(database_url)
    sqlite = url.get_backend_name() == "sqlite"
    if sqlite and url.database:
        # Opening a file that is not there would make an empty one.
        try:
            Path(url.database).parent.mkdir(parents=True, exist_ok=True) if create else Path(url.database).stat()
        except OSError as error:
            raise _unusable(database_url, error) from error
    alive = {} if sqlite else {key: value for key, value in ALIVE.items() if key not in url.query}
    try:
        # No pool: a connection kept open would not survive into a data loader's worker.
        engine = sa.create_engine(url, poolclass=NullPool, connect_args=alive)
    except (ImportError, ArgumentError) as error:
        cure = "For PostgreSQL: pip install 'heimdall-jax[platform]'."
        raise ConfigError(explain("database", got=error, allowed="sqlite:/// or postgresql://", cure=cure)) from error
    return engine.execution_options(schema_translate_map={SCHEMA: None}) if sqlite else engine


def _url(database_url: str) -> sa.URL:
    try:
        url = sa.make_url(database_url)
    except ArgumentError as error:
        allowed = "sqlite:///catalogue.sqlite or postgresql://user@host/database"
        raise ConfigError(explain("database", got=error, allowed=allowed, cure="Correct the URL.")) from error
    # SQLAlchemy 2.0 and 2.1 differ in the driver they take for this name.
    return url.set(drivername="postgresql+psycopg") if url.drivername == "postgresql" else url


def _shown(database_url: str) -> str:
    return f"catalogue {_url(database_url).render_as_string(hide_password=True)}"


def _passes(error: BaseException) -> bool:
    """Whether the server may be there again in a while."""
    if not isinstance(error, DBAPIError) or "psycopg" not in type(error.orig).__module__:
        return False
    said: Any = error.orig
    if said.sqlstate:
        return said.sqlstate.startswith(PASSING_STATES)
    text = str(said)
    refused = any(word in text for word in REFUSALS) and not any(word in text for word in PASSING_REFUSALS)
    return isinstance(error, (OperationalError, InterfaceError)) and not refused


def _unusable(database_url: str, error: object) -> StorageError:
    got = " ".join(str(getattr(error, "orig", None) or error).split())
    told = (cure for words, cure in CURES.items() if any(word in got for word in words))
    cure = next(told, "Check the address; a new catalogue is made by scripts/prepare_data.py.")
    return StorageError(explain(_shown(database_url), got=got, allowed="a database with the tables", cure=cure))
