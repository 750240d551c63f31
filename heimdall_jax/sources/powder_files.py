"""The files of the University of Utah "Wireless Device Localization Dataset" (POWDER): text, JSON, places, folders.

The recordings in them are read in `powder_tables.py`; what their numbers mean as sessions is said in `powder.py`.
"""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

from heimdall_jax.errors import DataError, StorageError, explain

LOCATIONS = "location_coordinates.json"
LEVELS_UP = 3
"""Folders above a data file in which the files that belong to it are looked for."""

Place = tuple[float, float]


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


def not_a_number(where: str, got: object) -> str:
    """Message for a value that is none."""
    return explain(where, got=repr(got), allowed="numbers", cure="Correct it, or remove the row.")
