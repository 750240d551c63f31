"""Approved, labelled sessions of a catalogue and their recordings, as a source of sessions."""

from __future__ import annotations

import contextlib
import copy
import gc
import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import SupportsIndex

import numpy as np

from heimdall_jax.errors import DataError, explain
from heimdall_jax.sources.catalogue_sql import read_catalogue
from heimdall_jax.sources.eligible import active_stations, eligible_sessions
from heimdall_jax.sources.matching import Measurement
from heimdall_jax.sources.plausible import is_plausible
from heimdall_jax.sources.recordings import metadata_name
from heimdall_jax.sources.rows import BUCKET, Catalogue
from heimdall_jax.sources.session_iq import read_session_iq
from heimdall_jax.store import FolderStore, ObjectStore, open_store
from heimdall_jax.types import Session

DATABASE = "catalogue.sqlite"
READERS = 16
"""Objects read at once: an object store answers slowly, but many at a time."""
FOLDERS = 1000
"""Listed one by one; for more, all of the store's are listed: a list gives a thousand objects at once."""
VERSION = 1
"""Raise when this room reads the same rows and objects as other sessions than before."""


def embedded(folder: str | Path) -> tuple[str, ObjectStore]:
    """Database URL and object store of the catalogue that lives in a folder."""
    path = Path(folder).absolute()
    return f"sqlite:///{path / DATABASE}", FolderStore(path / "objects")


def open_catalogue(
    path: str | Path,
    *,
    store: str = "",
    min_receivers: int = 3,
    iq: bool = True,
    samples: int | None = None,
) -> CatalogueSource:
    """The sessions of the catalogue in a folder, or of the one at a database's URL.

    Args:
        path: A folder (`catalogue.sqlite` and `objects/`), or SQLAlchemy's URL of a database.
        store: URL of the recordings; empty: the folder's own, or with a URL the platform's bucket.
        min_receivers: See `CatalogueSource`, as for the others.
        iq: Whether sessions bring samples.
        samples: How many of each recording.

    Raises:
        StorageError: Nothing is there, or it cannot be reached.
        DataError: No usable session is left.
    """
    at_url = "://" in str(path)
    url, objects = (str(path), None) if at_url else embedded(path)
    if store or objects is None:
        objects = open_store(store or f"s3://{BUCKET}")
    return CatalogueSource(url, objects, min_receivers=min_receivers, iq=iq, samples=samples)


