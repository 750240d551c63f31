"""A user's own labelled recordings, listed in two CSV files, into an embedded catalogue.

`stations.csv`: name, latitude, longitude, and altitude_m where known.
`recordings.csv`, a row per station and transmission: session (any name), start (ISO 8601 with its zone), latitude,
longitude (of the transmitter), frequency_hz, station, file (`.npy`, `.sigmf-meta` or `.sigmf`, relative to the CSV),
sample_rate_hz, and where known error_margin_m, rss_db, snr_db, clock_sigma_s. What a SigMF recording says of its rate,
start, centre and clock counts; it may not contradict its row.
"""

from __future__ import annotations

import csv
import datetime as dt
import difflib
import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from heimdall_jax.errors import ConfigError, DataError, explain
from heimdall_jax.progress import counted
from heimdall_jax.sources.catalogue import DATABASE, embedded
from heimdall_jax.sources.catalogue_sql import add_session, create_catalogue
from heimdall_jax.sources.plausible import RANGES, YEARS
from heimdall_jax.sources.powder_files import checked_place, not_a_number, read_text
from heimdall_jax.sources.recordings import RecordingMetadata, read_iq
from heimdall_jax.sources.rows import Recording
from heimdall_jax.sources.session_iq import RATE_TOLERANCE, SPAN_TOLERANCE_S
from heimdall_jax.sources.sigmf import ARCHIVE, DATA, META, read_sigmf
from heimdall_jax.sources.sigmf_decode import SigmfRecording
from heimdall_jax.sources.swapped import refuse_swapped_stations, refuse_swapped_transmitter
from heimdall_jax.types import Station

SHARED = ("start", "latitude", "longitude", "frequency_hz", "sample_rate_hz")
"""Columns that every row of a session repeats."""
DEFAULT_MARGIN_M = 50.0
LEAST_HZ = {"sample_rate_hz": 250.0, "frequency_hz": 1000.0}
"""Less is taken for kHz or MHz."""

POWER_AT_ONCE = 1 << 20
"""Samples that are squared in double precision."""

Row = dict[str, str]


def import_recordings(folder: str | Path, out: str | Path) -> int:
    """Copy the recordings that `folder` lists into a new catalogue in `out`; gives the number of sessions.

    Where `rss_db` is left out, it is the recording's mean power in dB relative to full scale.

    Raises:
        ConfigError: `out` holds a catalogue already.
        StorageError: A file cannot be read, or the catalogue cannot be written.
        DataError: A column is missing, a value is wrong, or a recording breaks its format; nothing is written then.
    """
    root = Path(folder)
    if (Path(out) / DATABASE).exists():
        cure = "Choose another folder, or remove it."
        raise ConfigError(explain(str(out), got="a catalogue is there already", allowed="a new one", cure=cure))
    stations = {row["name"]: _station(row) for row in _rows(root / "stations.csv", ("name", "latitude", "longitude"))}
    sessions: dict[str, list[Row]] = {}
    for row in _rows(root / "recordings.csv", ("session", "station", "file", *SHARED)):
        sessions.setdefault(row["session"], []).append(row)
    refuse_swapped_stations(list(stations.values()))
    if not sessions:
        raise DataError(explain(str(root / "recordings.csv"), got="no rows", allowed="one or more", cure="Fill it."))
    # All is read once before anything is written, so that a bad row leaves no half of a catalogue.
    for rows in counted(sessions.values(), len(sessions), "checking recordings", "sessions"):
        _, truth_deg, frequency_hz, *_ = _session(rows)
        heard_at = [_recording(root, row, stations).station for row in rows]
        refuse_swapped_transmitter(truth_deg, heard_at, frequency_hz, f"session {rows[0]['session']!r}")
    url, store = embedded(out)
    create_catalogue(url)
    for name, rows in counted(sessions.items(), len(sessions), "copying recordings", "sessions"):
        start, truth_deg, frequency_hz, sample_rate_hz, margin_m = _session(rows)
        recordings = [_recording(root, row, stations) for row in rows]
        longest = max(len(recording.iq_T) for recording in recordings if recording.iq_T is not None)
        add_session(
            url,
            store,
            name=name,
            start=start,
            duration_s=longest / sample_rate_hz,
            truth_deg=truth_deg,
            recordings=recordings,
            frequency_hz=frequency_hz,
            sample_rate_hz=sample_rate_hz,
            error_margin_m=margin_m,
        )
    return len(sessions)


