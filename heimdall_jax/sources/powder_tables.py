"""Recordings of the University of Utah "Wireless Device Localization Dataset" (POWDER) as written: CSV and JSON.

Axis X: transmitters at once, one in most of the files, two or none in some.
"""

from __future__ import annotations

import csv
import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from heimdall_jax.errors import DataError, explain
from heimdall_jax.sources.powder_files import (
    LOCATIONS,
    Place,
    checked_place,
    load_json,
    not_a_number,
    read_text,
)

NOT_HEARD_DB = -101.0
"""What the authors write where a receiver measured nothing."""
MAX_CELLS = 4_000_000
"""Transmissions times receivers, or cells of a CSV file: 160,000 transmissions at 25 receivers."""
MAX_RECEIVERS = 1000
MAX_POWER_DB = 1e6
"""Beyond it no power is a number that single precision can square."""
NO_PLACE_DEG = -1.0
"""What they write for the latitude and longitude of a moving receiver that took no part."""
COUNTS = {0: "no transmitter", 1: "one transmitter", 2: "two transmitters"}
"""Transmitters at once, as the data set has them."""
KIND = {0: "no_tx", 1: "single_tx", 2: "two_tx"}
"""How its files with so many are named."""
TRUTH_COLUMNS: dict[int, tuple[str, ...]] = {
    0: (),
    1: ("tx_x_coord", "tx_y_coord"),
    2: ("tx_1_x_coord", "tx_1_y_coord", "tx_2_x_coord", "tx_2_y_coord"),
}
"""Latitude and longitude of each transmitter."""


@dataclass(frozen=True, eq=False)
class Table:
    """N transmissions at R receivers, as written.

    Attributes:
        timestamps: N timestamps, as written.
        receivers: R names, sorted.
        rss_db_NR: Received power; -inf where there is none.
        place_deg_NRE: Latitude, longitude of the receivers; NaN where none is given.
        truth_deg_NXE: Latitude, longitude of each transmitter.
    """

    timestamps: tuple[str, ...]
    receivers: tuple[str, ...]
    rss_db_NR: Float64[ndarray, "N R"]
    place_deg_NRE: Float64[ndarray, "N R 2"]
    truth_deg_NXE: Float64[ndarray, "N X 2"]


def read_csv(path: Path, locations: dict[str, Place | None], transmitters: int = 1) -> Table:
    """One row per transmission.

    Columns: `timestamp`; per fixed receiver its power under its name; per moving one `NAME_rss`, `NAME_x`
    (latitude), `NAME_y` (longitude); per transmitter its latitude and longitude (`TRUTH_COLUMNS`).

    Raises:
        DataError: A column is missing or unknown, a cell is no number, or the file holds another count of transmitters.
    """
    text = read_text(path)
    _check_size(path, text.count(",") + text.count("\n"), 0)
    try:
        header, *rows = list(csv.reader(text.splitlines(), strict=True)) or [[]]
    except csv.Error as error:
        raise DataError(explain(str(path), got=error, allowed="comma-separated values", cure="Check it.")) from error
    column = {name.strip(): i for i, name in enumerate(header)}
    fixed = {name: place for name, place in locations.items() if place is not None}
    moving = _csv_receivers(path, column, locations, transmitters)
    rows = [row for row in rows if row]
    for number, row in enumerate(rows, 2):
        if len(row) != len(header):
            got = f"{len(row)} cells in row {number} for {len(header)} columns"
            cure = "Is the file cut off? Fetch it again, or remove the row."
            raise DataError(explain(str(path), got=got, allowed="one cell per column", cure=cure))
    receivers = tuple(sorted([*fixed, *moving]))
    _check_size(path, len(rows) * len(receivers), len(receivers))
    values = _numbers(path, header, rows, column["timestamp"])
    rss = [column[name] if name in fixed else column[f"{name}_rss"] for name in receivers]
    place = np.empty((len(rows), len(receivers), 2))
    for i, name in enumerate(receivers):
        place[:, i] = fixed[name] if name in fixed else values[:, [column[f"{name}_x"], column[f"{name}_y"]]]
    place[np.all(place == NO_PLACE_DEG, axis=-1)] = np.nan
    rss_db = values[:, rss]
    return Table(
        timestamps=tuple(row[column["timestamp"]].strip() for row in rows),
        receivers=receivers,
        rss_db_NR=np.where(rss_db == NOT_HEARD_DB, -np.inf, rss_db),
        place_deg_NRE=place,
        truth_deg_NXE=values[:, [column[name] for name in TRUTH_COLUMNS[transmitters]]].reshape(-1, transmitters, 2),
    )


