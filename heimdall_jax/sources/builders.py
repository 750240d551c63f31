"""TFDS builders (no TensorFlow, ArrayRecord files) that hold sessions exactly, to the bit.

Importing this file registers `powder_rss`, `simulated_network` and `approved_sessions` with tensorflow-datasets;
`prepared.py` reads all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core.splits import SplitDict

from heimdall_jax.errors import DataError, explain
from heimdall_jax.progress import tell
from heimdall_jax.sources.powder import read_powder
from heimdall_jax.sources.splits import OTHER_BLOCKS, split
from heimdall_jax.sources.subset import Subset
from heimdall_jax.types import Session, SessionSource

BLOCK = 32
"""Sessions read at once: some sources compute many for the price of few."""
SHARD = 8 * BLOCK
"""Sessions in a file; TFDS holds those of one in memory."""


def _tensor(dtype: Any, *shape: int | None) -> tfds.features.Tensor:
    # By default TFDS stores float64 as float32, silently; as bytes every type is exact.
    return tfds.features.Tensor(shape=shape, dtype=dtype, encoding=tfds.features.Encoding.BYTES)


FEATURES = {
    "session_id": tfds.features.Text(),
    "start_time_s": _tensor(np.float64),
    "receiver_deg": _tensor(np.float64, None, 2),
    "present": _tensor(np.bool_, None),
    "heard": _tensor(np.bool_, None),
    "rss_db": _tensor(np.float32, None),
    "truth_deg": _tensor(np.float64, 2),
    "truth_error_m": _tensor(np.float64),
    "iq": _tensor(np.float32, None, 2),
    "sample_rate_hz": _tensor(np.float64),
    "frequency_hz": _tensor(np.float64),
    "altitude_m": _tensor(np.float64, None),
    "clock_sigma_s": _tensor(np.float64, None),
    "snr_db": _tensor(np.float32, None),
    "masked": tfds.features.Text(),
}
"""A session: NaN where it has no truth, rate or frequency; `iq` is all receivers' samples in a row, real, imaginary.

