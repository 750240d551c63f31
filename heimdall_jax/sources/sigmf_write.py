"""Sessions as SigMF collections, and the two tables by which a folder of them trains (`own_recordings`).

    OUT/SESSION/SESSION.sigmf-collection            streams with their hashes, and where the transmitter was
    OUT/SESSION/SESSION-NUMBER.sigmf-meta, -data    a receiver's samples (cf32_le), its clock's time and its place
    OUT/stations.csv, OUT/recordings.csv            last: a folder without them is not whole

The package `sigmf` writes the metadata, and checks it. `sources/sigmf` says what the extension's fields mean.
"""

from __future__ import annotations

import csv
import datetime as dt
import io
import re
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

import heimdall_jax
from heimdall_jax.errors import ConfigError, DataError, StorageError, explain
from heimdall_jax.sources.eligible import MARGIN_SIGMAS
from heimdall_jax.sources.plausible import RANGES
from heimdall_jax.sources.sigmf import COLLECTION, META
from heimdall_jax.types import Session

EXTENSION = {"name": "heimdall", "version": "1.0.0", "optional": True}
NANO = 1_000_000_000
STATION_COLUMNS = ("name", "latitude", "longitude", "altitude_m")
RECORDING_COLUMNS = (
    *("session", "start", "latitude", "longitude", "frequency_hz", "station", "file", "sample_rate_hz"),
    *("error_margin_m", "rss_db", "snr_db", "clock_sigma_s"),
)

Row = dict[str, Any]


def write_sessions(sessions: Iterable[Session], out: str | Path) -> tuple[int, int]:
    """Write each session as a collection in a folder of its own; gives the numbers of sessions and recordings.

    Every present receiver's samples are written; only those that heard, of sessions with a known transmitter, are
    listed in `recordings.csv`.

    Raises:
        ConfigError: `out` is there and not empty.
        DataError: A session has no samples, rate or frequency.
        StorageError: A file cannot be written.
    """
    out = Path(out)
    stations: dict[str, Row] = {}
    recordings: list[Row] = []
    counts = [0, 0]
    try:
        if out.exists() and any(out.iterdir()):
            cure = "Choose another folder, or remove it."
            raise ConfigError(explain(str(out), got="files are there already", allowed="a new folder", cure=cure))
        out.mkdir(parents=True, exist_ok=True)
        for session in sessions:
            files = write_collection(session, out / _file_name(session.session_id))
            counts = [counts[0] + 1, counts[1] + len(files)]
            stations |= {session.receivers[number]: _station_row(session, number) for number in files}
            if session.truth_deg is not None:
                heard = (number for number in files if session.heard_R[number])
                recordings += [_recording_row(session, number, files[number].relative_to(out)) for number in heard]
        _write_table(out / "stations.csv", STATION_COLUMNS, list(stations.values()))
        _write_table(out / "recordings.csv", RECORDING_COLUMNS, recordings)
    except (ConfigError, DataError):
        raise
    except OSError as error:
        got = error.strerror or error
        raise StorageError(explain(str(out), got=got, allowed="a folder to write", cure="Choose another.")) from error
    return counts[0], counts[1]


def write_collection(session: Session, folder: Path) -> dict[int, Path]:
    """Write a session's recordings and their collection; gives the metadata's path by the receiver's number.

    Raises:
        DataError: It has no samples, rate or frequency.
        OSError: A file cannot be written.
    """
    from sigmf import SigMFCollection

    iq_RT, rate_hz, frequency_hz = session.iq_RT, session.sample_rate_hz, session.frequency_hz
    if iq_RT is None or rate_hz is None or frequency_hz is None:
        cure = "Choose a data set of samples."
        got, allowed = "no samples, rate or frequency", "recordings of a known rate"
        raise DataError(explain(f"session {session.session_id}", got=got, allowed=allowed, cure=cure))
    folder.mkdir(parents=True)
    files = {}
    for number in np.flatnonzero(session.present_R).tolist():
        files[number] = folder / f"{folder.name}-{number + 1:02d}{META}"
        _write_recording(session, number, files[number])
    about: Row = {"core:description": f"session {session.session_id}", "core:extensions": [EXTENSION]}
    if session.truth_deg is not None:
        latitude, longitude = session.truth_deg
        about["heimdall:transmitter"] = {"type": "Point", "coordinates": [longitude, latitude]}
    names = [path.name for path in files.values()]
    SigMFCollection(names, {"collection": about}, base_path=folder).tofile(folder / f"{folder.name}{COLLECTION}")
    return files


