"""The recordings of one session out of an object store: checked, dated and on one time axis; at most a session is held.

Nothing is known of an object before it is read here. What breaks its format is masked, with the reason.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Complex64, Float64
from numpy import ndarray

from heimdall_jax.errors import DataError, StorageError
from heimdall_jax.sources.matching import Measurement
from heimdall_jax.sources.recordings import (
    HEADER_BYTES,
    MAX_BYTES,
    METADATA_BYTES,
    SAMPLE_BYTES,
    RecordingMetadata,
    decode_metadata,
    metadata_name,
    parse_header,
)
from heimdall_jax.sources.stream_checks import is_dead
from heimdall_jax.sources.time_axis import Dated, common_grid, on_grid, spare_samples
from heimdall_jax.store import MissingObjectError, ObjectStore, checked_key

MISSING = "recording missing in the store"
BROKEN = "recording that is not complete, one-dimensional complex64"
DEAD = "recording of one value for most of its time (a dead receiver)"
TOO_LARGE = f"recording larger than {MAX_BYTES} bytes"
OTHER_LENGTH = "recording of another length than the catalogue says"
UNLIKE = "recording at another sample rate or length than its session's others"
UNTIMED = "recording without timing metadata, timing masked"
IMPOSSIBLE = "recording with impossible timing metadata, timing masked"
APART = "recording that began too far from its session's others, timing masked"
RATE_TOLERANCE = 1e-3
"""Relative, of a measured sample rate to the catalogue's: what `features.extract` allows."""
SPAN_TOLERANCE_S = 1.0
"""By which a recording may begin outside of its session."""
NANO = 1_000_000_000
ROUNDING_HZ = 1 / math.sqrt(12)
"""Standard deviation of what rounding to whole hertz takes from a sample rate."""


class SessionIq(NamedTuple):
    """What R receivers recorded; `iq_RT` and the rate are None where nothing could be read.

    Attributes:
        iq_RT: Samples; rows of receivers that are not readable are zero, and meaningless.
        sample_rate_hz: Of all of them.
        readable_R: Which could be read.
        clock_sigma_s_R: Of the time of the middle of the samples; infinite where unknown. None: all unknown.
        masked: Why recordings, or their times, cannot be used; a reason for each.
    """

    iq_RT: Complex64[ndarray, "R T"] | None
    sample_rate_hz: float | None
    readable_R: Bool[ndarray, " R"]
    clock_sigma_s_R: Float64[ndarray, " R"] | None
    masked: tuple[str, ...]


def read_session_iq(
    store: ObjectStore, measurements: Sequence[Measurement | None], span_s: tuple[float, float], samples: int | None
) -> SessionIq:
    """Read the recordings of a session.

    Args:
        store: Holds them.
        measurements: R of them, one a receiver; None where it did not hear.
        span_s: Unix times between which the session was recorded.
        samples: Of each receiver are wanted, those it began with or those nearest; None: all, as most have them.

    Raises:
        StorageError: The store cannot be reached.
    """
    masked: list[str] = []
    read: dict[int, Complex64[ndarray, " T"]] = {}
    for receiver, measurement in enumerate(measurements):
        if measurement is not None:
            found = _samples(store, measurement, samples)
            if isinstance(found, str):
                masked.append(found)
            else:
                read[receiver] = found
    if samples is None and read:
        length = Counter(len(iq_T) for iq_T in read.values()).most_common(1)[0][0]
        masked += [UNLIKE for iq_T in read.values() if len(iq_T) != length]
        read = {receiver: iq_T for receiver, iq_T in read.items() if len(iq_T) == length}
    count = samples if samples is not None else max(map(len, read.values()), default=0)
    dated = {}
    for receiver, iq_T in read.items():
        measurement = measurements[receiver]
        assert measurement is not None
        times = _dated(store, measurement, iq_T, span_s, count)
        if isinstance(times, str):
            masked.append(times)
        else:
            dated[receiver] = times
    return _together(read, dated, measurements, count, masked)


