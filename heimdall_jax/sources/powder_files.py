"""The file formats of the University of Utah "Wireless Device Localization Dataset" (POWDER): CSV, JSON, places.

Every reader gives one `Table`; what its numbers mean as sessions is said in `powder.py`.
"""

from __future__ import annotations

import ast
import csv
import difflib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from heimdall_jax.errors import DataError, StorageError, explain

LOCATIONS = "location_coordinates.json"
NOT_HEARD_DB = -101.0
"""What the authors write where a receiver measured nothing."""
NO_PLACE_DEG = -1.0
"""What they write for the latitude and longitude of a moving receiver that took no part."""
LEVELS_UP = 3
"""Folders above a data file in which the files that belong to it are looked for."""

Place = tuple[float, float]


@dataclass(frozen=True, eq=False)
class Table:
    """N transmissions at R receivers, as written.

    Attributes:
        timestamps: N timestamps, as written.
        receivers: R names, sorted.
        rss_db_NR: Received power; -inf where there is none.
        place_deg_NRE: Latitude, longitude of the receivers; NaN where none is given.
        truth_deg_NE: Latitude, longitude of the transmitter.
    """

    timestamps: tuple[str, ...]
    receivers: tuple[str, ...]
    rss_db_NR: Float64[ndarray, "N R"]
    place_deg_NRE: Float64[ndarray, "N R 2"]
    truth_deg_NE: Float64[ndarray, "N 2"]


def beside(path: Path, name: str) -> Path | None:
    """The file `name` (may hold folders) in the folder `path`, beside the file `path`, or in a folder above it."""
    start = path.absolute()
    for folder in [start, *start.parents][: LEVELS_UP + 1]:
        if (folder / name).is_file():
            return folder / name
    return None


