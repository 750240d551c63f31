"""A catalogue as the platform keeps it: simulated recordings, and sessions with every defect that a platform has.

It is written once, embedded, and copied row by row and object by object to other stores, so that keys are the same.
"""

import dataclasses
import datetime as dt
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa

from heimdall_jax.simulation.sessions import SimulatedSessions
from heimdall_jax.simulation.world import World
from heimdall_jax.sources.catalogue import embedded
from heimdall_jax.sources.catalogue_sql import METADATA, SCHEMA, add_session, create_catalogue
from heimdall_jax.sources.recordings import RecordingMetadata, metadata_name
from heimdall_jax.sources.rows import Recording
from heimdall_jax.store import FolderStore, ObjectStore
from heimdall_jax.types import Session
from heimdall_jax.worlds import TIMING_WORLD

START = dt.datetime(2026, 3, 1, 12, 0, 0, tzinfo=dt.UTC)
CLOCK_SIGMA_S = 1e-6
RATE_HZ = 12_000.0
FRAMES = 8
"""Of the features' spectrogram: a quarter of a second is enough of each recording."""
SAMPLES = 3_102
WORLD = dataclasses.replace(TIMING_WORLD, duration_s=SAMPLES / RATE_HZ, clock_sigma_s=(CLOCK_SIGMA_S,))

SESSION_DEFECTS = {
    "session not approved": ({"approval": "rejected"}, 6),
    "session not completed": ({"status": "failed"}, 4),
    "session whose source has no place": ({"truth_deg": None}, 5),
}
"""What `add_session` is told instead, and how many sessions are so."""


def _rewritten(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[bytes], bytes]:
    def spoil(data: bytes) -> bytes:
        stream = io.BytesIO()
        np.save(stream, change(np.load(io.BytesIO(data))))
        return stream.getvalue()

    return spoil


OBJECT_DEFECTS: dict[str, tuple[Callable[[bytes], bytes | None], int]] = {
    "recording missing in the store": (lambda data: None, 4),
    "recording of another length than the catalogue says": (_rewritten(lambda iq: iq[:-100]), 4),
    "recording that is not complete, one-dimensional complex64": (_rewritten(lambda iq: iq.astype(np.complex128)), 4),
}
METADATA_DEFECTS: dict[str, tuple[Callable[[bytes], bytes | None], int]] = {
    "recording without timing metadata, timing masked": (lambda data: None, 4),
    "recording with impossible timing metadata, timing masked": (lambda data: b'{"clock_sigma_s": -1.0}', 4),
}
"""What becomes of the first recording of so many sessions, or of its metadata."""
FEW = "session with fewer than 3 readable measurements"
TOO_FEW = 5
"""Sessions that two receivers heard."""
DEFECTS = {
    name: count for table in (SESSION_DEFECTS, OBJECT_DEFECTS, METADATA_DEFECTS) for name, (_, count) in table.items()
}
DEFECTS |= {FEW: TOO_FEW}
"""How often the report of what was skipped or masked must name each."""


def write_platform(folder: Path, good: int = 260) -> int:
    """The embedded catalogue of `good` sessions, and of all defective ones after them; gives how many it holds."""
    url, store = embedded(folder)
    folder.mkdir(parents=True, exist_ok=True)
    create_catalogue(url)
    defects: list[dict[str, Any]] = [{}] * good
    for changes, count in SESSION_DEFECTS.values():
        defects += [changes] * count
    defects += [{"few": True}] * TOO_FEW
    for table, name in ((OBJECT_DEFECTS, "object"), (METADATA_DEFECTS, "metadata")):
        for spoil, count in table.values():
            defects += [{name: spoil}] * count
    sessions = SimulatedSessions(World.build(WORLD, sample_rate_hz=RATE_HZ), "platform", 4 * len(defects))
    heard = np.asarray(sessions.transmissions().heard_R).sum(axis=1) >= 4
    chosen = sessions.__getitems__(np.flatnonzero(heard)[: len(defects)].tolist())
    for index, (session, defect) in enumerate(zip(chosen, defects, strict=True)):
        _add(url, store, index, session, dict(defect))
    return len(defects)


def _add(url: str, store: ObjectStore, index: int, session: Session, defect: dict[str, Any]) -> None:
    start = START + dt.timedelta(minutes=index)
    few, spoil_object, spoil_metadata = (defect.pop(name, None) for name in ("few", "object", "metadata"))
    heard = np.flatnonzero(session.heard_R)[: 2 if few else None]
    world = World.build(WORLD, sample_rate_hz=RATE_HZ)
    assert session.iq_RT is not None
    assert session.snr_db_R is not None
    metadata = RecordingMetadata(
        start_time_ns=round(start.timestamp()) * 10**9, sample_rate_hz=RATE_HZ, clock_sigma_s=CLOCK_SIGMA_S
    )
    recordings = [
        Recording(world.stations[i], float(session.rss_db_R[i]), float(session.snr_db_R[i]), session.iq_RT[i], metadata)
        for i in heard
    ]
    written = _Remembering(store)
    told = {"truth_deg": session.truth_deg, **defect}
    add_session(
        url,
        written,
        name=f"session {index}",
        start=start,
        duration_s=30.0,
        recordings=recordings,
        frequency_hz=session.frequency_hz or 0.0,
        sample_rate_hz=RATE_HZ,
        **told,
    )
    recorded = next(key for key in written.keys if key.endswith(".npy"))
    for key, spoil in ((recorded, spoil_object), (metadata_name(recorded), spoil_metadata)):
        if spoil is not None:
            assert callable(spoil)
            spoilt = spoil(store.get(key))
            assert isinstance(store, FolderStore)
            store.root.joinpath(key).unlink() if spoilt is None else store.put(key, spoilt)


class _Remembering:
    """A store that remembers the keys written through it."""

    def __init__(self, store: ObjectStore) -> None:
        self._store, self.keys = store, list[str]()

    def put(self, key: str, data: bytes, *, new: bool = False) -> None:
        self.keys.append(key)
        self._store.put(key, data, new=new)

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)


def copy_platform(folder: Path, database_url: str, store: ObjectStore) -> None:
    """The same rows in another database and the same objects in another store."""
    url, objects = embedded(folder)
    create_catalogue(database_url)
    source = sa.create_engine(url, poolclass=sa.NullPool).execution_options(schema_translate_map={SCHEMA: None})
    target = sa.create_engine(database_url.replace("postgresql:", "postgresql+psycopg:"), poolclass=sa.NullPool)
    with source.connect() as read, target.begin() as write:
        for table in METADATA.sorted_tables:
            rows = [dict(row._mapping) for row in read.execute(sa.select(table))]
            write.execute(table.insert(), rows)
    for key in objects.list():
        store.put(key, objects.get(key))
