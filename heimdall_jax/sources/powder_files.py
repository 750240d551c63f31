"""The files of the University of Utah "Wireless Device Localization Dataset" (POWDER): text, JSON, places, folders.

The recordings in them are read in `powder_tables.py`; what their numbers mean as sessions is said in `powder.py`.
"""

from __future__ import annotations

import ast
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

from heimdall_jax.errors import DataError, explain
from heimdall_jax.outside import MAX_TEXT_BYTES, Pairs, parse_json, read_file

LOCATIONS = "location_coordinates.json"
LEVELS_UP = 3
"""Folders above a data file in which the files that belong to it are looked for."""
MAX_DEGREES = 1e9
"""Where numbers that are no degrees end in messages."""
MAX_PLACES_BYTES = 64 << 10
"""Of the file of places, which has 2 kB: longer Python can exhaust the stack of who parses it."""

Place = tuple[float, float]


def beside(path: Path, name: str) -> Path | None:
    """The file `name` (may hold folders) in the folder `path`, beside the file `path`, or in a folder above it."""
    start = path.absolute()
    for folder in [start, *start.parents][: LEVELS_UP + 1]:
        if (folder / name).is_file():
            return folder / name
    return None


def read_text(path: Path, most_bytes: int = MAX_TEXT_BYTES) -> str:
    """The text of a UTF-8 file, with or without a byte-order mark.

    Raises:
        StorageError: It cannot be read.
        DataError: It is not text, or more of it than is allowed.
    """
    try:
        return read_file(path, most_bytes).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(explain(str(path), got=error.reason, allowed="UTF-8 text", cure="Check the file.")) from error


def read_locations(path: Path) -> dict[str, Place | None]:
    """Latitude, longitude of each fixed receiver; None marks a moving one.

    The file is a Python literal (it holds `None` and tuples) despite its name.

    Raises:
        DataError: It is no such literal, or a place is not on Earth.
    """
    allowed = "a mapping of receiver names to (latitude, longitude) or None"
    try:
        with warnings.catch_warnings(action="ignore"):  # of its compiler, about odd numbers
            tree = ast.literal_eval(read_text(path, MAX_PLACES_BYTES).strip())
    except DataError:
        raise
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:
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
    latitude, longitude = (float(max(min(value, MAX_DEGREES), -MAX_DEGREES)) for value in place)
    if abs(latitude) <= 90 and abs(longitude) <= 180:
        return latitude, longitude
    swapped = abs(longitude) <= 90 and abs(latitude) <= 180
    cure = "Latitude and longitude look swapped: latitude comes first." if swapped else "Correct the place."
    allowed = "latitude in [-90, 90], longitude in [-180, 180] degrees"
    raise DataError(explain(where, got=f"({latitude}, {longitude})", allowed=allowed, cure=cure))


def load_json(path: Path) -> Any:
    """Parsed JSON; a key that comes twice in one object is an error.

    Raises:
        DataError: It is no JSON, is cut off, repeats a key, or is larger than `outside` allows.
    """

    def unique(pairs: Pairs) -> dict[str, Any]:
        tree = dict(pairs)
        if len(tree) < len(pairs):
            twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
            raise DataError(
                explain(str(path), got=f"key {twice!r} twice", allowed="one record each", cure="Remove one.")
            )
        return tree

    try:
        return parse_json(read_text(path), each_object=unique)
    except DataError:
        raise
    except ValueError as error:
        cure = "Is the file cut off? Fetch it again."
        raise DataError(explain(str(path), got=f"no JSON ({error})", allowed="JSON", cure=cure)) from error


def not_a_number(where: str, got: object) -> str:
    """Message for a value that is none."""
    return explain(where, got=repr(got), allowed="numbers", cure="Correct it, or remove the row.")
