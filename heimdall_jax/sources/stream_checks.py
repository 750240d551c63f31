"""What goes wrong in a stream: receivers that are dead or stuck, clocks that jump, levels that step.

Within one recording its samples and stamps tell; over many recordings the readings of a receiver that stands still tell
against those of the others.

Thresholds: three KiwiSDR recordings hold no two equal samples beyond runs of 2, and their stamps step by at most
0.18 us but for the stale first. Some 41,000 readings of POWDER hold no two equal ones in a row. Of its 24 receivers
that stand still two step by 15 dB or more, and so does the noise floor of both; the next has 11.8 dB. Steps of 20 dB
put into eight receivers were all found, of 15 dB half. Within the three KiwiSDR recordings no second differs from the
one before over nine tenths of the band at all.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import scipy
from jaxtyping import Bool, Float64, Int64, Shaped
from numpy import ndarray

from heimdall_jax.sources.kiwi_wav import StampedIq

STUCK_RUN = 64
"""Equal samples in a row that are no signal: 5 ms at 12 kHz."""
STUCK_SHARE = 0.5
"""Of a recording in such runs, from which on it is dead."""
ONE_VALUE = "it recorded one value for most of its time"
"""What a message says of a dead receiver."""
JUMP_S = 1e-6
"""Of a clock, that lasts: 300 m. Twelve times a GPS stamp's own spread."""
JUMP_STAMPS = 4
"""Stamps on either side that a jump is told by; 2 at the ends."""
GAIN_DB, GAIN_SECONDS = 3.0, 4
"""Least step of gain within a recording, between the medians of so many seconds before it and after."""
GAIN_BINS, GAIN_SHARE = 256, 0.1
"""Of a second's spectrum; at most this share may disagree. A signal that begins moves its own frequencies only."""
FROZEN_RUN, FROZEN_SPREAD_DB = 10, 3.0
"""Equal readings in a row, while the others' spread by so much, that are no measurement."""
SILENT_AMONG = 100
"""Recordings of which a receiver that took part in all and heard none is told."""
STEP_DB, STEP_READINGS = 15.0, 160
"""Least lasting step of a receiver's readings, between the medians of so many before it and after."""
NEIGHBOURS, CANDIDATES, APART_S = 8, 128, 600.0
"""A reading is compared with those of the nearest places, taken at another time."""
STILL_M = 1.0
"""Spread of the places of a receiver that stands still."""


class Step(NamedTuple):
    """A jump at `index` of a sequence, in seconds or dB."""

    index: int
    size: float


def stuck_share(samples: Shaped[ndarray, "T ..."]) -> float:
    """Share of samples (T,) or (T, 2) in runs of `STUCK_RUN` or more equal ones; 1 for a recording of one value."""
    if len(samples) == 0:
        return 0.0
    changes = samples[1:] != samples[:-1]
    changes = changes.any(axis=1) if changes.ndim == 2 else changes
    edges = np.concatenate([[0], np.flatnonzero(changes) + 1, [len(samples)]])
    runs = np.diff(edges)
    return float(runs[runs >= min(STUCK_RUN, len(samples))].sum() / len(samples))


def is_dead(samples: Shaped[ndarray, "T ..."]) -> bool:
    """Whether a recording is zero, constant or frozen for most of its time."""
    return stuck_share(samples) > STUCK_SHARE


def clock_jumps(sample_N: Int64[ndarray, " N"], time_s_N: Float64[ndarray, " N"]) -> list[Step]:
    """Lasting jumps of a clock that stamped these samples: the stamp's number and seconds, positive where time is lost.

    A single stamp that is off is none.
    """
    if len(sample_N) < 2 * JUMP_STAMPS:
        return []
    period_s = float(np.median(np.diff(time_s_N) / np.diff(sample_N)))
    late_s = time_s_N - time_s_N[0] - (sample_N - sample_N[0]) * period_s
    found = []
    for k in np.flatnonzero(np.abs(np.diff(late_s)) > JUMP_S) + 1:
        before, after = late_s[max(0, k - JUMP_STAMPS) : k], late_s[k : k + JUMP_STAMPS]
        size, here = float(np.median(after) - np.median(before)), late_s[k] - late_s[k - 1]
        if min(len(before), len(after)) >= 2 and abs(size) > JUMP_S and abs(here - size) < max(JUMP_S, abs(size) / 10):
            found.append(Step(int(k), size))
    return found


