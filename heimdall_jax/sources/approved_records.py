"""The records of a set of approved sessions, file by file: new ones from the catalogue, others from the set before."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from heimdall_jax.progress import tell
from heimdall_jax.sources.catalogue import CatalogueSource
from heimdall_jax.sources.eligible import CatalogueSession
from heimdall_jax.types import Session

SHARD_SESSIONS = 64
SHARD_BYTES = 256 << 20
"""Samples in a file, which TFDS holds in memory while it writes them."""
READ_SESSIONS = 8
"""Read from the store at once."""


@dataclass(frozen=True)
class Kept:
    """A record of the set before, which is taken over as it is."""

    side: str
    record: int


Origin = Kept | int
"""Where a record comes from: the set before, or the catalogue's session of this number."""


class Work:
    """All that is to be written. To another process it travels as the name of its file, which is read there once."""

    def __init__(self, source: CatalogueSource, before: Path | None, origins: Mapping[str, Sequence[Origin]]) -> None:
        """`origins` by side, in the order of the records; `before` is the folder of the set that kept ones are in."""
        self.source, self.before, self.origins = source, before, origins
        self.file: Path | None = None
        self._held: dict[str, Any] = {}

    def save(self, file: Path) -> None:
        """Write it where other processes can read it."""
        file.write_bytes(pickle.dumps((self.source, self.before, self.origins)))
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return load_work, (self.file,)

    def features(self, side: str, start: int, stop: int) -> Iterator[dict[str, Any]]:
        """Features of the records from `start` to `stop` of a side, a few in memory at a time."""
        from heimdall_jax.sources.builders import encode

        for first in range(start, stop, READ_SESSIONS):
            origins = self.origins[side][first : min(first + READ_SESSIONS, stop)]
            new = [origin for origin in origins if not isinstance(origin, Kept)]
            sessions: Iterator[Session] = iter(self.source.__getitems__(new) if new else [])
            for origin in origins:
                yield self._kept(origin) if isinstance(origin, Kept) else encode(next(sessions))

    def _kept(self, origin: Kept) -> dict[str, Any]:
        if not self._held:
            import tensorflow_datasets as tfds

            builder: Any = tfds.builder_from_directory(str(self.before))
            self._held = {side: builder.as_data_source(split=side) for side in builder.info.splits}
        return self._held[origin.side][origin.record]


@lru_cache(maxsize=1)
def load_work(file: Path) -> Work:
    """Work that was saved, with a store of this process's own."""
    work = Work(*pickle.loads(file.read_bytes()))
    work.file = file
    return work


@dataclass(frozen=True)
class Shard:
    """The records of one file; called, it gives them with their numbers."""

    work: Work
    side: str
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def __call__(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Numbers and features, in order."""
        sizes = {side: len(origins) for side, origins in self.work.origins.items()}
        before = sum(list(sizes.values())[: list(sizes).index(self.side)])
        for number, features in enumerate(self.work.features(self.side, self.start, self.stop), self.start):
            yield number, features
            tell("writing sessions", before + number + 1, sum(sizes.values()), "sessions")


def shard_ends(rows: Sequence[CatalogueSession]) -> list[int]:
    """Where the files of a side end: after 64 sessions or 256 MiB of samples, whatever comes first."""
    ends, sessions, size = [], 0, 0
    for number, row in enumerate(rows):
        longest = max((m.samples or 0 for m in row.measurements if m is not None), default=0)
        held = 8 * longest * len(row.measurements)
        if sessions and (sessions == SHARD_SESSIONS or size + held > SHARD_BYTES):
            ends.append(number)
            sessions, size = 0, 0
        sessions, size = sessions + 1, size + held
    return [*ends, len(rows)]
