"""Approved, labelled sessions of a catalogue and their recordings, as a source of sessions."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import SupportsIndex

import numpy as np

from heimdall_jax.errors import DataError, explain
from heimdall_jax.sources.catalogue_sql import read_catalogue
from heimdall_jax.sources.matching import Measurement, match
from heimdall_jax.sources.recordings import HEADER_BYTES, SAMPLE_BYTES, check_header, decode_iq
from heimdall_jax.sources.rows import BUCKET, Catalogue, SessionRow
from heimdall_jax.store import FolderStore, MissingObjectError, ObjectStore, open_store
from heimdall_jax.types import Session

MARGIN_SIGMAS = math.sqrt(-2 * math.log(0.05))
"""Radius that holds 95 % of an isotropic Gaussian, in standard deviations per axis (Rayleigh: 2.45)."""
DATABASE = "catalogue.sqlite"
READERS = 16
"""Objects read at once: an object store answers slowly, but many at a time."""


@dataclass(frozen=True)
class CatalogueSession:
    """A usable session before its samples are read: a `Transmission` that splits can divide."""

    session_id: str
    start_time_s: float
    truth_deg: tuple[float, float]
    truth_error_m: float
    frequency_hz: float
    measurements: tuple[Measurement | None, ...]


def embedded(folder: str | Path) -> tuple[str, ObjectStore]:
    """Database URL and object store of the catalogue that lives in a folder."""
    path = Path(folder).absolute()
    return f"sqlite:///{path / DATABASE}", FolderStore(path / "objects")


def open_catalogue(
    path: str | Path,
    *,
    store: str = f"s3://{BUCKET}",
    min_receivers: int = 3,
    iq: bool = True,
    samples: int | None = None,
) -> CatalogueSource:
    """The sessions of the catalogue in a folder, or of the platform's at a database URL and a store's.

    Raises:
        StorageError: Nothing is there, or it cannot be reached.
        DataError: No usable session is left.
    """
    url, objects = (str(path), open_store(store)) if "://" in str(path) else embedded(path)
    return CatalogueSource(url, objects, min_receivers=min_receivers, iq=iq, samples=samples)


class CatalogueSource:
    """Sessions that are completed, approved, labelled and heard by enough receivers; a `SessionSource`.

    Every recording's header is read at once, its samples when a session is asked for. The receivers are all active
    stations. A source's `error_margin_meters` is taken as the radius that holds it with 95 %: 2.45 standard
    deviations per axis.

    Attributes:
        receivers: Names of the active stations, sorted.
        origin_deg: Mean of their places.
        transmissions: One `CatalogueSession` for each session, in the order of time.
        skipped: How often each thing was masked or skipped, by reason.
        notes: What was taken for granted.
    """

    notes = ("error_margin_meters taken as the radius that holds 95 %",)

    def __init__(
        self,
        database_url: str,
        store: ObjectStore,
        *,
        min_receivers: int = 3,
        iq: bool = True,
        samples: int | None = None,
    ) -> None:
        """Read the catalogue and check its recordings.

        Args:
            database_url: SQLAlchemy's, SQLite or PostgreSQL.
            store: Holds the recordings under the keys that the catalogue names.
            min_receivers: Sessions with fewer readable measurements are skipped and counted.
            iq: Whether sessions bring samples; without, a measurement needs no recording.
            samples: Read this many from the start of each recording, and mask shorter ones; None reads all of it.

        Raises:
            StorageError: The database or the store cannot be reached.
            DataError: No station or no usable session is left.
        """
        catalogue = read_catalogue(database_url)
        self._store, self._iq, self._samples = store, iq, samples
        counts: Counter[str] = Counter()
        self._stations = _stations(catalogue, counts)
        self.receivers = tuple(catalogue.stations[key].name for key in self._stations)
        place = np.array(
            [(catalogue.stations[key].latitude_deg, catalogue.stations[key].longitude_deg) for key in self._stations]
        )
        self._present_R: np.ndarray = np.any(place != 0.0, axis=1)
        mean = place[self._present_R].mean(axis=0)
        self.origin_deg = (float(mean[0]), float(mean[1]))
        self._place_deg_RE = np.where(self._present_R[:, None], place, mean)
        matched = match([row.interval for row in catalogue.sessions], catalogue.measurements)
        rows = [row for row in catalogue.sessions if _usable(row, counts)]
        readable = self._readable([m for row in rows for m in matched[row.interval.session_id].values()], counts)
        found = [self._session(row, matched[row.interval.session_id], readable, min_receivers, counts) for row in rows]
        usable = [session for session in found if session is not None]
        self.transmissions = tuple(sorted(usable, key=lambda session: (session.start_time_s, session.session_id)))
        self.skipped = {reason: n for reason, n in counts.items() if n}
        if not usable:
            got = "no usable session (" + ", ".join(f"{n} {reason}" for reason, n in self.skipped.items()) + ")"
            cure = "Approve sessions, label their sources, or lower data.min_receivers."
            raise DataError(explain("catalogue", got=got, allowed="one or more", cure=cure))

    def __len__(self) -> int:
        return len(self.transmissions)

    def __getitem__(self, index: SupportsIndex, /) -> Session:
        row = self.transmissions[index]
        heard = np.array([measurement is not None for measurement in row.measurements])
        rss = np.array([(measurement and measurement.rss_db) or 0.0 for measurement in row.measurements], np.float32)
        iq, rate = self._read(row) if self._iq else (None, None)
        return Session(
            session_id=row.session_id,
            start_time_s=row.start_time_s,
            receivers=self.receivers,
            receiver_deg_RE=self._place_deg_RE,
            present_R=self._present_R,
            heard_R=heard,
            rss_db_R=rss,
            truth_deg=row.truth_deg,
            truth_error_m=row.truth_error_m,
            iq_RT=iq,
            sample_rate_hz=rate,
            frequency_hz=row.frequency_hz,
            snr_db_R=np.array([_snr_db(measurement) for measurement in row.measurements], np.float32),
        )

    def __getitems__(self, indices: Iterable[SupportsIndex], /) -> list[Session]:
        with ThreadPoolExecutor(READERS) as pool:
            return list(pool.map(self.__getitem__, indices))

    def _read(self, row: CatalogueSession) -> tuple[np.ndarray, float | None]:
        """Samples (R, T) of a session and their rate; rows that did not hear are zero, and meaningless."""
        held = [(i, m.key, m) for i, m in enumerate(row.measurements) if m is not None and m.key is not None]
        count = self._samples
        limit = None if count is None else HEADER_BYTES + count * SAMPLE_BYTES
        read = [decode_iq(self._store.get(key, limit), key, count) for _, key, _ in held]
        iq_RT = np.zeros((len(self.receivers), len(read[0])), np.complex64)
        for (i, _, _), iq_T in zip(held, read, strict=True):
            iq_RT[i] = iq_T
        return iq_RT, held[0][2].sample_rate_hz

    def _readable(self, measurements: list[Measurement], counts: Counter[str]) -> set[Measurement]:
        """Measurements that can be used; the others are counted by reason."""
        if self._iq:
            with ThreadPoolExecutor(READERS) as pool:
                problems = list(pool.map(self._problem, measurements))
        else:
            problems = [None] * len(measurements)
        stations = dict(zip(self._stations, self._present_R.tolist(), strict=True))
        good = set()
        for measurement, problem in zip(measurements, problems, strict=True):
            reason = problem
            if measurement.station_id not in stations:
                reason = "measurement of an inactive station"
            elif not stations[measurement.station_id]:
                reason = "measurement of a station at (0, 0), masked"
            elif measurement.rss_db is None or not math.isfinite(measurement.rss_db):
                reason = "measurement without a signal strength"
            if reason is None:
                good.add(measurement)
            else:
                counts[reason] += 1
        return good

    def _problem(self, measurement: Measurement) -> str | None:
        """Why a measurement's recording cannot be used, by its header."""
        if measurement.key is None:
            return "measurement without a recording"
        try:
            start, size = self._store.get(measurement.key, HEADER_BYTES), self._store.size(measurement.key)
        except MissingObjectError:
            return "recording missing in the store"
        try:
            count = check_header(start, size, measurement.key)
        except DataError:
            return "recording that is not complete, one-dimensional complex64"
        if measurement.samples is not None and count != measurement.samples:
            return "recording of another length than the catalogue says"
        if self._samples is not None and count < self._samples:
            return f"recording shorter than {self._samples} samples"
        return None

    def _session(
        self,
        row: SessionRow,
        by_station: dict[str, Measurement],
        readable: set[Measurement],
        min_receivers: int,
        counts: Counter[str],
    ) -> CatalogueSession | None:
        """The session, or None (counted) where too few receivers are left."""
        good = {key: measurement for key, measurement in by_station.items() if measurement in readable}
        if self._iq and good:
            # Samples are one array: the rate and length most receivers share counts.
            kinds = {key: (m.sample_rate_hz, None if self._samples else m.samples) for key, m in good.items()}
            kind = Counter(kinds.values()).most_common(1)[0][0]
            alike = {key: measurement for key, measurement in good.items() if kinds[key] == kind}
            counts["recording at another sample rate or length than its session's others"] += len(good) - len(alike)
            good = alike
        if len(good) < max(min_receivers, 1) or row.truth_deg is None:
            counts[f"session with fewer than {min_receivers} readable measurements"] += 1
            return None
        frequency = row.interval.frequency_hz or float(np.median([m.frequency_hz for m in good.values()]))
        return CatalogueSession(
            row.interval.session_id,
            row.interval.start.timestamp(),
            row.truth_deg,
            row.error_margin_m / MARGIN_SIGMAS,
            frequency,
            tuple(good.get(key) for key in self._stations),
        )