def _csv_receivers(
    path: Path, column: dict[str, int], locations: dict[str, Place | None], transmitters: int
) -> list[str]:
    """Names of the moving receivers, once every needed column was found and no other is there."""
    written = {count for count, names in TRUTH_COLUMNS.items() if names and set(names) <= set(column)}
    if written and transmitters not in written:
        raise DataError(other_count(path, COUNTS[min(written)], transmitters))
    fixed = [name for name, place in locations.items() if place is not None]
    moving = {name for name, place in locations.items() if place is None}
    moving |= {name.removesuffix("_rss") for name in column if name.endswith("_rss")}
    needed = ["timestamp", *TRUTH_COLUMNS[transmitters], *fixed]
    needed += [f"{name}_{part}" for name in sorted(moving) for part in ("rss", "x", "y")]
    unknown = sorted(set(column) - set(needed))
    for name in needed:
        if name not in column:
            near = difflib.get_close_matches(name, unknown, 1)
            cure = f"Rename column {near[0]!r}?" if near else "Add the column."
            if name.rpartition("_")[0] in moving or name in fixed:
                cure += f" Or remove the receiver from {LOCATIONS}."
            raise DataError(explain(str(path), got=f"no column {name!r}", allowed="all needed columns", cure=cure))
    if unknown:
        near = difflib.get_close_matches(unknown[0], needed, 1)
        cure = f"Give its place in {LOCATIONS}, or remove the column." + (f" Meant {near[0]!r}?" if near else "")
        allowed = f"timestamp, transmitter and receivers named in {LOCATIONS}, or NAME_rss, NAME_x, NAME_y"
        raise DataError(explain(str(path), got=f"unknown column {unknown[0]!r}", allowed=allowed, cure=cure))
    return sorted(moving)


def _numbers(path: Path, header: list[str], rows: list[list[str]], skip: int) -> np.ndarray:
    """All cells (N, columns) as float64; column `skip` is left 0."""
    values = np.zeros((len(rows), len(header)))
    for number, row in enumerate(rows):
        for i, cell in enumerate(row):
            if i == skip:
                continue
            try:
                values[number, i] = float(cell)
            except ValueError as error:
                raise DataError(not_a_number(f"{path}, row {number + 2}, column {header[i]!r}", cell)) from error
    return values


def read_json(path: Path, locations: dict[str, Place | None], transmitters: int = 1) -> Table:
    """Records by timestamp: `rx_data` [[power, latitude, longitude, name], …], `tx_coords` [[latitude, longitude], …].

    A record without a transmitter has no `tx_coords`, or an empty one.

    Raises:
        DataError: It is no such JSON, or a record holds another count of transmitters.
    """
    records = load_json(path)
    if not isinstance(records, dict) or not all(isinstance(r, dict) and "rx_data" in r for r in records.values()):
        cure = "A split file without records is given with --split, not as data."
        raise DataError(
            explain(str(path), got="other JSON", allowed="records with rx_data, keyed by timestamp", cure=cure)
        )
    readings = [_readings(path, stamp, record["rx_data"]) for stamp, record in records.items()]
    receivers = tuple(sorted({*locations, *(name for reading in readings for name in reading)}))
    _check_size(path, len(records) * len(receivers), len(receivers))
    index = {name: i for i, name in enumerate(receivers)}
    rss = np.full((len(records), len(receivers)), -np.inf)
    place = np.full((len(records), len(receivers), 2), np.nan)
    truth = np.empty((len(records), transmitters, 2))
    fixed = {name: at for name, at in locations.items() if at is not None}
    for name, at in fixed.items():
        place[:, index[name]] = at
    for row, (stamp, record) in enumerate(records.items()):
        for name, (power, at) in readings[row].items():
            rss[row, index[name]] = power
            if name not in fixed and at != (NO_PLACE_DEG, NO_PLACE_DEG):
                place[row, index[name]] = at
        truth[row] = np.reshape(_transmitters(path, stamp, record, transmitters), (transmitters, 2))
    rss[rss == NOT_HEARD_DB] = -np.inf
    return Table(tuple(records), receivers, rss, place, truth)


def _check_size(path: Path, cells: int, receivers: int) -> None:
    """Raise DataError before memory is asked for that a small file can want."""
    for got, most, what in ((cells, MAX_CELLS, "cells"), (receivers, MAX_RECEIVERS, "receivers")):
        if got > most:
            cure = "Give the file in parts."
            raise DataError(explain(str(path), got=f"{got} {what}", allowed=f"{most} or fewer", cure=cure))


def _readings(path: Path, stamp: str, rx_data: Any) -> dict[str, tuple[float, Place]]:
    """Power and place by receiver of one record."""
    found: dict[str, tuple[float, Place]] = {}
    for item in rx_data if isinstance(rx_data, list) else [rx_data]:
        good = isinstance(item, list) and len(item) == 4 and isinstance(item[3], str)
        if not good or any(isinstance(v, bool) or not isinstance(v, (int, float)) for v in item[:3]):
            raise DataError(not_a_number(f"{path}, record {stamp!r}", item))
        if item[3] in found:
            got = f"receiver {item[3]!r} twice in record {stamp!r}"
            raise DataError(explain(str(path), got=got, allowed="one reading each", cure="Remove one."))
        found[item[3]] = float(item[0]), (float(item[1]), float(item[2]))
    return found


def _transmitters(path: Path, stamp: str, record: dict[str, Any], count: int) -> list[Place]:
    """Latitude, longitude of a record's transmitters, which must be `count`."""
    places = record.get("tx_coords") or []
    if not isinstance(places, list) or len(places) != count:
        got = f"{len(places) or 'no'} transmitters in record {stamp!r}"
        raise DataError(other_count(path, got, count))
    return [checked_place(place, f"{path}, transmitter of record {stamp!r}") for place in places]


def other_count(path: Path, got: str, transmitters: int) -> str:
    """Message for a file whose transmissions have another count of transmitters than asked for."""
    cure = f"Give a file with {COUNTS[transmitters]} ({KIND[transmitters]}.csv or .json)."
    return explain(str(path), got=got, allowed=f"exactly {COUNTS[transmitters]}", cure=cure)
