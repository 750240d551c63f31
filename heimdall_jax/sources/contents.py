"""What the record of a catalogue's session is made of, as a hash: the same as long as the record would be the same.

The samples are not read for it. The platform writes an object once, under a key with its task's id; should one be
replaced all the same, its size, its metadata or its first samples tell.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from heimdall_jax.sources.catalogue import CatalogueSource
from heimdall_jax.sources.recordings import metadata_name
from heimdall_jax.store import ObjectStore


class WatchedStore:
    """An object store that keeps a hash of what it tells of each object, while it is watched."""

    def __init__(self, store: ObjectStore, *, watched: bool = True) -> None:
        self._store, self.watched = store, watched
        self.told: dict[str, str] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return _unwatched, (self._store,)

    def get(self, key: str, length: int | None = None) -> bytes:
        """See `ObjectStore`."""
        data = self._store.get(key, length)
        if self.watched:
            self.told[key] = hashlib.sha256(data).hexdigest()
        return data

    def size(self, key: str) -> int:
        """See `ObjectStore`."""
        size = self._store.size(key)
        if self.watched:
            self.told[f"{key} bytes"] = str(size)
        return size

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


def contents(source: CatalogueSource, store: WatchedStore) -> dict[str, str]:
    """A hash by session of its rows, what all sessions share, and what `store` told when `source` was opened."""
    from heimdall_jax.sources.builders import SessionsBuilder

    shared = hashlib.sha256(str(SessionsBuilder.VERSION).encode())
    for name, value in sorted(vars(source).items()):
        if name not in ("transmissions", "skipped") and value is not store:
            said = value.tobytes() if isinstance(value, np.ndarray) else repr(value).encode()
            shared.update(name.encode() + said)
    found = {}
    for row in source.transmissions:
        content = shared.copy()
        content.update(repr(row).encode())
        for key in (m.key for m in row.measurements if m is not None and m.key is not None):
            told = [store.told.get(name) for name in (key, f"{key} bytes", metadata_name(key))]
            content.update(repr(told).encode())
        found[row.session_id] = content.hexdigest()
    return found


def _unwatched(store: ObjectStore) -> WatchedStore:
    return WatchedStore(store, watched=False)