class CatalogueSource:
    """Sessions that are completed, approved, labelled and heard by enough receivers; a `SessionSource`.

    Only the tables are read at once, in one state of the database and without a lock. A session's recordings are read
    when it is asked for, each checked then: its `heard_R` may be less than its row said, and `masked` says why. The
    receivers are all active stations. A source's `error_margin_meters` is taken as the radius that holds it with 95 %:
    2.45 standard deviations per axis.

    Attributes:
        receivers: Names of the active stations, sorted.
        origin_deg: Mean of their places.
        transmissions: One `CatalogueSession` for each session, in the order of time.
        skipped: How often each thing was masked or skipped by the tables, by reason.
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
        """Read the catalogue's tables.

        Args:
            database_url: SQLAlchemy's, SQLite or PostgreSQL.
            store: Holds the recordings under the keys that the catalogue names.
            min_receivers: Sessions with fewer measurements are skipped and counted.
            iq: Whether sessions bring samples; without, a measurement needs no recording.
            samples: Of each recording are given, and shorter ones masked; None gives all of it.

        Raises:
            StorageError: The database cannot be reached.
            DataError: No station or no usable session is left.
        """
        self._store, self._iq, self._samples = store, iq, samples
        with _collector_paused():
            self._list(read_catalogue(database_url), min_receivers)

    def _list(self, catalogue: Catalogue, min_receivers: int) -> None:
        """The sessions that can be used, and what is wrong with the others."""
        counts: Counter[str] = Counter()
        keys = active_stations(catalogue, counts)
        self._stations = [catalogue.stations[key] for key in keys]
        self.receivers = tuple(station.name for station in self._stations)
        place = np.array([(station.latitude_deg, station.longitude_deg) for station in self._stations])
        self._altitude_m_R = np.array([station.altitude_m for station in self._stations])
        self._present_R: np.ndarray = np.any(place != 0.0, axis=1)
        mean = place[self._present_R].mean(axis=0)
        self.origin_deg = (float(mean[0]), float(mean[1]))
        self._place_deg_RE = np.where(self._present_R[:, None], place, mean)
        have_place = dict(zip(keys, self._present_R.tolist(), strict=True))
        usable = eligible_sessions(
            catalogue, have_place, counts, min_receivers=min_receivers, iq=self._iq, samples=self._samples
        )
        self.transmissions = tuple(usable)
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
        read = None
        if self._iq:
            read = read_session_iq(self._store, row.measurements, (row.start_time_s, row.end_time_s), self._samples)
        return Session(
            session_id=row.session_id,
            start_time_s=row.start_time_s,
            receivers=self.receivers,
            receiver_deg_RE=self._place_deg_RE,
            present_R=self._present_R,
            heard_R=heard if read is None else read.readable_R,
            rss_db_R=rss,
            truth_deg=row.truth_deg,
            truth_error_m=row.truth_error_m,
            iq_RT=read and read.iq_RT,
            sample_rate_hz=read and read.sample_rate_hz,
            frequency_hz=row.frequency_hz,
            altitude_m_R=self._altitude_m_R,
            clock_sigma_s_R=read and read.clock_sigma_s_R,
            snr_db_R=np.array([_snr_db(measurement) for measurement in row.measurements], np.float32),
            masked=read.masked if read else (),
        )

    def __getitems__(self, indices: Iterable[SupportsIndex], /) -> list[Session]:
        if not self._iq:
            return [self[index] for index in indices]
        pool = ThreadPoolExecutor(READERS)
        try:
            return list(pool.map(self.__getitem__, indices))
        finally:
            # After an error those that wait would each wait for the server, too.
            pool.shutdown(cancel_futures=True)

    def without_iq(self) -> CatalogueSource:
        """The same sessions as their rows have them; no object is read."""
        plain = copy.copy(self)
        plain._iq = False
        return plain

    def fingerprint(self) -> str:
        """What changes when a session's row, a station, a recording or its metadata does; no recording is read.

        It is made of the rows that count and of each object's stamp in the store: size and ETag in S3, size and time of
        writing in a folder.

        Raises:
            StorageError: The store cannot be reached.
        """
        return hashlib.sha256("".join(self.contents().values()).encode()).hexdigest()

    def contents(self) -> dict[str, str]:
        """The fingerprint of each session by its key.

        Raises:
            StorageError: The store cannot be reached.
        """
        shared = hashlib.sha256(repr((VERSION, self._iq, self._samples, self._stations)).encode())
        stamps = self._stamps() if self._iq else {}
        found = {}
        for row in self.transmissions:
            digest = shared.copy()
            digest.update(repr(row).encode())
            for measurement in row.measurements:
                if measurement is not None and measurement.key is not None:
                    stamped = stamps.get(measurement.key), stamps.get(metadata_name(measurement.key))
                    digest.update(repr(stamped).encode())
            found[row.session_id] = digest.hexdigest()
        return found

    def _stamps(self) -> dict[str, str]:
        """Of all objects beside the recordings: of a few folders each by itself, of many in lists begun at once."""
        keys = {m.key for row in self.transmissions for m in row.measurements if m is not None and m.key is not None}
        prefixes = {f"{key.rpartition('/')[0]}/" for key in keys}
        if len(prefixes) > FOLDERS:
            alike = [a == b for a, b in zip(min(keys), max(keys), strict=False)]
            common = alike.index(False) if False in alike else len(alike)
            prefixes = {key[: common + 1] for key in keys}
        with ThreadPoolExecutor(READERS) as pool:
            lists = list(pool.map(self._store.stamps, sorted(prefixes)))
        return {key: stamp for found in lists for key, stamp in found.items()}


@contextlib.contextmanager
def _collector_paused() -> Iterator[None]:
    """Rows by the ten thousand refer to each other in no circles: looking for some takes a fifth of listing them."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _snr_db(measurement: Measurement | None) -> float:
    snr_db = math.nan if measurement is None or measurement.snr_db is None else measurement.snr_db
    return snr_db if is_plausible("snr_db", snr_db) else math.nan
