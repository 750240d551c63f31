"""One transmission as several GPS-stamped KiwiSDRs recorded it, on one common time grid: windows as sessions."""

from __future__ import annotations

import datetime as dt
import functools
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import SupportsIndex

import numpy as np

from heimdall_jax.errors import ConfigError, DataError, StorageError, explain
from heimdall_jax.sources.alignment import SampleClock, fit_clock, half_width, sample_grid
from heimdall_jax.sources.kiwi_wav import RecordingName, StampedIq, parse_name, read_stamped
from heimdall_jax.sources.powder_files import checked_place, read_text
from heimdall_jax.sources.stream_checks import is_dead, stream_notes
from heimdall_jax.types import Session, Station

NANO = 1_000_000_000
COORDINATES = re.compile(r"'coord'\s*,\s*\[\s*([^\s,;\]]{1,40})\s*[,;\s]\s*([^\s,;\]]{1,40})\s*\]")
MAX_PLACE_BYTES = 65_536
RATE_RANGE = (0.25, 4.0)
"""Of the common grid's sample rate over the recordings'."""


@dataclass(frozen=True, eq=False)
class KiwiRecordings:
    """Consecutive windows in which all receivers were recording; a `SessionSource`, resampled when read.

    Attributes:
        stations: R receivers in the order of their names.
        recordings: Their samples as written.
        clocks: When those were taken, or why that is not known.
        frequency_hz: All are tuned to.
        sample_rate_hz: Of the common grid.
        window_samples: Of each session.
        start_ns: Unix time of each window.
        skipped: What was rejected, by reason.
        notes: How well each receiver's time is known.
    """

    stations: tuple[Station, ...]
    recordings: tuple[StampedIq, ...]
    clocks: tuple[SampleClock, ...]
    frequency_hz: float
    sample_rate_hz: float
    window_samples: int
    start_ns: tuple[int, ...]
    skipped: dict[str, int]
    notes: tuple[str, ...]

    @property
    def receivers(self) -> tuple[str, ...]:
        """Names of the receivers."""
        return tuple(station.name for station in self.stations)

    @property
    def origin_deg(self) -> tuple[float, float]:
        """Mean of the receivers' places."""
        latitude, longitude = np.mean([(s.latitude_deg, s.longitude_deg) for s in self.stations], axis=0)
        return float(latitude), float(longitude)

    @functools.cached_property
    def _dead_R(self) -> np.ndarray:
        """Told by the whole recordings, once for all windows."""
        return np.array([is_dead(recording.iq_T2) for recording in self.recordings])

    def __len__(self) -> int:
        return len(self.start_ns)

    def __getitem__(self, index: SupportsIndex, /) -> Session:
        start_ns = self.start_ns[index]
        iq_RT = np.stack(
            [
                sample_grid(recording, clock, start_ns, self.sample_rate_hz, self.window_samples)
                for recording, clock in zip(self.recordings, self.clocks, strict=True)
            ]
        )
        power_R = np.mean(np.abs(iq_RT.astype(np.complex128)) ** 2, axis=1)
        heard_R = (power_R > 0) & ~self._dead_R
        return Session(
            session_id=utc_name(start_ns),
            start_time_s=start_ns / NANO,
            receivers=self.receivers,
            receiver_deg_RE=np.array([(s.latitude_deg, s.longitude_deg) for s in self.stations]),
            present_R=np.ones(len(self.stations), bool),
            heard_R=heard_R,
            rss_db_R=(10 * np.log10(np.where(heard_R, power_R, 1.0))).astype(np.float32),
            iq_RT=iq_RT,
            sample_rate_hz=self.sample_rate_hz,
            frequency_hz=self.frequency_hz,
            altitude_m_R=np.array([s.altitude_m for s in self.stations]),
            clock_sigma_s_R=np.array([clock.sigma_s for clock in self.clocks]),
        )

    def __getitems__(self, indices: Iterable[SupportsIndex], /) -> list[Session]:
        return [self[i] for i in indices]


