"""The receivers of a network: seven in north-west Italy by default, or those of a file."""

from __future__ import annotations

import csv
import difflib
import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from heimdall_jax.errors import DataError, StorageError, explain
from heimdall_jax.outside import MAX_TEXT_BYTES, parse_json, read_file
from heimdall_jax.types import Station

SEVEN_STATIONS = (
    Station("Aquila di Giaveno", 45.02, 7.29, 600.0),
    Station("Montanaro", 45.234, 7.857, 300.0),
    Station("Torino", 45.044, 7.672, 250.0),
    Station("Coazze", 45.03, 7.27, 700.0),
    Station("Passo dei Giovi", 44.561, 8.956, 480.0),
    Station("Genova", 44.395, 8.956, 100.0),
    Station("Milano Baggio", 45.478, 9.123, 120.0),
)
"""Name, latitude and longitude in degrees, altitude in metres."""

LIMITS = {"latitude": (-90.0, 90.0), "longitude": (-180.0, 180.0), "altitude_m": (-500.0, 10_000.0)}
"""Columns beside `name`, and the range of each."""


def read_stations(path: str | Path) -> tuple[Station, ...]:
    """Stations of a `.json` (a list of objects) or `.csv` file with name, latitude, longitude and altitude_m.

    The altitude may be left out, for 0. Degrees are WGS84.

    Raises:
        StorageError: The file cannot be read.
        DataError: It is neither, lacks a column or has a strange one, repeats a name, or a number is out of range.
    """
    file = Path(path)
    try:
        text = read_file(file, MAX_TEXT_BYTES).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        cure = "Check world.stations_file."
        raise StorageError(explain("stations file", got=error, allowed="a readable file", cure=cure)) from error
    rows = _json_rows(file, text) if file.suffix.lower() == ".json" else list(csv.DictReader(text.splitlines()))
    stations = tuple(_station(row, f"{file.name}, station {number}") for number, row in enumerate(rows, 1))
    counts = Counter(station.name for station in stations)
    if repeated := [name for name, count in counts.most_common(5) if count > 1]:
        allowed = "each name once"
        raise DataError(explain(file.name, got=f"{sorted(repeated)} twice", allowed=allowed, cure="Rename one."))
    return stations


def _json_rows(file: Path, text: str) -> list[Any]:
    try:
        rows = parse_json(text)
    except ValueError as error:
        raise DataError(explain(file.name, got=error, allowed="JSON", cure="Correct the syntax.")) from error
    if not isinstance(rows, list):
        got = type(rows).__name__
        raise DataError(explain(file.name, got=got, allowed="a list of stations", cure="Put them in brackets."))
    return rows


def _station(row: Any, where: str) -> Station:
    if not isinstance(row, Mapping):
        raise DataError(explain(where, got=type(row).__name__, allowed="an object", cure="Give its name and place."))
    allowed = ("name", *LIMITS)
    for key in row:
        if key not in allowed:
            near = difflib.get_close_matches(str(key), allowed, 1)
            cure = f"Did you mean {near[0]!r}?" if near else "Remove it."
            raise DataError(explain(f"{where}, column", got=repr(key), allowed=", ".join(allowed), cure=cure))
    if not isinstance(row.get("name"), str) or not row["name"].strip():
        raise DataError(explain(f"{where}, name", got=row.get("name"), allowed="a text", cure="Name the station."))
    latitude, longitude, altitude_m = (_number(row, column, where) for column in LIMITS)
    return Station(row["name"].strip(), latitude, longitude, altitude_m)


def _number(row: Mapping[str, Any], column: str, where: str) -> float:
    value, (low, high) = row.get(column), LIMITS[column]
    if value in (None, "") and column == "altitude_m":
        return 0.0
    try:
        number = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type] - None is caught
    except (TypeError, ValueError):
        number = math.nan
    if not low <= number <= high:
        allowed = f"{low:g} to {high:g}"
        raise DataError(explain(f"{where}, {column}", got=repr(value), allowed=allowed, cure="Correct it."))
    return number