def _together(
    read: dict[int, Complex64[ndarray, " T"]],
    dated: dict[int, Dated],
    measurements: Sequence[Measurement | None],
    count: int,
    masked: list[str],
) -> SessionIq:
    """One array of all that was read: dated recordings at common times, the others from their own starts."""
    readable_R, sigma_s_R = np.zeros(len(measurements), bool), np.full(len(measurements), np.inf)
    if not read:
        return SessionIq(None, None, readable_R, None, tuple(masked))
    iq_RT = np.zeros((len(measurements), count), np.complex64)
    for receiver, iq_T in read.items():
        iq_RT[receiver], readable_R[receiver] = iq_T[:count], True
    rate_hz = next(m.sample_rate_hz for i, m in enumerate(measurements) if m is not None and i in read)
    if dated:
        nominal_hz = rate_hz or next(iter(dated.values())).sample_rate_hz
        grid = common_grid(list(dated.values()), nominal_hz, count)
        rate_hz = grid.sample_rate_hz
        for receiver, recording in dated.items():
            placed = on_grid(recording, grid)
            if placed is None:
                masked.append(APART)
            else:
                iq_RT[receiver], sigma_s_R[receiver] = placed, recording.sigma_s
    known = bool(np.isfinite(sigma_s_R).any())
    return SessionIq(iq_RT, rate_hz, readable_R, sigma_s_R if known else None, tuple(masked))


def _samples(store: ObjectStore, measurement: Measurement, wanted: int | None) -> Complex64[ndarray, " T"] | str:
    """At least `wanted` samples and a few to spare, or all; or why there are none."""
    key = measurement.key
    if key is None:
        return MISSING
    try:
        checked_key(key)
    except StorageError:
        return MISSING  # no store can hold it
    limit = HEADER_BYTES + MAX_BYTES
    if wanted is not None:
        limit = min(limit, HEADER_BYTES + (wanted + spare_samples(wanted)) * SAMPLE_BYTES)
    try:
        data = store.get(key, limit)
        size = len(data) if len(data) < limit else store.size(key)
        offset, count = parse_header(data[:HEADER_BYTES], key)
    except MissingObjectError:
        return MISSING
    except DataError:
        return BROKEN
    if size - offset != count * SAMPLE_BYTES:
        return BROKEN
    if wanted is None and size > MAX_BYTES:
        return TOO_LARGE
    if measurement.samples is not None and count != measurement.samples:
        return OTHER_LENGTH
    if wanted is not None and count < wanted:
        return shorter(wanted)
    iq_T = np.frombuffer(data, np.complex64, min(count, (len(data) - offset) // SAMPLE_BYTES), offset)
    return DEAD if is_dead(iq_T) else iq_T


def shorter(samples: int) -> str:
    """The reason for a recording with less than the samples asked for."""
    return f"recording shorter than {samples} samples"


def _dated(
    store: ObjectStore,
    measurement: Measurement,
    iq_T: Complex64[ndarray, " T"],
    span_s: tuple[float, float],
    count: int,
) -> Dated | str:
    """When the samples were taken; or why that is not known."""
    assert measurement.key is not None
    name = metadata_name(measurement.key)
    try:
        metadata = decode_metadata(store.get(name, METADATA_BYTES), name)
    except MissingObjectError:
        return UNTIMED
    except DataError:
        return IMPOSSIBLE
    nominal_hz, measured_hz = measurement.sample_rate_hz, metadata.sample_rate_hz
    if measured_hz is not None and not _plausible(measured_hz, nominal_hz):
        return IMPOSSIBLE
    rate_hz = measured_hz or nominal_hz
    if metadata.start_time_ns is None or metadata.clock_sigma_s is None or not rate_hz:
        return UNTIMED
    if not _within(metadata, span_s):
        return IMPOSSIBLE
    # What the middle of the samples is off by, where only the catalogue's whole hertz are known.
    rounded_s = 0.0 if measured_hz else count / 2 / rate_hz * ROUNDING_HZ / rate_hz
    return Dated(iq_T, metadata.start_time_ns, rate_hz, math.hypot(metadata.clock_sigma_s, rounded_s))


def _plausible(measured_hz: float, nominal_hz: float | None) -> bool:
    return measured_hz > 0 and (not nominal_hz or abs(measured_hz / nominal_hz - 1) <= RATE_TOLERANCE)


def _within(metadata: RecordingMetadata, span_s: tuple[float, float]) -> bool:
    """Whether the recording began in its session, to a second."""
    assert metadata.start_time_ns is not None
    start_s = metadata.start_time_ns / NANO
    return span_s[0] - SPAN_TOLERANCE_S <= start_s <= span_s[1] + SPAN_TOLERANCE_S
