"""When each sample of a stamped recording was taken, and its values at other times.

A receiver's samples are evenly spaced, but at its own rate, and some stamps are wrong: the first is stale, and after
lost data all are late. A line through most of them dates every sample.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy
from jaxtyping import Bool, Complex64, Complex128, Float64, Int64
from numpy import ndarray

from heimdall_jax.errors import DataError, explain
from heimdall_jax.sources.kiwi_wav import FULL_SCALE, StampedIq

GPS_EPOCH_S = 315_964_800
"""Unix time of 1980-01-06, where GPS time starts."""
LEAP_SECONDS = ((1_483_228_800, 18), (1_435_708_800, 17))
"""Unix time from which GPS time is ahead of UTC by so many seconds (IERS Bulletin C 52 and 49)."""
WEEK_S = 604_800
GPS_SIGMA_S = 86e-9
"""Of a GPS-disciplined stamp against true time: the median residual over 36 stations."""
MAX_AGE_S = 60
"""Of a receiver's last GPS solution: a clock left alone for as long wanders by 336 ns (median over stations)."""
MAX_NAME_ERROR_S = 600
"""Between the stamps and the file's name, which only the week is taken from."""
MAX_RATE_ERROR = 1e-3
"""Between the fitted and the header's sample rate, relative."""
MIN_STAMPS = 8
CLIP_SIGMAS = 6.0
HALF_WIDTH = 32
KAISER_BETA = 12.0
"""With 64 taps: below 1e-5 of a tone up to 0.43 of the sample rate (117 dB, Kaiser 1974)."""
CHUNK = 2048


@dataclass(frozen=True)
class SampleClock:
    """Sample `first + i` was taken `offset_s + i / sample_rate_hz` after Unix time `reference_s`.

    A float64 of Unix time steps by 240 ns, so whole seconds are kept apart.

    Attributes:
        reference_s: Whole seconds of Unix time.
        offset_s: Time of sample `first` after it.
        sample_rate_hz: As fitted, or the header's where it could not be.
        first: First sample the line dates.
        count: Samples it dates.
        sigma_s: One standard deviation of its times; infinite where `refused`.
        residual_s: Root mean square of the stamps about the line; infinite where `refused`.
        stamps: Stamps in the recording.
        rejected: Stamps that are not on the line.
        refused: Why its times cannot be used; empty where they can.
    """

    reference_s: int
    offset_s: float
    sample_rate_hz: float
    first: int
    count: int
    sigma_s: float
    residual_s: float
    stamps: int
    rejected: int
    refused: str = ""

    def position(self, time_ns: int) -> float:
        """Samples after `first` at Unix time `time_ns`."""
        seconds, nanoseconds = divmod(time_ns, 1_000_000_000)
        return (seconds - self.reference_s - self.offset_s + nanoseconds * 1e-9) * self.sample_rate_hz

    def time_ns(self, position: int) -> int:
        """Unix time at so many samples after `first`, to the nanosecond."""
        return self.reference_s * 1_000_000_000 + round((self.offset_s + position / self.sample_rate_hz) * 1e9)


def gps_ahead_s(unix_s: int, where: str) -> int:
    """Seconds by which GPS time is ahead of UTC.

    Raises:
        DataError: Before July 2015: no KiwiSDR existed.
    """
    for since, ahead in LEAP_SECONDS:
        if unix_s >= since:
            return ahead
    cure = "Correct the date in its name."
    raise DataError(explain(where, got=f"Unix time {unix_s}", allowed=f"{LEAP_SECONDS[-1][0]} or later", cure=cure))


