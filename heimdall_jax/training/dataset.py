"""`HeimdallDataset`: sessions as arrays, one row a transmission, random access; spectrograms kept on disk."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from heimdall_jax.config import FeatureConfig, TimingConfig
from heimdall_jax.errors import DataError, explain
from heimdall_jax.features.extract import TIMING, check_iq, extract, samples_needed
from heimdall_jax.geodesy import bounding_box_m, degrees_to_enu, degrees_to_local
from heimdall_jax.training.kept import Kept
from heimdall_jax.types import Domain, Sample, Session, SessionSource

CHUNK = 32
"""Sessions featurised at once: bounds the IQ in memory to 22 MB for seven receivers and one second at 12 kHz."""
POWERS_CHUNK = 512
"""Sessions read at once where no IQ is."""

Progress = Callable[[int, int], None]


class HeimdallDataset:
    """Random access to samples of a `SessionSource`.

    A receiver whose IQ breaks `check_iq`'s contract is masked, and a session left with fewer than
    `min_receivers` is dropped; both are counted in `skipped`.

    Args:
        sessions: Any random-access source of sessions.
        origin_deg: Latitude, longitude of the local frame's origin.
        rows: Receiver names, one row each; a session's receivers are placed by name, absent ones are masked.
        known: Names with an identity; `known[i]` has identity i + 1, all others 0.
        features: How to read IQ; None for sessions without.
        spectrogram: Make spectrograms of it.
        timing: How to make arrival times of it, and take received powers from it too; None for neither.
        cache: Folder that keeps the finished arrays between runs.
        fingerprint: What tells these sessions from any others; without it nothing is kept.
        min_receivers: Fewest receivers that must have heard.
        progress: Called with (done, total) while sessions are read.

    Attributes:
        sessions: The source; `source_indices` are places in it.
        session_ids: N names.
        start_time_s: Unix times (N,).
        skipped: What was masked or dropped, by reason.

    Raises:
        DataError: No usable session, or a session's receiver has no row.
        StorageError: The cache cannot be written.
    """

    def __init__(
        self,
        sessions: SessionSource,
        *,
        origin_deg: tuple[float, float],
        rows: Sequence[str],
        known: Sequence[str],
        features: FeatureConfig | None = None,
        spectrogram: bool = True,
        timing: TimingConfig | None = None,
        cache: Path | None = None,
        fingerprint: str | None = None,
        min_receivers: int = 1,
        progress: Progress = lambda done, total: None,
    ) -> None:
        count, self.rows = len(sessions), tuple(rows)
        identities = {name: i + 1 for i, name in enumerate(known)}
        self._identity_R = np.array([identities.get(name, 0) for name in rows], np.int32)
        self.sessions, self._origin_deg, self._features, self._timing = sessions, origin_deg, features, timing
        self._spectrogram = spectrogram and features is not None
        self.skipped: Counter[str] = Counter()
        self._first_refusal = ""
        self._columns = _empty_columns(count, len(self.rows), timing is not None)
        self._spectrograms: np.ndarray | None = None
        self._session_ids, self._start_time_s = [""] * count, np.zeros(count)
        kept = None
        if cache is not None and fingerprint is not None:
            depends_on = [fingerprint, count, self.rows, tuple(known), origin_deg, features, self._spectrogram, timing]
            kept = Kept(cache, depends_on)
        if kept is None or not self._restore(kept):
            self._read(sessions, kept, progress)
        enough = self._columns["heard"].sum(axis=1) >= min_receivers
        self.skipped["fewer than min_receivers heard"] += int((~enough).sum())
        self._indices = np.flatnonzero(enough)
        if len(self._indices) == 0:
            got = f"no usable session of {count}"
            if self.skipped:
                got += f" ({', '.join(f'{n} {reason}' for reason, n in self.skipped.items())})"
            cure = self._first_refusal or "Check the folder and the filters."
            raise DataError(explain("data set", got=got, allowed="at least one", cure=cure))

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> Sample:
        """One sample; axes as in `types.Sample`, without the batch axis."""
        return {key: value[0] for key, value in self.gather(np.array([range(len(self))[index]])).items()}

    @property
    def session_ids(self) -> list[str]:
        """Name of each session, in order."""
        return [self._session_ids[i] for i in self._indices]

    @property
    def start_time_s(self) -> np.ndarray:
        """Unix time (N,) of each session's start."""
        return self._start_time_s[self._indices]

    @property
    def source_indices(self) -> np.ndarray:
        """Index (N,) of each sample's session in the source."""
        return self._indices

    def gather(self, indices: np.ndarray) -> Sample:
        """The samples at `indices` (B,), stacked on axis 0."""
        batch = {key: value[self._indices[indices]] for key, value in self._columns.items()}
        if self._spectrograms is not None:
            batch["mel_spectrogram"] = self._spectrograms[self._indices[indices]].astype(np.float32)
        batch["index"] = np.asarray(indices, np.int32)
        return batch

    def columns(self) -> Sample:
        """Everything but the spectrograms of all samples, stacked: (N, ...)."""
        return {key: value[self._indices] for key, value in self._columns.items()}

    def subset(self, indices: np.ndarray) -> HeimdallDataset:
        """A view of the samples at `indices`, sharing memory."""
        view = object.__new__(HeimdallDataset)
        view.__dict__.update(self.__dict__)
        view._indices = self._indices[indices]
        return view

    def feature_moments(self) -> tuple[float, float]:
        """Mean and standard deviation of what the model sees of heard receivers: mel dB, else received power dB."""
        heard = self._columns["heard"][self._indices]
        if self._spectrograms is None:
            values = self._columns["rss_db"][self._indices][heard]
        else:
            sample = np.linspace(0, len(self) - 1, min(len(self), 512)).astype(np.int64)
            values = self._spectrograms[self._indices[sample]][heard[sample]].astype(np.float64)
        return float(values.mean()), float(max(values.std(), 1e-3))

    def _restore(self, kept: Kept) -> bool:
        """Take the arrays from the cache, if it has them."""
        found = kept.load()
        if found is None:
            return False
        table, self._spectrograms = found
        self._session_ids = [str(name) for name in table.pop("session_ids")]
        self._start_time_s = table.pop("start_time_s")
        self.skipped = Counter(json.loads(str(table.pop("skipped"))))
        self._columns = table
        return True

    def _read(self, sessions: SessionSource, kept: Kept | None, progress: Progress) -> None:
        """Read every session once, in chunks."""
        fresh = self._new_spectrograms(len(sessions), kept)
        size = POWERS_CHUNK if self._features is None else CHUNK
        for start in range(0, len(sessions), size):
            stop = min(start + size, len(sessions))
            chunk = sessions.__getitems__(list(range(start, stop)))
            for index, session in zip(range(start, stop), chunk, strict=True):
                self._place(index, session)
            if self._features is not None:
                self._featurise(chunk, start, stop, fresh)
            progress(stop, len(sessions))
        self._spectrograms = fresh
        if kept is not None:
            table = {"session_ids": np.array(self._session_ids), "start_time_s": self._start_time_s, **self._columns}
            kept.store(table | {"skipped": np.array(json.dumps(self.skipped))}, fresh)

    def _new_spectrograms(self, count: int, kept: Kept | None) -> np.ndarray | None:
        """An array to fill, float16, whose rounding is at most 0.03 dB above -128 dB: half the memory and disk."""
        if self._features is None or not self._spectrogram:
            return None
        shape = (count, len(self.rows), self._features.n_mels, self._features.n_frames)
        return np.zeros(shape, np.float16) if kept is None else kept.create(shape)

    def _featurise(self, chunk: list[Session], start: int, stop: int, spectrograms: np.ndarray | None) -> None:
        """Features of a chunk's IQ into the columns and spectrograms."""
        assert self._features is not None
        make = extract(self._features, timing=self._timing, spectrogram=self._spectrogram)
        iq_BRT = self._aligned_iq(chunk, start)
        timed = np.zeros((CHUNK, len(self.rows)), bool)
        if self._timing is not None:
            usable = self._columns["clock_sigma_s"][start:stop] <= self._timing.max_clock_s
            timed[: stop - start] = self._columns["heard"][start:stop] & usable
        made = {key: np.asarray(value)[: stop - start] for key, value in make(iq_BRT, timed).items()}
        if spectrograms is not None:
            spectrograms[start:stop] = made["mel_spectrogram"]
        if self._timing is not None:
            for key in (*TIMING, "rss_db"):
                self._columns[key][start:stop] = made[key]

    def _place(self, index: int, session: Session) -> None:
        """Write one session into the columns."""
        where, present, columns = self._row_numbers(session), session.present_R, self._columns
        self.skipped.update(session.masked)
        columns["identity"][index] = self._identity_R
        columns["rss_db"][index, where] = np.where(session.heard_R, session.rss_db_R, 0.0)[present]
        columns["heard"][index, where] = session.heard_R[present]
        columns["present"][index, where] = True
        columns["receiver_m"][index, where] = degrees_to_local(session.receiver_deg_RE[present], self._origin_deg)
        if self._timing is not None:
            altitude_m = np.zeros(len(present)) if session.altitude_m_R is None else session.altitude_m_R
            enu_m = degrees_to_enu(session.receiver_deg_RE[present], altitude_m[present], self._origin_deg)
            columns["receiver_m"][index, where], columns["receiver_up_m"][index, where] = enu_m[..., :2], enu_m[..., 2]
            if session.clock_sigma_s_R is not None:
                columns["clock_sigma_s"][index, where] = session.clock_sigma_s_R[present]
        if session.snr_db_R is not None:
            known = session.heard_R & np.isfinite(session.snr_db_R)
            columns["snr_known"][index, where] = known[present]
            columns["snr_db"][index, where] = np.where(known, session.snr_db_R, 0.0)[present]
        if session.truth_deg is not None:
            columns["position_m"][index] = degrees_to_local(np.array(session.truth_deg), self._origin_deg)
        columns["position_error_m"][index] = session.truth_error_m
        columns["weight"][index] = session.truth_deg is not None
        self._session_ids[index], self._start_time_s[index] = session.session_id, session.start_time_s

    def _row_numbers(self, session: Session) -> np.ndarray:
        """Row of each receiver that is present."""
        rows = {name: i for i, name in enumerate(self.rows)}
        names = [name for name, present in zip(session.receivers, session.present_R, strict=True) if present]
        strangers = [name for name in names if name not in rows]
        if strangers:
            cure = "Train a receiver_set model, which takes any receiver, or drop these."
            raise DataError(explain("receivers", got=strangers, allowed=list(self.rows), cure=cure))
        return np.array([rows[name] for name in names], np.int64)

    def _aligned_iq(self, chunk: list[Session], start: int) -> np.ndarray:
        """IQ (CHUNK, R, T) of a chunk, silent where masked; a receiver whose IQ is refused is masked and counted."""
        features = self._features
        assert features is not None
        length = samples_needed(features)
        iq_BRT = np.zeros((CHUNK, len(self.rows), length), np.complex64)
        for offset, session in enumerate(chunk):
            for row, receiver in zip(self._row_numbers(session), np.flatnonzero(session.present_R), strict=True):
                if not session.heard_R[receiver]:
                    continue
                try:
                    iq_T = np.empty(0, np.complex64) if session.iq_RT is None else session.iq_RT[receiver, :length]
                    check_iq(iq_T[None], session.sample_rate_hz, features)
                    iq_BRT[offset, row] = iq_T
                except DataError as error:
                    self._columns["heard"][start + offset, row] = False
                    self.skipped[f"recording refused: {str(error).split(':')[0]}"] += 1
                    self._first_refusal = self._first_refusal or f"The first: {error}"
        return iq_BRT


