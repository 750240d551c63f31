"""Recordings of one transmission that began at different, known times and ran at their own rates, on one time axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Complex64
from numpy import ndarray

from heimdall_jax.sources.alignment import half_width, interpolate

NANO = 1e-9
SILENT_SHARE = 0.01
"""Of the samples at either end may be silence where a recording began too late or ended too early: half of the taper
that fades every recording in and out before it is correlated."""
SPARE_SHARE = 0.1
RATES_ALIKE = 1e-5
"""Relative, between the recordings' own rate and the nominal one: delays of 300 us are then off by 3 ns at most."""
CLOCK_SHARE = 0.1
"""Of a clock's standard deviation, below which a shift is not worth the samples' exactness."""
LEAST_SHIFT_S = 1e-9


class Dated(NamedTuple):
    """Samples of one receiver: sample n was taken n / `sample_rate_hz` after Unix time `start_ns`."""

    iq_T: Complex64[ndarray, " T"]
    start_ns: int
    sample_rate_hz: float
    sigma_s: float


class Grid(NamedTuple):
    """`count` times at one rate from Unix time `start_ns`."""

    start_ns: int
    sample_rate_hz: float
    count: int


def spare_samples(count: int) -> int:
    """Samples beyond `count` worth reading: where recordings are longer, the first may begin so much early."""
    return math.ceil(SPARE_SHARE * count) + half_width(1.0)


def common_grid(recordings: Sequence[Dated], nominal_rate_hz: float, count: int) -> Grid:
    """The times that most recordings hold, and of those that as many hold the ones with the fewest samples lacking."""
    rates = sorted(recording.sample_rate_hz for recording in recordings)
    middle = rates[len(rates) // 2]
    rate_hz = middle if abs(middle / nominal_rate_hz - 1) <= RATES_ALIKE else nominal_rate_hz

    def held(grid: Grid) -> tuple[int, float]:
        lacking = [lack for recording in recordings if (lack := _lacking(recording, grid)) <= SILENT_SHARE * count]
        return len(lacking), -sum(lacking)

    grids = [Grid(start_ns, rate_hz, count) for start_ns in sorted({one.start_ns for one in recordings})]
    return max(grids, key=held)


def on_grid(recording: Dated, grid: Grid) -> Complex64[ndarray, " T"] | None:
    """The recording at the grid's times; None where it lacks more of them than `SILENT_SHARE` at either end.

    Samples that are there at these times, to a tenth of the clock's standard deviation, are taken as they are; others
    are interpolated. What it lacks is silent.
    """
    if _lacking(recording, grid) > SILENT_SHARE * grid.count:
        return None
    first, step = _first(recording, grid), recording.sample_rate_hz / grid.sample_rate_hz
    whole, half = round(first), half_width(step)
    off_s = (first - whole) / recording.sample_rate_hz
    off_at_end_s = off_s + (grid.count - 1) * (step - 1) / recording.sample_rate_hz
    if max(abs(off_s), abs(off_at_end_s)) <= max(LEAST_SHIFT_S, CLOCK_SHARE * recording.sigma_s):
        return _between(recording.iq_T, whole, whole + grid.count)
    low, high = math.floor(first) - half, math.ceil(first + grid.count * step) + half + 1
    return interpolate(_between(recording.iq_T, low, high).astype(np.complex128), first - low, step, grid.count)


def _between(iq_T: ndarray, low: int, high: int) -> ndarray:
    """Samples `low` to `high`; silent before the first and after the last."""
    inside = iq_T[max(low, 0) : max(high, 0)]
    before = min(max(-low, 0), high - low)
    return np.pad(inside, (before, high - low - before - len(inside)))


def _first(recording: Dated, grid: Grid) -> float:
    """Position of the grid's start among the recording's samples."""
    return (grid.start_ns - recording.start_ns) * NANO * recording.sample_rate_hz


def _lacking(recording: Dated, grid: Grid) -> float:
    """The larger number of samples that it began too late or ended too early for the grid; 0 where it holds all."""
    first = _first(recording, grid)
    last = first + (grid.count - 1) * recording.sample_rate_hz / grid.sample_rate_hz
    return max(-first, last - (len(recording.iq_T) - 1), 0.0)
