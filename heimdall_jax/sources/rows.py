"""Rows of the catalogue as plain records, and the recordings that are written with them."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Complex64
from numpy import ndarray

from heimdall_jax.sources.matching import Interval, Measurement
from heimdall_jax.sources.recordings import RecordingMetadata, encode_iq, encode_metadata, metadata_name
from heimdall_jax.store import ObjectStore
from heimdall_jax.types import Station

BUCKET = "heimdall-raw-iq"


@dataclass(frozen=True)
class SessionRow:
    """A session with its source: when, where the transmitter was (None: unknown), and whether it may be used."""

    interval: Interval
    truth_deg: tuple[float, float] | None
    error_margin_m: float
    status: str
    approval: str


@dataclass(frozen=True)
class Catalogue:
    """All rows of a catalogue; `stations` are the active ones by key."""

    stations: dict[str, Station]
    sessions: tuple[SessionRow, ...]
    measurements: tuple[Measurement, ...]


@dataclass(frozen=True, eq=False)
class Recording:
    """What one station measured in a session, to be written; `iq_T` is None where only power is known."""

    station: Station
    rss_db: float
    snr_db: float | None = None
    iq_T: Complex64[ndarray, " T"] | None = None
    metadata: RecordingMetadata = RecordingMetadata()

    def write(self, store: ObjectStore, key: str) -> None:
        """Put the samples at `key` and the metadata beside them.

        Raises:
            StorageError: The store cannot be written.
        """
        if self.iq_T is not None:
            store.put(key, encode_iq(self.iq_T))
            store.put(metadata_name(key), encode_metadata(self.metadata))


def object_key(location: str | None) -> str | None:
    """Key of `s3://bucket/key`: the bucket is the store's business, the key is the same in every store."""
    if not location:
        return None
    if "://" not in location:
        return location
    parts = location.split("/", 3)  # the scheme, nothing, the bucket, the key
    return parts[3] or None if len(parts) == 4 else None
