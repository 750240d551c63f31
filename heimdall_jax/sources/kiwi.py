"""GPS-stamped KiwiSDR recordings as receptions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Complex64
from numpy import ndarray

from heimdall_jax.sources.alignment import SampleClock, fit_clock, half_width, sample_grid
from heimdall_jax.sources.kiwi_wav import StampedIq, parse_name, read_stamped
from heimdall_jax.sources.places import Places, place_of
from heimdall_jax.sources.receptions import Reception, Receptions, together
from heimdall_jax.sources.stream_checks import is_dead, stream_notes
from heimdall_jax.sources.time_axis import Grid

KIWI_RATE_HZ = 12_000.0
"""Of the sessions: a KiwiSDR's own rate is within hertz of it."""


@dataclass(frozen=True, eq=False)
class KiwiReception(Reception):
    """A recording with the line through its stamps."""

    recording: StampedIq
    clock: SampleClock

    def held_ns(self, sample_rate_hz: float) -> tuple[int, int]:
        """First and last Unix time that can be interpolated; a microsecond inside, as times are rounded."""
        half = half_width(self.clock.sample_rate_hz / sample_rate_hz)
        return self.clock.time_ns(half) + 1000, self.clock.time_ns(self.clock.count - half - 1) - 1000

    def at(self, grid: Grid) -> Complex64[ndarray, " K"]:
        """Interpolated."""
        return sample_grid(self.recording, self.clock, *grid)


def read_kiwi(
    paths: Iterable[str | Path],
    stations: Places,
    *,
    window_s: float = 1.0,
    start_s: float | None = None,
    sample_rate_hz: float = KIWI_RATE_HZ,
) -> Receptions:
    """Read recordings of one transmission, one file a receiver, and cut them into windows they all hold.

    A recording whose times cannot be used is placed by its name, to a second, and has an infinite clock sigma.

    Args:
        paths: Files named `YYYYMMDDTHHMMSSZ_HERTZ_STATION_iq.wav`.
        stations: Where the receivers are, by name, or a folder with a `STATION.txt` each: Octave's
            `d.STATION = struct('coord', [LATITUDE,LONGITUDE], …)`.
        window_s: Length of a session.
        start_s: Unix time of the first window, see `receptions.together`.
        sample_rate_hz: Of the sessions.

    Raises:
        ConfigError: The window is no whole number of samples, or `start_s` no time.
        StorageError: A file cannot be read.
        DataError: A file breaks its format or is named otherwise, a receiver has no place or two recordings, they are
            tuned apart, recorded at a rate far from `sample_rate_hz`, or no window fits into the time that all hold.
    """
    each = [read_kiwi_reception(path, stations) for path in paths]
    skipped = {
        "stamp off its recording's line (stale, or beyond a gap), rejected": sum(one.clock.rejected for one in each),
        "recording without usable times": sum(bool(one.clock.refused) for one in each),
    }
    told = {reason: n for reason, n in skipped.items() if n}
    return together(each, sample_rate_hz=sample_rate_hz, window_s=window_s, start_s=start_s, skipped=told)


def read_kiwi_reception(path: str | Path, stations: Places) -> KiwiReception:
    """One receiver's recording.

    Raises:
        StorageError: A file cannot be read.
        DataError: It breaks its format or is named otherwise, or its receiver has no place.
    """
    name = parse_name(path)
    place = place_of(name.station, stations)
    recording = read_stamped(path)
    clock = fit_clock(recording, name.start_s, str(path))
    notes = _note(place.name, clock), *stream_notes(place.name, recording)
    return KiwiReception(
        station=place,
        where=str(path),
        frequency_hz=name.frequency_hz,
        nominal_rate_hz=recording.nominal_rate_hz,
        sigma_s=clock.sigma_s,
        notes=notes,
        dead=is_dead(recording.iq_T2),
        recording=recording,
        clock=clock,
    )


def _note(name: str, clock: SampleClock) -> str:
    """A line on how a receiver's time is known."""
    if clock.refused:
        return f"{name}: times cannot be used: {clock.refused}"
    dated = f"{clock.count / clock.sample_rate_hz:.1f} s dated at {clock.sample_rate_hz:.4f} Hz"
    fit = (
        f"{clock.rejected} of {clock.stamps} stamps rejected, the others {clock.residual_s * 1e6:.3f} us rms off a line"
    )
    return f"{name}: {dated}, {fit}, clock sigma {clock.sigma_s * 1e9:.0f} ns"