def read_text(path: Path) -> str:
    """The text of a UTF-8 file, with or without a byte-order mark.

    Raises:
        StorageError: It cannot be read.
        DataError: It is not text.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(explain(str(path), got=error.reason, allowed="UTF-8 text", cure="Check the file.")) from error
    except OSError as error:
        raise StorageError(
            explain(str(path), got=error.strerror or error, allowed="a readable file", cure="Check the path.")
        ) from error


def read_locations(path: Path) -> dict[str, Place | None]:
    """Latitude, longitude of each fixed receiver; None marks a moving one.

    The file is a Python literal (it holds `None` and tuples) despite its name.

    Raises:
        DataError: It is no such literal, or a place is not on Earth.
    """
    allowed = "a mapping of receiver names to (latitude, longitude) or None"
    try:
        tree = ast.literal_eval(read_text(path).strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        cure = "Is it cut off? Fetch it again."
        raise DataError(explain(str(path), got=f"no Python literal ({error})", allowed=allowed, cure=cure)) from error
    if not isinstance(tree, dict) or not tree:
        raise DataError(explain(str(path), got=type(tree).__name__, allowed=allowed, cure="Use the data set's own."))
    return {
        str(name): None if place is None else checked_place(place, f"{path.name}, receiver {name}")
        for name, place in tree.items()
    }


def checked_place(place: Any, where: str) -> Place:
    """`place` as latitude, longitude in degrees.

    Raises:
        DataError: It is no pair of numbers, or out of range; the message says if the two look swapped.
    """
    good = isinstance(place, (list, tuple)) and len(place) == 2
    if not good or any(isinstance(v, bool) or not isinstance(v, (int, float)) for v in place):
        raise DataError(
            explain(where, got=repr(place), allowed="two numbers: latitude, longitude", cure="Correct the place.")
        )
    latitude, longitude = float(place[0]), float(place[1])
    if abs(latitude) <= 90 and abs(longitude) <= 180:
        return latitude, longitude
    swapped = abs(longitude) <= 90 and abs(latitude) <= 180
    cure = "Latitude and longitude look swapped: latitude comes first." if swapped else "Correct the place."
    allowed = "latitude in [-90, 90], longitude in [-180, 180] degrees"
    raise DataError(explain(where, got=f"({latitude}, {longitude})", allowed=allowed, cure=cure))


def read_csv(path: Path, locations: dict[str, Place | None]) -> Table:
    """One row per transmission.

    Columns: `timestamp`; per fixed receiver its power under its name; per moving one `NAME_rss`, `NAME_x`
    (latitude), `NAME_y` (longitude); `tx_x_coord`, `tx_y_coord`, the transmitter's latitude and longitude.

    Raises:
        DataError: A column is missing or unknown, a cell is no number, or the file holds another count of transmitters.
    """
    try:
        header, *rows = list(csv.reader(read_text(path).splitlines(), strict=True)) or [[]]
    except csv.Error as error:
        raise DataError(explain(str(path), got=error, allowed="comma-separated values", cure="Check it.")) from error
    column = {name.strip(): i for i, name in enumerate(header)}
    fixed = {name: place for name, place in locations.items() if place is not None}
    moving = _csv_receivers(path, column, locations)
    rows = [row for row in rows if row]
    for number, row in enumerate(rows, 2):
        if len(row) != len(header):
            got = f"{len(row)} cells in row {number} for {len(header)} columns"
            cure = "Is the file cut off? Fetch it again, or remove the row."
            raise DataError(explain(str(path), got=got, allowed="one cell per column", cure=cure))
    receivers = tuple(sorted([*fixed, *moving]))
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
        truth_deg_NE=values[:, [column["tx_x_coord"], column["tx_y_coord"]]],
    )


def _csv_receivers(path: Path, column: dict[str, int], locations: dict[str, Place | None]) -> list[str]:
    """Names of the moving receivers, once every needed column was found and no other is there."""
    if "tx_1_x_coord" in column:
        raise DataError(not_single(path, "two transmitters"))
    fixed = [name for name, place in locations.items() if place is not None]
    moving = {name for name, place in locations.items() if place is None}
    moving |= {name.removesuffix("_rss") for name in column if name.endswith("_rss")}
    needed = ["timestamp", "tx_x_coord", "tx_y_coord", *fixed]
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


def read_json(path: Path, locations: dict[str, Place | None]) -> Table:
    """Records by timestamp: `rx_data` [[power, latitude, longitude, name], …], `tx_coords` [[latitude, longitude]].

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
    index = {name: i for i, name in enumerate(receivers)}
    rss = np.full((len(records), len(receivers)), -np.inf)
    place = np.full((len(records), len(receivers), 2), np.nan)
    truth = np.empty((len(records), 2))
    fixed = {name: at for name, at in locations.items() if at is not None}
    for name, at in fixed.items():
        place[:, index[name]] = at
    for row, (stamp, record) in enumerate(records.items()):
        for name, (power, at) in readings[row].items():
            rss[row, index[name]] = power
            if name not in fixed and at != (NO_PLACE_DEG, NO_PLACE_DEG):
                place[row, index[name]] = at
        truth[row] = _transmitter(path, stamp, record)
    rss[rss == NOT_HEARD_DB] = -np.inf
    return Table(tuple(records), receivers, rss, place, truth)


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


def _transmitter(path: Path, stamp: str, record: dict[str, Any]) -> Place:
    """Latitude, longitude of a record's only transmitter."""
    places = record.get("tx_coords") or []
    if not isinstance(places, list) or len(places) != 1:
        raise DataError(not_single(path, f"{len(places) or 'no'} transmitters in record {stamp!r}"))
    return checked_place(places[0], f"{path}, transmitter of record {stamp!r}")


def load_json(path: Path) -> Any:
    """Parsed JSON; a key that comes twice in one object is an error.

    Raises:
        DataError: It is no JSON, is cut off, or repeats a key.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        tree = dict(pairs)
        if len(tree) < len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise DataError(
                explain(str(path), got=f"key {twice!r} twice", allowed="one record each", cure="Remove one.")
            )
        return tree

    try:
        return json.loads(read_text(path), object_pairs_hook=unique)
    except (json.JSONDecodeError, RecursionError) as error:
        cure = "Is the file cut off? Fetch it again."
        raise DataError(explain(str(path), got=f"no JSON ({error})", allowed="JSON", cure=cure)) from error


def not_single(path: Path, got: str) -> str:
    """Message for a file whose transmissions have another count of transmitters than one."""
    cure = "Give a single-transmitter file (single_tx.csv or single_tx.json)."
    return explain(str(path), got=got, allowed="exactly one transmitter", cure=cure)


def not_a_number(where: str, got: object) -> str:
    """Message for a value that is none."""
    return explain(where, got=repr(got), allowed="numbers", cure="Correct it, or remove the row.")