def fit_clock(recording: StampedIq, named_s: int, where: str) -> SampleClock:
    """The line through most stamps of a recording that was named at Unix time `named_s`.

    Where there is none, the name and the header date the samples, with infinite sigma and the reason.

    Raises:
        DataError: The name's date is before KiwiSDRs.
    """
    gps_s = named_s - GPS_EPOCH_S + gps_ahead_s(named_s, where)
    # Each stamp is taken into the week about the name's time: recordings may run over a week's end.
    since_name_s = (recording.stamp_s_N - gps_s + WEEK_S // 2) % WEEK_S - WEEK_S // 2
    time_s_N = since_name_s + recording.stamp_ns_N * 1e-9
    fresh_N = recording.age_s_N <= MAX_AGE_S
    total = len(time_s_N)
    refused = SampleClock(
        named_s, 0.0, recording.nominal_rate_hz, 0, len(recording.iq_T2), math.inf, math.inf, total, total
    )
    if fresh_N.sum() * 2 < total:
        stale = f"the last GPS solution is over {MAX_AGE_S} s old in {total - fresh_N.sum()} of {total} blocks"
        return _refuse(refused, stale)
    on_line_N = fresh_N.copy()
    on_line_N[fresh_N] = _on_one_line(recording.first_sample_N[fresh_N], time_s_N[fresh_N], recording.nominal_rate_hz)
    kept = np.flatnonzero(on_line_N)
    span = kept[-1] - kept[0] + 1 if len(kept) else total
    if len(kept) < MIN_STAMPS or len(kept) * 2 < span:
        return _refuse(refused, f"{len(kept)} of {span} stamps are on one line")
    return _line(recording, time_s_N, on_line_N, refused)


def _line(
    recording: StampedIq, time_s_N: Float64[ndarray, " N"], on_line_N: Bool[ndarray, " N"], refused: SampleClock
) -> SampleClock:
    """The clock of the stamps on the line, from the first of their blocks to the last; or why there is none."""
    kept = np.flatnonzero(on_line_N)
    ends = np.append(recording.first_sample_N, len(recording.iq_T2))
    first, last = int(ends[kept[0]]), int(ends[kept[-1] + 1])
    period_s, offset_s, residual_s = _least_squares(recording.first_sample_N[kept] - first, time_s_N[kept])
    rate_hz = 1 / period_s
    if abs(rate_hz / recording.nominal_rate_hz - 1) > MAX_RATE_ERROR:
        return _refuse(refused, f"stamps give {rate_hz:.1f} Hz, the header {recording.nominal_rate_hz:.0f}")
    if abs(offset_s) > MAX_NAME_ERROR_S:
        return _refuse(refused, f"stamps are {offset_s:.0f} s from the time in the name")
    rms_s = float(np.sqrt(np.mean(residual_s**2)))
    return SampleClock(
        reference_s=refused.reference_s,
        offset_s=offset_s,
        sample_rate_hz=rate_hz,
        first=first,
        count=last - first,
        sigma_s=math.hypot(rms_s, GPS_SIGMA_S),
        residual_s=rms_s,
        stamps=refused.stamps,
        rejected=refused.stamps - len(kept),
    )


def _refuse(clock: SampleClock, reason: str) -> SampleClock:
    return SampleClock(**{**vars(clock), "refused": reason})


def _on_one_line(
    sample_N: Int64[ndarray, " N"], time_s_N: Float64[ndarray, " N"], nominal_rate_hz: float
) -> Bool[ndarray, " N"]:
    """Which stamps are on the line that most share.

    A stamp half a sample off does not say which sample it dates. Lost data shifts all later stamps, by the same:
    then the longer part is the line.
    """
    nowhere = np.zeros(len(sample_N), bool)
    if len(sample_N) < MIN_STAMPS:
        return nowhere
    samples, seconds = np.diff(sample_N), np.diff(time_s_N)
    period_s = float(np.median(seconds / samples))
    if not abs(period_s * nominal_rate_hz - 1) < MAX_RATE_ERROR:
        return nowhere
    steady = np.abs(seconds - samples * period_s) < period_s / 2
    if not steady.any():
        return nowhere
    period_s = float(seconds[steady].sum() / samples[steady].sum())
    late_s_N = time_s_N - sample_N * period_s
    ordered = np.sort(late_s_N)
    shared = np.searchsorted(ordered, ordered + period_s, side="right") - np.arange(len(ordered))
    start_s = ordered[np.argmax(shared)]
    on_line = (late_s_N >= start_s) & (late_s_N <= start_s + period_s)
    for _ in range(3):
        if on_line.sum() < MIN_STAMPS:
            break
        period_s, offset_s, residual_s = _least_squares(sample_N[on_line], time_s_N[on_line])
        # 1.4826: from the median of |x| to the standard deviation of a normal variable.
        limit_s = CLIP_SIGMAS * max(1.4826 * float(np.median(np.abs(residual_s))), GPS_SIGMA_S)
        on_line &= np.abs(time_s_N - offset_s - sample_N * period_s) <= limit_s
    return on_line


def _least_squares(
    sample_N: Int64[ndarray, " N"], time_s_N: Float64[ndarray, " N"]
) -> tuple[float, float, Float64[ndarray, " N"]]:
    """Period, time of sample 0, and residuals, seconds; taken about the means, which keeps all digits."""
    sample_mean, time_mean = sample_N.mean(), time_s_N.mean()
    samples, seconds = sample_N - sample_mean, time_s_N - time_mean
    period_s = float(samples @ seconds / (samples @ samples))
    return period_s, float(time_mean - period_s * sample_mean), seconds - period_s * samples


def half_width(step: float) -> int:
    """Samples needed on either side of the first and the last position."""
    return math.ceil(HALF_WIDTH * max(step, 1.0))


def interpolate(iq_T: Complex128[ndarray, " T"], start: float, step: float, count: int) -> Complex64[ndarray, " K"]:
    """Values at `start + k * step`, k < `count`, in samples of `iq_T`; band-limited to the lower of the two rates.

    A sinc under a Kaiser window, evaluated at each position: no grid, so no rounding of delays.

    Raises:
        DataError: A position is within `half_width(step)` samples of an end.
    """
    half, stretch = half_width(step), max(step, 1.0)
    end = start + (count - 1) * step
    if not (start >= half - 1 and end < len(iq_T) - half):
        allowed = f"{half - 1} to {len(iq_T) - half}"
        cure = "Ask for less."
        raise DataError(explain("positions to interpolate at", got=f"{start} to {end}", allowed=allowed, cure=cure))
    taps = np.arange(1 - half, half + 1)
    out_K = np.empty(count, np.complex64)
    for begin in range(0, count, CHUNK):
        position = start + step * np.arange(begin, min(begin + CHUNK, count), dtype=np.float64)
        near = np.floor(position).astype(np.int64)[:, None] + taps
        away = position[:, None] - near
        window = scipy.special.i0(KAISER_BETA * np.sqrt(np.maximum(1 - (away / half) ** 2, 0.0)))
        kernel = np.sinc(away / stretch) * window / (scipy.special.i0(KAISER_BETA) * stretch)
        out_K[begin : begin + CHUNK] = np.einsum("kj,kj->k", kernel, iq_T[near])
    return out_K


def sample_grid(
    recording: StampedIq, clock: SampleClock, start_ns: int, sample_rate_hz: float, count: int
) -> Complex64[ndarray, " K"]:
    """`count` samples, full scale 1, at exactly `sample_rate_hz` from Unix time `start_ns`.

    Raises:
        DataError: The recording does not hold them with the interpolator's margin.
    """
    step = clock.sample_rate_hz / sample_rate_hz
    start, half = clock.position(start_ns), half_width(step)
    low = max(math.floor(start) - half, 0)
    high = min(math.ceil(start + count * step) + half + 1, clock.count)
    part = recording.iq_T2[clock.first : clock.first + clock.count][low : max(high, low)]
    iq_T = (part.astype(np.float64) / FULL_SCALE).view(np.complex128)[:, 0]
    return interpolate(iq_T, start - low, step, count)
