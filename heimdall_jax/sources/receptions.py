"""One transmission as several dated receivers recorded it, on one common time grid: windows as sessions."""

from __future__ import annotations

import datetime as dt
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import SupportsIndex

import numpy as np
from jaxtyping import Complex64, Float64
from numpy import ndarray

from heimdall_jax.errors import ConfigError, DataError, explain
from heimdall_jax.sources.stream_checks import is_dead, level_notes
from heimdall_jax.sources.time_axis import Dated, Grid, on_grid
from heimdall_jax.types import Session, Station

NANO = 1_000_000_000
RATE_RANGE = (0.25, 4.0)
"""Of the common grid's sample rate over the recordings'."""
USUAL_WINDOW_S = 1.0


@dataclass(frozen=True, eq=False)
class Reception(ABC):
    """What one receiver recorded, and when.

    Attributes:
        station: Its name and place.
        where: The file, for messages.
        frequency_hz: It was tuned to.
        nominal_rate_hz: Samples per second, to a thousandth.
        sigma_s: One standard deviation of its times; infinite where they cannot be used.
        notes: Lines on how well its time is known, and what is wrong with its samples.
        dead: It recorded one value for most of its time.
    """

    station: Station
    where: str
    frequency_hz: float
    nominal_rate_hz: float
    sigma_s: float
    notes: tuple[str, ...]
    dead: bool

    @abstractmethod
    def held_ns(self, sample_rate_hz: float) -> tuple[int, int]:
        """Unix times from which, and up to which, it can be had at that rate."""

    @abstractmethod
    def at(self, grid: Grid) -> Complex64[ndarray, " K"]:
        """Its samples at the grid's times, full scale 1."""


@dataclass(frozen=True, eq=False)
class DatedReception(Reception):
    """A recording of a known start and a constant rate."""

    recording: Dated

    @classmethod
    def of(
        cls, station: Station, recording: Dated, *, where: str, frequency_hz: float, assumed: bool = False
    ) -> DatedReception:
        """With notes; `assumed` says that nothing told how good its clock is."""
        rate_hz, parts_T2 = recording.sample_rate_hz, recording.iq_T.view(np.float32).reshape(-1, 2)
        sigma = f"clock sigma {recording.sigma_s * 1e9:.0f} ns{', assumed: nothing says it' if assumed else ''}"
        begins = f"{len(parts_T2) / rate_hz:.1f} s dated at {rate_hz:.4f} Hz from {utc_name(recording.start_ns)}"
        notes = f"{station.name}: {begins}, {sigma}", *level_notes(station.name, parts_T2, rate_hz)
        dead = is_dead(parts_T2)
        return cls(station, where, frequency_hz, rate_hz, recording.sigma_s, notes, dead, recording)

    def held_ns(self, sample_rate_hz: float) -> tuple[int, int]:
        """All of it, to the end of the last sample; where it is interpolated at its ends there is silence beyond."""
        start_ns = self.recording.start_ns
        return start_ns, start_ns + round(len(self.recording.iq_T) / self.recording.sample_rate_hz * NANO)

    def at(self, grid: Grid) -> Complex64[ndarray, " K"]:
        """Samples as they are where they were taken at the grid's times; else interpolated."""
        placed = on_grid(self.recording, grid)
        if placed is None:
            got, allowed = utc_name(grid.start_ns), "times that it holds"
            raise DataError(explain(self.where, got=got, allowed=allowed, cure="Ask for less."))
        return placed


@dataclass(frozen=True, eq=False)
class Receptions:
    """Consecutive windows in which all receivers were recording; a `SessionSource`, resampled when read.

    Attributes:
        each: R receivers in the order of their names.
        frequency_hz: All are tuned to.
        sample_rate_hz: Of the common grid.
        window_samples: Of each session.
        start_ns: Unix time of each window.
        skipped: What was rejected, by reason.
    """

    each: tuple[Reception, ...]
    frequency_hz: float
    sample_rate_hz: float
    window_samples: int
    start_ns: tuple[int, ...]
    skipped: dict[str, int] = field(default_factory=dict)

    @property
    def stations(self) -> tuple[Station, ...]:
        """Where the receivers are."""
        return tuple(one.station for one in self.each)

    @property
    def receivers(self) -> tuple[str, ...]:
        """Names of the receivers."""
        return tuple(station.name for station in self.stations)

    @property
    def place_deg_RE(self) -> Float64[ndarray, "R 2"]:
        """Latitude, longitude of the receivers."""
        return np.array([(s.latitude_deg, s.longitude_deg) for s in self.stations])

    @property
    def sigma_s_R(self) -> Float64[ndarray, " R"]:
        """One standard deviation of each receiver's times."""
        return np.array([one.sigma_s for one in self.each])

    @property
    def origin_deg(self) -> tuple[float, float]:
        """Mean of the receivers' places."""
        latitude, longitude = np.mean(self.place_deg_RE, axis=0)
        return float(latitude), float(longitude)

    @property
    def notes(self) -> tuple[str, ...]:
        """How well each receiver's time is known."""
        return tuple(line for one in self.each for line in one.notes)

    def __len__(self) -> int:
        return len(self.start_ns)

    def __getitem__(self, index: SupportsIndex, /) -> Session:
        start_ns = self.start_ns[index]
        grid = Grid(start_ns, self.sample_rate_hz, self.window_samples)
        iq_RT = np.stack([one.at(grid) for one in self.each])
        power_R = np.mean(np.abs(iq_RT.astype(np.complex128)) ** 2, axis=1)
        heard_R = (power_R > 0) & ~np.array([one.dead for one in self.each])
        return Session(
            session_id=utc_name(start_ns),
            start_time_s=start_ns / NANO,
            receivers=self.receivers,
            receiver_deg_RE=self.place_deg_RE,
            present_R=np.ones(len(self.stations), bool),
            heard_R=heard_R,
            rss_db_R=(10 * np.log10(np.where(heard_R, power_R, 1.0))).astype(np.float32),
            iq_RT=iq_RT,
            sample_rate_hz=self.sample_rate_hz,
            frequency_hz=self.frequency_hz,
            altitude_m_R=np.array([s.altitude_m for s in self.stations]),
            clock_sigma_s_R=self.sigma_s_R,
        )

    def __getitems__(self, indices: Iterable[SupportsIndex], /) -> list[Session]:
        return [self[i] for i in indices]


