"""What a source of real sessions has beside the sessions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from heimdall_jax.sources.splits import Transmission
from heimdall_jax.types import SessionSource


@runtime_checkable
class Recordings(SessionSource, Protocol):
    """A source of real sessions, all with the same receivers."""

    @property
    def receivers(self) -> tuple[str, ...]:
        """Names of all receivers."""
        ...

    @property
    def origin_deg(self) -> tuple[float, float]:
        """Origin of the local frame."""
        ...

    @property
    def skipped(self) -> Mapping[str, int]:
        """What was masked or skipped, by reason."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What was chosen where there was a choice."""
        ...

    @property
    def transmissions(self) -> Sequence[Transmission]:
        """What a split needs of each session, without reading its IQ."""
        ...


@runtime_checkable
class Stored(Recordings, Protocol):
    """Recordings in a store from which reading takes time."""

    def without_iq(self) -> SessionSource:
        """The same sessions, of which nothing is read."""
        ...

    def fingerprint(self) -> str:
        """What changes when the sessions do."""
        ...