def _write_recording(session: Session, number: int, path: Path) -> None:
    """Metadata and samples of one receiver."""
    from sigmf import SigMFFile

    assert session.iq_RT is not None
    about: Row = {
        "core:datatype": "cf32_le",
        "core:sample_rate": session.sample_rate_hz,
        "core:recorder": f"heimdall_jax {heimdall_jax.__version__}",
        "core:collection": path.parent.name,
        "core:extensions": [EXTENSION],
        "heimdall:station": session.receivers[number],
    }
    if (sigma_s := _clock_sigma_s(session, number)) is not None:
        about["heimdall:clock_sigma_s"] = sigma_s
    row = _station_row(session, number)
    file = SigMFFile(global_info=about)
    file.set_data_file(data_buffer=io.BytesIO(session.iq_RT[number].astype("<c8").tobytes()))
    file.add_capture(
        0,
        {
            "core:datetime": _moment(session.start_time_s),
            "core:frequency": session.frequency_hz,
            "core:geolocation": {
                "type": "Point",
                "coordinates": [row["longitude"], row["latitude"], row["altitude_m"]],
            },
        },
    )
    file.tofile(path)


def _moment(time_s: float) -> str:
    """RFC 3339 with nanoseconds, of Unix time."""
    seconds, nanoseconds = divmod(round(Fraction(time_s) * NANO), NANO)
    moment = dt.datetime(1970, 1, 1) + dt.timedelta(seconds=seconds)
    return f"{moment.isoformat()}.{nanoseconds:09d}Z"


def _clock_sigma_s(session: Session, number: int) -> float | None:
    """None where it is unknown."""
    sigma_s = np.inf if session.clock_sigma_s_R is None else float(session.clock_sigma_s_R[number])
    return sigma_s if np.isfinite(sigma_s) else None


def _station_row(session: Session, number: int) -> Row:
    latitude, longitude = session.receiver_deg_RE[number].tolist()
    altitude_m = 0.0 if session.altitude_m_R is None else float(session.altitude_m_R[number])
    return dict(zip(STATION_COLUMNS, (session.receivers[number], latitude, longitude, altitude_m), strict=True))


def _recording_row(session: Session, number: int, file: Path) -> Row:
    assert session.truth_deg is not None
    snr_db = None if session.snr_db_R is None else float(session.snr_db_R[number])
    return {
        "session": session.session_id,
        "start": _moment(session.start_time_s),
        "latitude": session.truth_deg[0],
        "longitude": session.truth_deg[1],
        "frequency_hz": session.frequency_hz,
        "station": session.receivers[number],
        "file": file.as_posix(),
        "sample_rate_hz": session.sample_rate_hz,
        "error_margin_m": max(session.truth_error_m * MARGIN_SIGMAS, RANGES["error_margin_m"][0]),
        "rss_db": float(session.rss_db_R[number]),
        "snr_db": snr_db if snr_db is not None and np.isfinite(snr_db) else None,
        "clock_sigma_s": _clock_sigma_s(session, number),
    }


def _write_table(path: Path, columns: Sequence[str], rows: list[Row]) -> None:
    """A CSV file; None is an empty cell, and floats are written so that they are read the same."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _file_name(session_id: str) -> str:
    """A session's name as a file's."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", session_id)[:100] or "session"