def _snr_db(measurement: Measurement | None) -> float:
    return math.nan if measurement is None or measurement.snr_db is None else measurement.snr_db


def _stations(catalogue: Catalogue, counts: Counter[str]) -> list[str]:
    """Keys of the active stations in the order of their names."""
    keys = sorted(catalogue.stations, key=lambda key: catalogue.stations[key].name)
    at_zero = 0
    for key in keys:
        station = catalogue.stations[key]
        if not (abs(station.latitude_deg) <= 90 and abs(station.longitude_deg) <= 180):
            got = f"({station.latitude_deg}, {station.longitude_deg})"
            cure = "Correct the station's row."
            raise DataError(explain(f"station {station.name}", got=got, allowed="degrees on Earth", cure=cure))
        at_zero += (station.latitude_deg, station.longitude_deg) == (0.0, 0.0)
    if at_zero == len(keys):
        raise DataError(
            explain("catalogue", got="no active station with a place", allowed="one or more", cure="Activate stations.")
        )
    counts["station at (0, 0), masked"] += at_zero
    return keys


def _usable(row: SessionRow, counts: Counter[str]) -> bool:
    """Whether a session may train; counted by reason where not."""
    if row.status != "completed":
        reason = "session not completed"
    elif row.approval != "approved":
        reason = "session not approved"
    elif row.truth_deg is None:
        reason = "session whose source has no place"
    elif not (abs(row.truth_deg[0]) <= 90 and abs(row.truth_deg[1]) <= 180) or row.truth_deg == (0.0, 0.0):
        reason = "session whose source is at an impossible place"
    else:
        return True
    counts[reason] += 1
    return False