def together(
    receptions: Iterable[Reception],
    *,
    sample_rate_hz: float,
    window_s: float | None = None,
    start_s: float | None = None,
    skipped: dict[str, int] | None = None,
) -> Receptions:
    """The windows that receptions of one transmission all hold.

    Args:
        receptions: One a receiver, in any order.
        sample_rate_hz: Of the sessions.
        window_s: Length of a session; None: 1 s, or all of the common time where that is shorter.
        start_s: Unix time of the first window; None: the first whole second that all hold, or where no window fits
            from there the first time that all hold.
        skipped: What was rejected when they were read, by reason.

    Raises:
        ConfigError: The window is no whole number of samples, or `start_s` no time.
        DataError: There is none, a receiver has two, they are tuned apart, a rate is far from `sample_rate_hz`, or no
            window fits into the time that all hold.
    """
    if window_s is not None:
        _window_samples(window_s, sample_rate_hz)
    each = tuple(sorted(receptions, key=lambda one: one.station.name))
    frequency_hz = _frequency(each)
    for one in each:
        _check_rate(one, sample_rate_hz)
    spans = {one.station.name: one.held_ns(sample_rate_hz) for one in each}
    if window_s is None:
        window_s = _usual_window_s(spans, sample_rate_hz)
    samples = _window_samples(window_s, sample_rate_hz)
    start_ns = _starts_ns(spans, round(window_s * NANO), start_s)
    return Receptions(each, frequency_hz, sample_rate_hz, samples, start_ns, skipped or {})


def utc_name(time_ns: int) -> str:
    """Unix time as ISO 8601 to the millisecond, such as `2017-11-27T10:41:57.000Z`."""
    milliseconds = round(time_ns / 1_000_000)
    moment = dt.datetime.fromtimestamp(milliseconds // 1000, dt.UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{milliseconds % 1000:03d}Z"


def _usual_window_s(spans: dict[str, tuple[int, int]], sample_rate_hz: float) -> float:
    begin, end = _common_ns(spans)
    held = math.floor((end - begin) / NANO * sample_rate_hz + 1e-6)
    return USUAL_WINDOW_S if held >= USUAL_WINDOW_S * sample_rate_hz else max(held, 1) / sample_rate_hz


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


def _check_rate(one: Reception, sample_rate_hz: float) -> None:
    low, high = (sample_rate_hz / ratio for ratio in reversed(RATE_RANGE))
    if not low <= one.nominal_rate_hz <= high:
        got = f"a sample rate of {one.nominal_rate_hz:.0f} Hz"
        allowed = f"{low:.0f} to {high:.0f} Hz for sessions at {sample_rate_hz:.0f} Hz"
        cure = "Give recordings of like rates, or a sample_rate_hz near the recording's."
        raise DataError(explain(one.where, got=got, allowed=allowed, cure=cure))


def _frequency(each: Sequence[Reception]) -> float:
    """The frequency all recordings are tuned to, once each receiver is there once."""
    if not each:
        raise DataError(explain("recordings", got="none", allowed="one or more", cure="Give the recordings' files."))
    held = [one.station.name for one in each]
    if len(set(held)) < len(held):
        cure = "Give one recording a receiver."
        raise DataError(explain("recordings", got=f"receivers {held}", allowed="each once", cure=cure))
    tuned = {one.frequency_hz for one in each}
    if len(tuned) > 1:
        got = ", ".join(f"{one.station.name} {one.frequency_hz:.0f} Hz" for one in each)
        cure = "Give recordings of one transmission."
        raise DataError(explain("tuned frequencies", got=got, allowed="one for all", cure=cure))
    return tuned.pop()


def _common_ns(spans: dict[str, tuple[int, int]]) -> tuple[int, int]:
    return max(low for low, _ in spans.values()), min(high for _, high in spans.values())


def _starts_ns(spans: dict[str, tuple[int, int]], window_ns: int, start_s: float | None) -> tuple[int, ...]:
    """Unix times of the windows in the time that all hold; a nanosecond is lost to rounding."""
    begin, end = _common_ns(spans)
    start = -(-begin // NANO) * NANO
    if start_s is not None:
        if not math.isfinite(start_s):
            raise ConfigError(explain("start_s", got=start_s, allowed="Unix time", cure="Leave it out."))
        # Apart, as their product with a billion would be rounded to 256 ns.
        fraction_s, whole_s = math.modf(start_s)
        start = int(whole_s) * NANO + round(fraction_s * NANO)
    elif start + window_ns > end + 1 >= begin + window_ns:
        start = begin
    count = (end + 1 - start) // window_ns
    if start < begin or count < 1:
        told = "; ".join(f"{name} {utc_name(low)} to {utc_name(high)}" for name, (low, high) in spans.items())
        got = f"{window_ns / NANO} s from {utc_name(start)}, with {told}"
        cure = "Shorten window_s, leave start_s out, or leave out the recording that does not overlap."
        raise DataError(explain("window", got=got, allowed="within the time that all hold", cure=cure))
    return tuple(start + i * window_ns for i in range(count))