def gain_steps(iq_T2: Shaped[ndarray, "T 2"], sample_rate_hz: float) -> list[Step]:
    """Lasting steps of a receiver's gain: the second of each, and dB, positive where it rises.

    All frequencies rise or fall together then, noise included. Steps within eight seconds count as the largest of them;
    those in the first or last four seconds are not found.
    """
    frames = int(sample_rate_hz) // GAIN_BINS
    seconds = len(iq_T2) // (frames * GAIN_BINS) if frames else 0
    if seconds < 2 * GAIN_SECONDS:
        return []
    parts = iq_T2[: seconds * frames * GAIN_BINS].reshape(seconds, frames, GAIN_BINS, 2)
    level_db_SF = np.stack([_spectrum_db(part) for part in parts])
    sizes_db = np.zeros(seconds)
    for k in range(GAIN_SECONDS, seconds - GAIN_SECONDS + 1):
        before, after = level_db_SF[k - GAIN_SECONDS : k], level_db_SF[k : k + GAIN_SECONDS]
        low, middle, high = np.quantile(
            np.median(after, axis=0) - np.median(before, axis=0), [GAIN_SHARE, 0.5, 1 - GAIN_SHARE]
        )
        sizes_db[k] = middle if max(low, -high) >= GAIN_DB else 0.0
    found = []
    while sizes_db[k := int(np.argmax(np.abs(sizes_db)))]:
        found.append(Step(k, float(sizes_db[k])))
        sizes_db[max(0, k - 2 * GAIN_SECONDS + 1) : k + 2 * GAIN_SECONDS] = 0.0
    return sorted(found)


def _spectrum_db(parts: Shaped[ndarray, "N F 2"]) -> Float64[ndarray, " F"]:
    """Mean power of some frames of samples at each frequency."""
    iq = (parts[..., 0] + 1j * parts[..., 1]) * np.hanning(parts.shape[1])
    return 10 * np.log10((np.abs(np.fft.fft(iq)) ** 2).mean(axis=0) + np.finfo(np.float32).tiny)


def stream_notes(name: str, recording: StampedIq) -> list[str]:
    """Lines on a receiver that is dead, or on each step of its gain and jump of its clock."""
    notes = level_notes(name, recording.iq_T2, recording.nominal_rate_hz)
    stamp_s_N = recording.stamp_s_N + recording.stamp_ns_N * 1e-9
    for stamp, size_s in clock_jumps(recording.first_sample_N, stamp_s_N):
        after_s = recording.first_sample_N[stamp] / recording.nominal_rate_hz
        notes.append(f"{name}: its clock jumps by {size_s * 1e6:+.1f} us, {after_s:.1f} s into the recording")
    return notes


def level_notes(name: str, iq_T2: Shaped[ndarray, "T 2"], sample_rate_hz: float) -> list[str]:
    """Lines on a receiver that is dead, or on each step of its gain."""
    if is_dead(iq_T2):
        return [f"{name}: dead: {ONE_VALUE}"]
    steps = gain_steps(iq_T2, sample_rate_hz)
    return [f"{name}: its gain steps by {size:+.1f} dB, {second} s into the recording" for second, size in steps]


class Readings(NamedTuple):
    """What R receivers read in N recordings, in any order.

    Attributes:
        names: Of the receivers.
        time_s_N: Unix times.
        place_m_NE: Of the transmitters, NaN where unknown.
        receiver_m_NRE: Of the receivers.
        present_NR: Which took part.
        heard_NR: Which heard.
        rss_db_NR: Received powers; meaningless where not heard.
    """

    names: Sequence[str]
    time_s_N: Float64[ndarray, " N"]
    place_m_NE: Float64[ndarray, "N 2"]
    receiver_m_NRE: Float64[ndarray, "N R 2"]
    present_NR: Bool[ndarray, "N R"]
    heard_NR: Bool[ndarray, "N R"]
    rss_db_NR: Float64[ndarray, "N R"]


def doubtful_receivers(readings: Readings) -> tuple[str, ...]:
    """A line for each receiver that is dead, frozen or steps in level over the recordings; nothing is masked for it."""
    order = np.argsort(readings.time_s_N, kind="stable")
    sorted_ = Readings(readings.names, *(values[order] for values in readings[1:]))
    return (*_silent(sorted_), *_frozen(sorted_), *_stepping(sorted_))


