"""POWDER: received power of 462.7 MHz hand-held transmitters at 10-25 receivers, some on buses, on a campus.

Data: "Wireless Device Localization Dataset", (c) 2024 University of Utah, MIT licence; read as distributed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import SupportsIndex

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from heimdall_jax.errors import DataError, StorageError, explain
from heimdall_jax.geodesy import ground_distance_m
from heimdall_jax.sources.powder_files import (
    LOCATIONS,
    Place,
    beside,
    checked_place,
    not_a_number,
    read_locations,
)
from heimdall_jax.sources.powder_tables import COUNTS, KIND, MAX_POWER_DB, Table, read_csv, read_json
from heimdall_jax.types import Session

FREQUENCY_HZ = 462.7e6
PLACES_AT_ONCE = 4096
"""Whose distances to all fixed receivers are held."""
REACH_M = 100_000.0
"""A receiver or transmitter further than this from every fixed receiver is at an impossible place."""


@dataclass(frozen=True, eq=False)
class PowderData:
    """Sessions in the order of time, all with the same receivers in the order of their names; a `SessionSource`.

    Attributes:
        sessions: One per recording. `session_id` is its timestamp as written. Timestamps name no zone and are
            taken as UTC, so `start_time_s` may be off by a constant. `truth_deg` is None unless one transmitter was on.
        places_deg_NXE: Latitude, longitude of each of the X transmitters that were on at once, by session.
        skipped: How often each thing was masked or skipped, by reason.
        origin_deg: Mean of the fixed receivers' places: the same whatever the split.
        file: The file the sessions were read from.
        receivers: Names of all receivers.
        notes: What was chosen where there was a choice.
    """

    sessions: tuple[Session, ...]
    places_deg_NXE: Float64[ndarray, "N X 2"]
    skipped: dict[str, int]
    origin_deg: Place
    file: Path
    receivers: tuple[str, ...]
    notes: tuple[str, ...] = field(default=())

    @property
    def transmissions(self) -> tuple[Session, ...]:
        """The sessions: nothing is left to read."""
        return self.sessions

    def __len__(self) -> int:
        return len(self.sessions)

    def __getitem__(self, index: SupportsIndex, /) -> Session:
        return self.sessions[index]

    def __getitems__(self, indices: Iterable[SupportsIndex], /) -> list[Session]:
        return [self.sessions[i] for i in indices]


def read_powder(path: str | Path, *, min_receivers: int = 3, transmitters: int = 1) -> PowderData:
    """Read the data set's folder, whole or in part, or one CSV or JSON file of its format.

    Of a folder, the file with that count of transmitters at once is read: 0, 1 or 2.

    A power of -101 or -Infinity dB means no reading. The receiver is then not present either: here it was mostly off
    (readings go down to a noise floor of -99.7 dB, and receivers are silent for hours), so its silence tells the day
    and not the power. A receiver at an impossible place is masked and counted.

    Raises:
        StorageError: Nothing readable at `path`.
        DataError: The files break the format (`powder_tables`), hold another count of transmitters or a timestamp
            twice, or no row is left.
    """
    if transmitters not in COUNTS:
        cure = "Ask for one of the counts that the data set has."
        raise DataError(explain("transmitters at once", got=transmitters, allowed=sorted(COUNTS), cure=cure))
    file, notes = _choose(Path(path), transmitters)
    locations_file = beside(file, LOCATIONS)
    if locations_file is None and file.suffix.lower() == ".csv":
        cure = f"Put the data set's {LOCATIONS} beside the CSV."
        raise DataError(
            explain(str(file), got=f"no {LOCATIONS}", allowed="a CSV with its receivers' places", cure=cure)
        )
    locations = read_locations(locations_file) if locations_file else {}
    fixed = {name: place for name, place in locations.items() if place is not None}
    table = (read_csv if file.suffix.lower() == ".csv" else read_json)(file, locations, transmitters)
    if not table.timestamps:
        raise DataError(explain(str(file), got="no rows", allowed="one or more", cure="Fetch the file again."))
    usable = {name: place for name, place in fixed.items() if place != (0.0, 0.0)}
    origin = _origin(usable, table)
    skipped = Counter({"fixed receiver at (0, 0), masked everywhere": len(fixed) - len(usable)})
    sessions, places = _sessions(file, table, list(usable.values()), origin, min_receivers, skipped)
    if not sessions:
        got = f"no usable row ({', '.join(f'{n} {reason}' for reason, n in skipped.items() if n)})"
        cure = "Lower data.min_receivers, or give the whole file."
        raise DataError(explain(str(file), got=got, allowed="one or more", cure=cure))
    counts = {reason: n for reason, n in skipped.items() if n}
    notes = (*notes, "timestamps taken as UTC")
    return PowderData(tuple(sessions), places, counts, origin, file, table.receivers, notes)


def file_with(path: str | Path, transmitters: int) -> Path | None:
    """The data set's file with so many transmitters at once: in the folder `path`, beside the file, or above either."""
    return next((file for name in _names(transmitters) if (file := beside(Path(path), name)) is not None), None)