`altitude_m`, `clock_sigma_s` and `snr_db` are empty where it has none; `masked` has a reason in each line.
"""


Records = Iterator[tuple[int, dict[str, Any]]]
"""Numbers and features of the records of a file, in order."""


@runtime_checkable
class RecordFile(Protocol):
    """A file that is yet to be written."""

    def __call__(self) -> Records:
        """What is in it."""
        ...

    def __len__(self) -> int:
        """How many records that are."""
        ...


class SessionsBuilder(tfds.core.ShardBasedBuilder, skip_registration=True):
    """Writes the sessions of each side, and what all share: receivers, origin, and an overview of transmissions.

    File by file: TFDS's other builders keep a whole side, in memory up to 1 GB and through TensorFlow beyond.
    """

    VERSION = tfds.core.Version("1.2.0")

    def __init__(
        self,
        *,
        sides: Mapping[str, SessionSource] | None = None,
        about: Mapping[str, Any] | None = None,
        **options: Any,
    ):
        """With `sides` (by split name, none empty) and what is `about` them; None where the builder finds its own."""
        self._sides = sides
        self._about = dict(about or {})
        super().__init__(**options)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__doc__ or "",
            features=tfds.features.FeaturesDict(FEATURES),
            metadata=tfds.core.MetadataDict(),
            # In the order of the source, which is the order of the overview.
            disable_shuffling=True,
        )

    def _shard_iterators_per_split(
        self, dl_manager: tfds.download.DownloadManager
    ) -> Mapping[str, Sequence[Callable[[], Records]]]:
        if self._sides is None:
            self._sides, self._about = self.find(dl_manager)
        self._metadata().update(self._about)
        return {
            name: [partial(self._shard, name, side, start) for start in range(0, len(side), SHARD)]
            for name, side in self._sides.items()
        }

    def _metadata(self) -> dict[str, Any]:
        """Saved beside the records when all are written."""
        return cast(dict[str, Any], self.info.metadata)

    def find(self, dl_manager: tfds.download.DownloadManager) -> tuple[dict[str, SessionSource], dict[str, Any]]:
        """Sides and what is about them, where the constructor was given none."""
        cure = "Use heimdall_jax.sources.prepared.prepare."
        raise DataError(explain(f"data set {self.name}", got="no sessions", allowed="sides", cure=cure))

    def _shard(self, name: str, side: SessionSource, start: int) -> Records:
        written = self._metadata().setdefault("transmissions", {})
        overview, total = written.setdefault(name, []), sum(map(len, (self._sides or {}).values()))
        receivers = tuple(self._about["receivers"])
        stop = min(start + SHARD, len(side))
        for block in range(start, stop, BLOCK):
            for session in side.__getitems__(range(block, min(block + BLOCK, stop))):
                if session.receivers != receivers:
                    cure = "Give every session of the set the same receivers, masked where absent."
                    raise DataError(
                        explain(f"session {session.session_id}", got="other receivers", allowed=receivers, cure=cure)
                    )
                yield len(overview), encode(session)
                overview.append([session.session_id, session.start_time_s, session.truth_deg])
            tell("writing sessions", sum(map(len, written.values())), total, "sessions")


class PowderRss(SessionsBuilder):
    """Received power of hand-held transmitters on a campus: the University of Utah's localization data, MIT licence."""

    BUILDER_CONFIGS = [  # noqa: RUF012 - TFDS reads a list of the class
        tfds.core.BuilderConfig(name=name) for name in ("time", "random", "block", *OTHER_BLOCKS, "none")
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = "Put the authors' files (single_tx.csv, location_coordinates.json, …) in manual_dir."

    def find(self, dl_manager: tfds.download.DownloadManager) -> tuple[dict[str, SessionSource], dict[str, Any]]:
        """The config names the split; validation is 15 % at seed 0."""
        config = cast(tfds.core.BuilderConfig, self.builder_config)
        return powder_sides(str(dl_manager.manual_dir), str(config.name))


class SimulatedNetwork(SessionsBuilder):
    """Sessions with IQ from a simulated network of receivers, or from any other source."""


class ApprovedSessions(SessionsBuilder):
    """Approved sessions of the platform's catalogue, with IQ; the files' contents are known before they are read."""

    def __init__(
        self,
        *,
        files: Mapping[str, Sequence[RecordFile]] | None = None,
        about: Mapping[str, Any] | None = None,
        **options: Any,
    ):
        """With the files of each side, which Beam's workers may write, and `about` them all, the overview too."""
        self._files = files or {}
        super().__init__(about=about, **options)

    def _shard_iterators_per_split(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Sequence[RecordFile]]:
        return {self._side: self._files[self._side]}

    def _download_and_prepare(
        self,
        dl_manager: tfds.download.DownloadManager,
        download_config: tfds.download.DownloadConfig | None = None,
    ) -> None:
        if not self._files:
            self.find(dl_manager)
        written: list[Any] = []
        for side, files in self._files.items():
            # One by one: with Beam, TFDS writes the sides before once more with every further side.
            self._side = side
            super()._download_and_prepare(dl_manager, download_config)
            # With Beam, TFDS sorts the counts of files by name: 0, 1, 10, 2.
            info: Any = self.info.splits[side]
            written.append(info.replace(shard_lengths=[len(file) for file in files]))
        for counts in self.data_path.glob("*.shard_infos.json"):
            counts.unlink()
        self.info.set_splits(SplitDict(written))
        self._metadata().update(self._about)


def powder_sides(path: str, spec: str, **options: Any) -> tuple[dict[str, SessionSource], dict[str, Any]]:
    """Sides of POWDER under a split, and what is about them; `options` go to `split`."""
    data = read_powder(path, min_receivers=options.pop("min_receivers", 3))
    parts = split(data, spec, folder=path, **options)
    sides = {"train": parts.train, "validation": parts.validation, "test": parts.test}
    about = {
        "receivers": list(data.receivers),
        "origin_deg": list(data.origin_deg),
        "skipped": data.skipped,
        "notes": [*data.notes, *parts.notes],
    }
    return {name: Subset(data, indices) for name, indices in sides.items() if len(indices)}, about


def encode(session: Session) -> dict[str, Any]:
    """A session as the features of a record."""
    iq = np.zeros((0, 2), np.float32)
    if session.iq_RT is not None:
        iq = np.ascontiguousarray(session.iq_RT).reshape(-1).view(np.float32).reshape(-1, 2)
    return {
        "session_id": session.session_id,
        "start_time_s": np.float64(session.start_time_s),
        "receiver_deg": session.receiver_deg_RE,
        "present": session.present_R,
        "heard": session.heard_R,
        "rss_db": session.rss_db_R,
        "truth_deg": np.array(session.truth_deg or (np.nan, np.nan), np.float64),
        "truth_error_m": np.float64(session.truth_error_m),
        "iq": iq,
        "sample_rate_hz": np.float64(np.nan if session.sample_rate_hz is None else session.sample_rate_hz),
        "frequency_hz": np.float64(np.nan if session.frequency_hz is None else session.frequency_hz),
        "altitude_m": _or_empty(session.altitude_m_R),
        "clock_sigma_s": _or_empty(session.clock_sigma_s_R),
        "snr_db": _or_empty(session.snr_db_R, np.float32),
        "masked": "\n".join(session.masked),
    }


def _or_empty(values: np.ndarray | None, dtype: Any = np.float64) -> np.ndarray:
    return np.zeros(0, dtype) if values is None else values