def fit_domain(train: HeimdallDataset, origin_deg: tuple[float, float], known: Sequence[str]) -> Domain:
    """The normalisers of a model, from its training samples only.

    Raises:
        DataError: The samples' truths are all at one place, or unknown.
    """
    columns = train.columns()
    position_m = columns["position_m"][columns["weight"] > 0].astype(np.float64)
    spread = float(np.sqrt(position_m.var(axis=0).mean())) if len(position_m) else 0.0
    if spread == 0.0:
        raise DataError(
            explain(
                "training truths",
                got=f"{len(position_m)} at one place",
                allowed="two different places or more",
                cure="Add recordings of transmitters elsewhere.",
            )
        )
    mean, std = train.feature_moments()
    east, north = position_m.mean(axis=0)
    return Domain(origin_deg, tuple(known), (float(east), float(north)), spread, mean, std, bounding_box_m(position_m))


def _empty_columns(count: int, receivers: int, timing: bool) -> Sample:
    timed = {
        "receiver_up_m": np.zeros((count, receivers), np.float32),
        "clock_sigma_s": np.full((count, receivers), np.inf, np.float32),
        "tdoa_s": np.zeros((count, receivers, receivers), np.float32),
        "arrival_precision_per_s2": np.zeros((count, receivers), np.float32),
        "timing_valid": np.zeros((count, receivers, receivers), bool),
        "bandwidth_hz": np.zeros(count, np.float32),
    }
    return (timed if timing else {}) | {
        "rss_db": np.zeros((count, receivers), np.float32),
        "snr_db": np.zeros((count, receivers), np.float32),
        "snr_known": np.zeros((count, receivers), bool),
        "receiver_m": np.zeros((count, receivers, 2), np.float32),
        "heard": np.zeros((count, receivers), bool),
        "present": np.zeros((count, receivers), bool),
        "identity": np.zeros((count, receivers), np.int32),
        "position_m": np.zeros((count, 2), np.float32),
        "position_error_m": np.zeros(count, np.float32),
        "weight": np.zeros(count, np.float32),
    }
