"""Where receivers are, by their names: a folder of Octave files `STATION.txt`, or a mapping."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Mapping
from pathlib import Path

from heimdall_jax.errors import DataError, HeimdallError, StorageError, explain
from heimdall_jax.sources.powder_files import checked_place, read_text
from heimdall_jax.types import Station

COORDINATES = re.compile(r"'coord'\s*,\s*\[\s*([^\s,;\]]{1,40})\s*[,;\s]\s*([^\s,;\]]{1,40})\s*\]")
MAX_PLACE_BYTES = 65_536
MOST_PLACES = 2_000
"""Files of a folder that are read for stations that no recording is of."""

Places = str | Path | Mapping[str, Station]


def read_place(path: Path, name: str) -> Station:
    """The receiver `name` from an Octave file with `'coord', [LATITUDE,LONGITUDE]`; its altitude is unknown, so 0.

    Raises:
        StorageError: The file cannot be read.
        DataError: It is large, or holds no such pair.
    """
    allowed = "'coord', [LATITUDE,LONGITUDE]"
    try:
        size = path.stat().st_size
    except OSError as error:
        got = error.strerror or error
        raise StorageError(explain(str(path), got=got, allowed="a readable file", cure="Check the path.")) from error
    match = COORDINATES.search(read_text(path)) if size <= MAX_PLACE_BYTES else None
    try:
        pair = [float(text) for text in match.groups()] if match else None
    except ValueError:
        pair = None
    if pair is None or not all(math.isfinite(value) for value in pair):
        got = f"{size} bytes without it" if match is None else match.group(0)
        raise DataError(explain(str(path), got=got, allowed=allowed, cure="Write the receiver's place."))
    latitude, longitude = checked_place(pair, str(path))
    return Station(name, latitude, longitude)


def place_of(name: str, stations: Places) -> Station:
    """Where the receiver `name` is. Octave allows no `-` in names, so its files have `_` there.

    Raises:
        StorageError: Its file cannot be read.
        DataError: There is none, or its place is none.
    """
    keys = (name, name.replace("-", "_"))
    if isinstance(stations, Mapping):
        found = next((stations[key] for key in keys if key in stations), None)
        known = ", ".join(stations)
    else:
        folder = Path(stations)
        file = next((folder / f"{key}.txt" for key in keys if (folder / f"{key}.txt").is_file()), None)
        found = read_place(file, name) if file else None
        known = ", ".join(sorted(path.stem for path in folder.glob("*.txt"))[:20])
    if found is None:
        cure = f"Add {name}.txt with its coordinates, or leave the recording out."
        raise DataError(explain(f"place of receiver {name}", got="none", allowed=known or "one each", cure=cure))
    return checked_station(name, found.latitude_deg, found.longitude_deg, found.altitude_m, f"receiver {name}")


def checked_station(name: str, latitude: float, longitude: float, altitude_m: float, where: str) -> Station:
    """A station whose place is on Earth and was filled in.

    Raises:
        DataError: It is not; the message says if latitude and longitude look swapped.
    """
    latitude, longitude = checked_place((latitude, longitude), where)
    if (latitude, longitude) == (0.0, 0.0):
        raise DataError(explain(where, got="(0, 0)", allowed="its place", cure="Correct its place."))
    return Station(name, latitude, longitude, altitude_m)


def known_places(stations: Places) -> dict[str, Station]:
    """All stations by their names, up to `MOST_PLACES`; files that hold no place are passed over."""
    if isinstance(stations, Mapping):
        return dict(stations)
    found = {}
    for path in sorted(Path(stations).glob("*.txt"))[:MOST_PLACES]:
        with contextlib.suppress(HeimdallError):
            found[path.stem] = read_place(path, path.stem)
    return found