def read_kiwi(
    paths: Iterable[str | Path],
    stations: str | Path | Mapping[str, Station],
    *,
    window_s: float = 1.0,
    start_s: float | None = None,
    sample_rate_hz: float = 12_000.0,
) -> KiwiRecordings:
    """Read recordings of one transmission, one file a receiver, and cut them into windows they all hold.

    A recording whose times cannot be used is placed by its name, to a second, and has an infinite clock sigma.

    Args:
        paths: Files named `YYYYMMDDTHHMMSSZ_HERTZ_STATION_iq.wav`.
        stations: Where the receivers are, by name, or a folder with a `STATION.txt` each: Octave's
            `d.STATION = struct('coord', [LATITUDE,LONGITUDE], …)`.
        window_s: Length of a session.
        start_s: Unix time of the first window; None: the first whole second that all hold.
        sample_rate_hz: Of the sessions.

    Raises:
        ConfigError: The window is no whole number of samples, or `start_s` no time.
        StorageError: A file cannot be read.
        DataError: A file breaks its format or is named otherwise, a receiver has no place or two recordings, they are
            tuned apart, recorded at a rate far from `sample_rate_hz`, or no window fits into the time that all hold.
    """
    window_samples = _window_samples(window_s, sample_rate_hz)
    files = sorted(((parse_name(path), Path(path)) for path in paths), key=lambda pair: pair[0].station)
    names = [name for name, _ in files]
    frequency_hz = _frequency(names)
    places = tuple(_place(name.station, stations) for name in names)
    recordings = tuple(read_stamped(path) for _, path in files)
    for recording, (_, path) in zip(recordings, files, strict=True):
        _check_rate(recording, sample_rate_hz, str(path))
    clocks = tuple(
        fit_clock(recording, name.start_s, str(path)) for recording, (name, path) in zip(recordings, files, strict=True)
    )
    held_ns = [_held_ns(clock, sample_rate_hz) for clock in clocks]
    skipped = {
        "stamp off its recording's line (stale, or beyond a gap), rejected": sum(c.rejected for c in clocks),
        "recording without usable times": sum(bool(c.refused) for c in clocks),
    }
    return KiwiRecordings(
        stations=places,
        recordings=recordings,
        clocks=clocks,
        frequency_hz=frequency_hz,
        sample_rate_hz=sample_rate_hz,
        window_samples=window_samples,
        start_ns=_starts_ns(names, held_ns, round(window_s * NANO), start_s),
        skipped={reason: n for reason, n in skipped.items() if n},
        notes=tuple(
            line
            for name, recording, clock in zip(names, recordings, clocks, strict=True)
            for line in (_note(name.station, clock), *stream_notes(name.station, recording))
        ),
    )