def _names(transmitters: int) -> list[str]:
    """Where a folder has its file with so many transmitters, the first to be preferred."""
    return [f"{folder}{KIND[transmitters]}.{kind}" for folder in ("", "all_data/") for kind in ("csv", "json")]


def _choose(path: Path, transmitters: int) -> tuple[Path, tuple[str, ...]]:
    """The file at `path` with so many transmitters at once, and what was chosen."""
    if path.is_file():
        return path, ()
    if not path.is_dir():
        cure = "Check the path, or download the data set."
        raise StorageError(
            explain("POWDER data", got=f"nothing at {path}", allowed="its folder, a CSV or JSON file", cure=cure)
        )
    kind = KIND[transmitters]
    cure = f"Give the data set's folder with {kind}.csv or {kind}.json."
    others = sorted(
        file
        for folder in (path, path / "all_data")
        for pattern in ("*.csv", "*.json")
        for file in folder.glob(pattern)
        if file.name != LOCATIONS
    )
    found = [path / name for name in _names(transmitters) if (path / name).is_file()][:1] or others
    if not found:
        raise DataError(
            explain(str(path), got="a folder without recordings", allowed=f"{kind}.csv or .json", cure=cure)
        )
    if len(found) > 1:
        got = ", ".join(file.name for file in found)
        raise DataError(explain(str(path), got=got, allowed=f"a file with {COUNTS[transmitters]}", cure=cure))
    left = [str(file.relative_to(path)) for file in others if file != found[0]]
    chosen = f"read {found[0].relative_to(path)}" + (f", not {', '.join(left)}" if left else "")
    return found[0], (chosen,)


def _origin(usable: dict[str, Place], table: Table) -> Place:
    """Mean of the fixed receivers' places; without any, of the receivers that keep one place, or of all places."""
    places = np.array(list(usable.values())).reshape(-1, 2)
    if not len(places):
        means = []
        for place in np.swapaxes(table.place_deg_NRE, 0, 1):
            known = np.unique(place[~np.isnan(place).any(axis=-1) & place.any(axis=-1)], axis=0)
            means += [known[0]] if len(known) == 1 else []
        every = table.place_deg_NRE.reshape(-1, 2)
        places = np.array(means) if means else every[~np.isnan(every).any(axis=-1) & every.any(axis=-1)]
    if not len(places):
        raise DataError(
            explain("receivers", got="no place at all", allowed="places", cure=f"Fill {LOCATIONS} with places.")
        )
    latitude, longitude = places.mean(axis=0)
    return float(latitude), float(longitude)