def _silent(readings: Readings) -> list[str]:
    count = len(readings.time_s_N)
    dead = readings.present_NR.all(axis=0) & ~readings.heard_NR.any(axis=0)
    if count < SILENT_AMONG:
        return []
    silent = np.flatnonzero(dead).tolist()
    return [f"{readings.names[r]} took part in {count} recordings and heard none of them" for r in silent]


def _frozen(readings: Readings) -> list[str]:
    """Runs of equal readings while those of the others vary."""
    notes = []
    for receiver, name in enumerate(readings.names):
        heard = np.flatnonzero(readings.heard_NR[:, receiver])
        values = readings.rss_db_NR[heard, receiver]
        edges = np.concatenate([[0], np.flatnonzero(np.diff(values)) + 1, [len(values)]])
        for start, stop in pairwise(edges):
            rows = heard[start:stop]
            if len(rows) >= FROZEN_RUN and _spread_of_others_db(readings, rows, receiver) > FROZEN_SPREAD_DB:
                told = f"reads {values[start]:.1f} dB {len(rows)} times in a row from {_when(readings, int(rows[0]))}"
                notes.append(f"{name} is frozen: it {told} while the others vary")
                break
    return notes


def _spread_of_others_db(readings: Readings, rows: np.ndarray, receiver: int) -> float:
    """Median standard deviation of the other receivers that heard most of these recordings."""
    heard = np.delete(readings.heard_NR[rows], receiver, axis=1)
    rss_db = np.delete(readings.rss_db_NR[rows], receiver, axis=1)
    spreads = [rss_db[heard[:, r], r].std() for r in range(heard.shape[1]) if heard[:, r].sum() * 2 > len(rows)]
    return float(np.median(spreads)) if spreads else 0.0


def _stepping(readings: Readings) -> list[str]:
    """The largest lasting step of each receiver that stands still, beyond what all readings of a recording share."""
    rest_db = np.stack([_rest_db(readings, receiver) for receiver in range(len(readings.names))], axis=1)
    known = np.isfinite(rest_db)
    shared = np.array([np.median(row[good]) if good.any() else 0.0 for row, good in zip(rest_db, known, strict=True)])
    notes = []
    for receiver, name in enumerate(readings.names):
        rows = np.flatnonzero(known[:, receiver])
        values = rest_db[rows, receiver] - shared[rows]
        middles = range(STEP_READINGS, len(rows) - STEP_READINGS + 1, STEP_READINGS // 8)
        steps = [
            Step(k, float(np.median(values[k : k + STEP_READINGS]) - np.median(values[k - STEP_READINGS : k])))
            for k in middles
        ]
        largest = max(steps, key=lambda step: abs(step.size), default=Step(0, 0.0))
        if abs(largest.size) >= STEP_DB:
            when = _when(readings, int(rows[largest.index]))
            told = f"{largest.size:+.1f} dB about {when}, beside what it read at the same places at other times"
            notes.append(f"the level of {name} steps by {told}")
    return notes


def _rest_db(readings: Readings, receiver: int) -> Float64[ndarray, " N"]:
    """Readings less the median of those at the nearest places at other times; NaN where there are too few."""
    rest_db = np.full(len(readings.time_s_N), np.nan)
    rows = np.flatnonzero(readings.heard_NR[:, receiver] & np.isfinite(readings.place_m_NE).all(axis=1))
    still = len(rows) and readings.receiver_m_NRE[rows, receiver].std(axis=0).max() < STILL_M
    if not still or len(rows) < 2 * STEP_READINGS:
        return rest_db
    place_m, time_s = readings.place_m_NE[rows], readings.time_s_N[rows]
    near = scipy.spatial.KDTree(place_m).query(place_m, k=min(CANDIDATES, len(rows)))[1]
    soon = np.abs(time_s[near] - time_s[:, None]) < APART_S
    order = np.argsort(soon, axis=1, kind="stable")[:, :NEIGHBOURS]
    enough = (~soon).sum(axis=1) >= NEIGHBOURS
    values = readings.rss_db_NR[rows, receiver]
    at_other_times = values[np.take_along_axis(near, order, axis=1)]
    rest_db[rows[enough]] = (values - np.median(at_other_times, axis=1))[enough]
    return rest_db


def _when(readings: Readings, row: int) -> str:
    moment = dt.datetime.fromtimestamp(float(readings.time_s_N[row]), dt.UTC)
    return f"{moment:%Y-%m-%d %H:%M} UTC"