def utc_name(time_ns: int) -> str:
    """Unix time as ISO 8601 to the millisecond, such as `2017-11-27T10:41:57.000Z`."""
    milliseconds = round(time_ns / 1_000_000)
    moment = dt.datetime.fromtimestamp(milliseconds // 1000, dt.UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{milliseconds % 1000:03d}Z"


def read_place(path: Path, name: str) -> Station:
    """The receiver `name` from an Octave file with `'coord', [LATITUDE,LONGITUDE]`; its altitude is unknown, so 0.

    Raises:
        StorageError: The file cannot be read.
        DataError: It is large, or holds no such pair.
    """
    allowed = "'coord', [LATITUDE,LONGITUDE]"
    try:
        size = path.stat().st_size
    except OSError as error:
        got = error.strerror or error
        raise StorageError(explain(str(path), got=got, allowed="a readable file", cure="Check the path.")) from error
    match = COORDINATES.search(read_text(path)) if size <= MAX_PLACE_BYTES else None
    try:
        pair = [float(text) for text in match.groups()] if match else None
    except ValueError:
        pair = None
    if pair is None or not all(math.isfinite(value) for value in pair):
        got = f"{size} bytes without it" if match is None else match.group(0)
        raise DataError(explain(str(path), got=got, allowed=allowed, cure="Write the receiver's place."))
    latitude, longitude = checked_place(pair, str(path))
    return Station(name, latitude, longitude)


def _place(name: str, stations: str | Path | Mapping[str, Station]) -> Station:
    """Where the receiver `name` is. Octave allows no `-` in names, so its files have `_` there."""
    keys = (name, name.replace("-", "_"))
    if isinstance(stations, Mapping):
        found = next((stations[key] for key in keys if key in stations), None)
        known = ", ".join(stations)
    else:
        folder = Path(stations)
        file = next((folder / f"{key}.txt" for key in keys if (folder / f"{key}.txt").is_file()), None)
        found = read_place(file, name) if file else None
        known = ", ".join(sorted(path.stem for path in folder.glob("*.txt"))[:20])
    if found is None:
        cure = f"Add {name}.txt with its coordinates, or leave the recording out."
        raise DataError(explain(f"place of receiver {name}", got="none", allowed=known or "one each", cure=cure))
    latitude, longitude = checked_place((found.latitude_deg, found.longitude_deg), f"receiver {name}")
    if (latitude, longitude) == (0.0, 0.0):
        raise DataError(explain(f"receiver {name}", got="(0, 0)", allowed="its place", cure="Correct its place."))
    return Station(name, latitude, longitude, found.altitude_m)


def _window_samples(window_s: float, sample_rate_hz: float) -> int:
    """Samples of a window: a whole number, so that windows follow each other without a gap."""
    wanted = window_s * sample_rate_hz
    if not (0 < window_s < math.inf and 0 < sample_rate_hz < math.inf and 1 <= wanted < 2**31):
        got = f"{window_s} s at {sample_rate_hz} Hz"
        raise ConfigError(explain("window", got=got, allowed="at least one sample", cure="Give window_s 1."))
    if abs(wanted - round(wanted)) > 1e-6:
        cure = f"Give window_s {round(wanted) / sample_rate_hz}."
        raise ConfigError(explain("window", got=f"{wanted} samples", allowed="a whole number", cure=cure))
    return round(wanted)


def _check_rate(recording: StampedIq, sample_rate_hz: float, where: str) -> None:
    low, high = (sample_rate_hz / ratio for ratio in reversed(RATE_RANGE))
    if not low <= recording.nominal_rate_hz <= high:
        got = f"a sample rate of {recording.nominal_rate_hz:.0f} Hz"
        allowed = f"{low:.0f} to {high:.0f} Hz for sessions at {sample_rate_hz:.0f} Hz"
        raise DataError(explain(where, got=got, allowed=allowed, cure="Give a sample_rate_hz near the recording's."))


def _frequency(names: list[RecordingName]) -> float:
    """The frequency all recordings are tuned to, once each receiver is there once."""
    if not names:
        raise DataError(explain("recordings", got="none", allowed="one or more", cure="Give *_iq.wav files."))
    held = [name.station for name in names]
    if len(set(held)) < len(held):
        cure = "Give one recording a receiver."
        raise DataError(explain("recordings", got=f"receivers {held}", allowed="each once", cure=cure))
    tuned = {name.frequency_hz for name in names}
    if len(tuned) > 1:
        got = ", ".join(f"{name.station} {name.frequency_hz:.0f} Hz" for name in names)
        cure = "Give recordings of one transmission."
        raise DataError(explain("tuned frequencies", got=got, allowed="one for all", cure=cure))
    return tuned.pop()


def _held_ns(clock: SampleClock, sample_rate_hz: float) -> tuple[int, int]:
    """First and last Unix time that can be interpolated; a microsecond inside, as times are rounded."""
    half = half_width(clock.sample_rate_hz / sample_rate_hz)
    return clock.time_ns(half) + 1000, clock.time_ns(clock.count - half - 1) - 1000


def _starts_ns(
    names: list[RecordingName], held_ns: list[tuple[int, int]], window_ns: int, start_s: float | None
) -> tuple[int, ...]:
    """Unix times of the windows in the time that all hold."""
    begin, end = max(low for low, _ in held_ns), min(high for _, high in held_ns)
    start = -(-begin // NANO) * NANO
    if start_s is not None:
        if not math.isfinite(start_s):
            raise ConfigError(explain("start_s", got=start_s, allowed="Unix time", cure="Leave it out."))
        # Apart, as their product with a billion would be rounded to 256 ns.
        fraction_s, whole_s = math.modf(start_s)
        start = int(whole_s) * NANO + round(fraction_s * NANO)
    count = (end - start) // window_ns
    if start < begin or count < 1:
        spans = [
            f"{name.station} {utc_name(low)} to {utc_name(high)}"
            for name, (low, high) in zip(names, held_ns, strict=True)
        ]
        got = f"{window_ns / NANO} s from {utc_name(start)}, with {'; '.join(spans)}"
        cure = "Shorten window_s, leave start_s out, or leave out the recording that does not overlap."
        raise DataError(explain("window", got=got, allowed="within the time that all hold", cure=cure))
    return tuple(start + i * window_ns for i in range(count))


def _note(name: str, clock: SampleClock) -> str:
    """A line on how a receiver's time is known."""
    if clock.refused:
        return f"{name}: times cannot be used: {clock.refused}"
    dated = f"{clock.count / clock.sample_rate_hz:.1f} s dated at {clock.sample_rate_hz:.4f} Hz"
    fit = (
        f"{clock.rejected} of {clock.stamps} stamps rejected, the others {clock.residual_s * 1e6:.3f} us rms off a line"
    )
    return f"{name}: {dated}, {fit}, clock sigma {clock.sigma_s * 1e9:.0f} ns"