def _session(rows: list[Row]) -> tuple[dt.datetime, tuple[float, float], float, float, float]:
    """Start, transmitter, frequency, sample rate and error margin that a session's rows share."""
    first = rows[0]
    where = f"session {first['session']!r}"
    for column in SHARED:
        values = sorted({row[column] for row in rows})
        if len(values) > 1:
            cure = "Give it once per session, or name the sessions apart."
            raise DataError(explain(f"{where}, {column}", got=values, allowed="the same in all rows", cure=cure))
    held = [row["station"] for row in rows]
    if len(set(held)) < len(held):
        raise DataError(explain(where, got=f"stations {held}", allowed="each once", cure="Remove the repeated row."))
    try:
        start = dt.datetime.fromisoformat(first["start"])
    except ValueError as error:
        raise DataError(
            explain(f"{where}, start", got=repr(first["start"]), allowed="2026-01-31T12:00:00Z", cure="Correct it.")
        ) from error
    if start.tzinfo is None or not YEARS[0] <= start.year < YEARS[1]:
        allowed = f"a time with its zone, from {YEARS[0]} to {YEARS[1] - 1}"
        raise DataError(explain(f"{where}, start", got=first["start"], allowed=allowed, cure="Append Z for UTC."))
    truth_deg = checked_place((_number(first, "latitude"), _number(first, "longitude")), where)
    margin_m = _number(first, "error_margin_m") if first.get("error_margin_m") else DEFAULT_MARGIN_M
    frequency_hz, rate_hz = _number(first, "frequency_hz"), _number(first, "sample_rate_hz")
    return start, truth_deg, frequency_hz, rate_hz, margin_m


def _recording(root: Path, row: Row, stations: dict[str, Station]) -> Recording:
    """The samples and numbers of a row."""
    where = f"session {row['session']!r}"
    if row["station"] not in stations:
        near = difflib.get_close_matches(row["station"], stations, 1)
        cure = f"Did you mean {near[0]!r}?" if near else "Add it to stations.csv."
        raise DataError(explain(f"{where}, station", got=row["station"], allowed="a name in stations.csv", cure=cure))
    iq_T, metadata = _samples(_inside(root, row["file"]), row)
    power = _mean_power(iq_T)
    if not 0 < power < float("inf"):
        raise DataError(
            explain(
                row["file"], got=f"mean power {power}", allowed="finite samples, not all zero", cure="Record again."
            )
        )
    rss_db = _number(row, "rss_db") if row.get("rss_db") else 10 * np.log10(power)
    snr_db = _number(row, "snr_db") if row.get("snr_db") else None
    return Recording(stations[row["station"]], float(rss_db), snr_db, iq_T, metadata)


def _samples(path: Path, row: Row) -> tuple[np.ndarray, RecordingMetadata]:
    """What a row's file holds, and what is known of it from there and from the row."""
    clock_sigma_s = _number(row, "clock_sigma_s") if row.get("clock_sigma_s") else None
    rate_hz, frequency_hz = _number(row, "sample_rate_hz"), _number(row, "frequency_hz")
    start_ns = _start_ns(dt.datetime.fromisoformat(row["start"]))
    if path.suffix in (META, DATA, ARCHIVE):
        held = read_sigmf(path)
        _check_agreement(held, row, rate_hz, start_ns)
        iq_T, rate_hz, frequency_hz = held.iq_T, held.sample_rate_hz, held.frequency_hz or frequency_hz
        clock_sigma_s = held.clock_sigma_s if clock_sigma_s is None else clock_sigma_s
        start_ns = start_ns if held.start_ns is None else held.start_ns
    else:
        iq_T = np.asarray(read_iq(path))
    return iq_T, RecordingMetadata(
        start_time_ns=None if clock_sigma_s is None else start_ns,
        sample_rate_hz=rate_hz,
        clock_sigma_s=clock_sigma_s,
        centre_frequency_hz=frequency_hz,
    )


