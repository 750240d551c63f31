"""A catalogue as target: its database file, and rows that a database takes but no station ever wrote."""

from __future__ import annotations

import base64
import contextlib
import json
import sqlite3
import tempfile
from pathlib import Path
from random import Random

from heimdall_jax.sources.catalogue import DATABASE, CatalogueSource, embedded
from heimdall_jax.sources.catalogue_sql import create_catalogue
from heimdall_jax.sources.catalogue_tables import METADATA
from heimdall_jax.store import MemoryStore
from tests.fuzz.harness import Reader, Target
from tests.fuzz.mutators import INTEGERS, WORDS, spoil_bytes
from tests.sources.catalogues import add

COLUMNS = [(table.name, column.name) for table in METADATA.sorted_tables for column in table.columns]


def open_rows(folder: Path) -> Reader:
    """Inputs are lists of cells: table, column, row and value, which SQLite keeps whatever its type."""
    url, store = embedded(folder)
    create_catalogue(url)
    for index in range(2):
        add(url, store, index)
    whole = (folder / DATABASE).read_bytes()

    def read(data: bytes) -> object:
        (folder / DATABASE).unlink()  # SQLite locks files, not names
        (folder / DATABASE).write_bytes(whole)
        with contextlib.closing(sqlite3.connect(folder / DATABASE, isolation_level=None)) as connection:
            connection.execute("pragma ignore_check_constraints = on")
            for table, column, row, value in json.loads(data):
                value = base64.b64decode(value["bytes"]) if isinstance(value, dict) else value
                try:
                    held = f"(select rowid from {table} order by rowid limit 1 offset {row})"
                    connection.execute(f"update {table} set {column} = ? where rowid = {held}", (value,))
                except (sqlite3.Error, OverflowError, UnicodeEncodeError):
                    continue  # not even SQLite takes it
        return list(CatalogueSource(url, store, min_receivers=1).__getitems__([0]))

    return read


def spoil_rows(data: bytes, rng: Random) -> bytes:
    cells = json.loads(data)
    value = rng.choice((*WORDS, *INTEGERS, None, 1e308, -1e308, 0.5, {"bytes": base64.b64encode(b"\0\xff").decode()}))
    cells.append([*rng.choice(COLUMNS), rng.randrange(6), value])
    return json.dumps(cells).encode()


def open_database(folder: Path) -> Reader:
    url, _ = embedded(folder)

    def read(data: bytes) -> object:
        (folder / DATABASE).unlink(missing_ok=True)
        (folder / DATABASE).write_bytes(data)
        return CatalogueSource(url, MemoryStore(), iq=False, min_receivers=1).transmissions

    return read


def database_seeds() -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        url, store = embedded(folder)
        create_catalogue(url)
        add(url, store)
        return [(Path(folder) / DATABASE).read_bytes()]


TARGETS = (
    Target("catalogue_rows", lambda: [b"[]"], open_rows, spoil_rows, 20_000, 60),
    Target("catalogue_file", database_seeds, open_database, spoil_bytes, 20_000, 60),
)