def _sessions(
    file: Path, table: Table, fixed: list[Place], origin: Place, min_receivers: int, skipped: Counter[str]
) -> tuple[list[Session], np.ndarray]:
    """The table's usable rows in the order of time and their transmitters' places (N, X, E).

    `skipped` counts what was masked and left out.
    """
    _check_numbers(file, table)
    times = _times(file, table.timestamps)
    around = np.array(fixed or [origin])
    placed = _near(table.place_deg_NRE, around)
    detected = np.isfinite(table.rss_db_NR)
    heard = detected & placed
    skipped["reading of a receiver at an impossible place, masked"] += int((detected & ~placed).sum())
    good_truth = _near(table.truth_deg_NXE, around).all(axis=1)
    enough = heard.sum(axis=1) >= min_receivers
    skipped["transmitter at an impossible place"] += int((~good_truth).sum())
    skipped[f"heard by fewer than {min_receivers} receivers"] += int((good_truth & ~enough).sum())
    # Arithmetic on a masked value must stay finite, or its gradient would be NaN: any finite value will do.
    place = np.where(placed[..., None], table.place_deg_NRE, np.array(origin))
    rss = np.where(heard, table.rss_db_NR, 0.0).astype(np.float32)
    rows = sorted(np.flatnonzero(good_truth & enough).tolist(), key=lambda i: (times[i], table.timestamps[i]))
    sessions = [
        Session(
            session_id=table.timestamps[i],
            start_time_s=times[i],
            receivers=table.receivers,
            receiver_deg_RE=place[i],
            present_R=heard[i],
            heard_R=heard[i],
            rss_db_R=rss[i],
            truth_deg=_only(table.truth_deg_NXE[i]),
            frequency_hz=FREQUENCY_HZ,
        )
        for i in rows
    ]
    return sessions, table.truth_deg_NXE[rows]


def _check_numbers(file: Path, table: Table) -> None:
    """Every power is a number or missing, and every transmitter's place is on Earth."""
    wrong = ~((np.abs(table.rss_db_NR) <= MAX_POWER_DB) | np.isneginf(table.rss_db_NR))
    if wrong.any():
        row, receiver = np.argwhere(wrong)[0]
        where = f"{file}, {table.timestamps[row]!r}, receiver {table.receivers[receiver]}"
        raise DataError(not_a_number(where, float(table.rss_db_NR[row, receiver])))
    for stamp, truths in zip(table.timestamps, table.truth_deg_NXE.tolist(), strict=True):
        for truth in truths:
            checked_place(truth, f"{file}, transmitter at {stamp!r}")


def _only(truth_deg_XE: np.ndarray) -> Place | None:
    """The place of a recording's transmitter, if there is exactly one."""
    return (float(truth_deg_XE[0, 0]), float(truth_deg_XE[0, 1])) if len(truth_deg_XE) == 1 else None


def _near(place_deg: np.ndarray, around_deg: np.ndarray) -> np.ndarray:
    """Whether places (..., 2) are known and within reach of one of the places (N, 2)."""
    known = ~np.isnan(place_deg).any(axis=-1) & (np.abs(place_deg) <= (90.0, 180.0)).all(axis=-1)
    near = np.zeros(known.shape, bool)
    places, inverse = np.unique(place_deg[known], axis=0, return_inverse=True)
    nearest_m = np.full(len(places), math.inf)
    for begin in range(0, len(places), PLACES_AT_ONCE):
        here = slice(begin, begin + PLACES_AT_ONCE)
        nearest_m[here] = ground_distance_m(places[here, None], around_deg[None]).min(axis=1, initial=math.inf)
    near[known] = (nearest_m <= REACH_M)[inverse.reshape(-1)]
    return near


def _times(file: Path, timestamps: tuple[str, ...]) -> list[float]:
    """Unix seconds of the timestamps, each of which may come once."""
    if len(set(timestamps)) < len(timestamps):
        twice, count = Counter(timestamps).most_common(1)[0]
        got = f"timestamp {twice!r} {count} times"
        raise DataError(explain(str(file), got=got, allowed="each once", cure="Remove the repeated rows."))
    times = []
    for stamp in timestamps:
        try:
            moment = datetime.fromisoformat(stamp)
        except ValueError as error:
            raise DataError(
                explain(str(file), got=f"timestamp {stamp!r}", allowed="YYYY-MM-DD hh:mm:ss", cure="Correct it.")
            ) from error
        times.append((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
    return times
