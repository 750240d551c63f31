"""Some sessions of a source, as a source."""

from __future__ import annotations

from collections.abc import Iterable
from typing import SupportsIndex

from heimdall_jax.types import Session, SessionSource


class Subset:
    """The sessions of `source` at `indices`, in that order; a `SessionSource`."""

    def __init__(self, source: SessionSource, indices: Iterable[SupportsIndex]) -> None:
        self._source = source
        self._indices = [i.__index__() for i in indices]

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: SupportsIndex, /) -> Session:
        return self._source[self._indices[index]]

    def __getitems__(self, indices: Iterable[SupportsIndex], /) -> list[Session]:
        return self._source.__getitems__([self._indices[i] for i in indices])