def _check_agreement(held: SigmfRecording, row: Row, rate_hz: float, start_ns: int) -> None:
    """Raise DataError where a recording is of another station, rate or time than its row."""
    apart_s = 0.0 if held.start_ns is None else abs(held.start_ns - start_ns) / 1e9
    near_s = len(held.iq_T) / held.sample_rate_hz + SPAN_TOLERANCE_S
    same_station = held.station in (None, row["station"])
    for name, agrees, got, allowed in (
        ("heimdall:station", same_station, held.station, row["station"]),
        ("core:sample_rate", abs(held.sample_rate_hz / rate_hz - 1) <= RATE_TOLERANCE, held.sample_rate_hz, rate_hz),
        ("core:datetime", apart_s <= near_s, f"{apart_s:g} s from the row's start", f"{near_s:g} s or less"),
    ):
        if not agrees:
            raise DataError(explain(f"{row['file']}, {name}", got=got, allowed=allowed, cure="Correct recordings.csv."))


def _inside(root: Path, file: str) -> Path:
    """The path of a file that a table names, once it is known to lie in the table's folder."""
    try:
        path = (root / file).resolve()
        inside = path.is_relative_to(root.resolve()) and "\0" not in file
    except (OSError, ValueError, RuntimeError):  # a name too long, with a NUL, a loop of links
        path, inside = root, False
    if not inside:
        allowed, cure = f"a path inside {root}", "Copy the recording there."
        raise DataError(explain("recordings.csv, file", got=repr(file), allowed=allowed, cure=cure))
    return path


def _mean_power(iq_T: np.ndarray) -> float:
    """Of samples; NaN or infinite where one of them is."""
    total = 0.0
    for begin in range(0, len(iq_T), POWER_AT_ONCE):
        with np.errstate(all="ignore"):
            total += float(np.sum(np.abs(iq_T[begin : begin + POWER_AT_ONCE].astype(np.complex128)) ** 2))
    return total / len(iq_T)


def _start_ns(start: dt.datetime) -> int:
    """Unix time; exact, as a table's microseconds are."""
    return (start - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(microseconds=1) * 1000


def _station(row: Row) -> Station:
    where = f"station {row['name']!r}"
    latitude, longitude = checked_place((_number(row, "latitude"), _number(row, "longitude")), where)
    if (latitude, longitude) == (0.0, 0.0):
        raise DataError(explain(where, got="(0, 0)", allowed="its place", cure="Correct stations.csv."))
    if abs(latitude) <= math.pi / 2 and abs(longitude) <= math.pi:  # all of it sea, in the Gulf of Guinea
        got, cure = f"({latitude:g}, {longitude:g})", "These look like radians: multiply them by 180 / pi."
        raise DataError(explain(where, got=got, allowed="a place on land, in degrees", cure=cure))
    return Station(row["name"], latitude, longitude, _number(row, "altitude_m") if row.get("altitude_m") else 0.0)


def _number(row: Row, column: str) -> float:
    try:
        value = float(row[column])
    except ValueError as error:
        raise DataError(not_a_number(f"column {column}", row[column])) from error
    if value != value:
        raise DataError(not_a_number(f"column {column}", row[column]))
    low, high = RANGES.get(column, (-float("inf"), float("inf")))
    if not low <= value <= high:
        got, allowed = row[column], f"{low:g} to {high:g}"
        raise DataError(explain(f"column {column}", got=got, allowed=allowed, cure="Correct it."))
    if value < LEAST_HZ.get(column, low):
        cure = f"Give Hz: {value:g} kHz are {value * 1e3:.15g}, {value:g} MHz are {value * 1e6:.15g}."
        allowed = f"{LEAST_HZ[column]:g} Hz or more"
        raise DataError(explain(f"column {column}", got=row[column], allowed=allowed, cure=cure))
    return value


def _rows(path: Path, needed: Iterable[str]) -> list[Row]:
    """Rows of a CSV file by column, once every needed column was found."""
    header, *rows = list(csv.reader(read_text(path).splitlines())) or [[]]
    names = [name.strip() for name in header]
    for name in needed:
        if name not in names:
            near = difflib.get_close_matches(name, names, 1)
            cure = f"Rename column {near[0]!r}?" if near else "Add the column."
            raise DataError(explain(str(path), got=f"no column {name!r}", allowed=", ".join(needed), cure=cure))
    for number, row in enumerate(rows, 2):
        if row and len(row) != len(names):
            got = f"{len(row)} cells in row {number} for {len(names)} columns"
            raise DataError(explain(str(path), got=got, allowed="one cell per column", cure="Correct the row."))
    return [dict(zip(names, (cell.strip() for cell in row), strict=True)) for row in rows if row]
