"""KiwiSDR recordings as `kiwirecorder` writes them: IQ in RIFF WAVE, a GPS stamp before every block of samples.

A `kiwi` chunk (10 bytes, little endian) comes before each `data` chunk: uint8 seconds since the last GPS solution
(254: that or more, 255: none yet), uint8 unused, uint32 GPS seconds of the week, uint32 nanoseconds; they say when
the block's first sample was taken. Layout checked against recordings of 2017. The files come from strangers: every
size is checked before it is used.
"""

from __future__ import annotations

import datetime as dt
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int16, Int64
from numpy import ndarray

from heimdall_jax.errors import DataError, explain
from heimdall_jax.outside import read_file

FULL_SCALE = 32768.0
MAX_BYTES = 1 << 27
"""Largest file that is read: 46 minutes at 12 kHz."""
MAX_BLOCKS = 200_000
"""Of a file; KiwiSDRs write 23 a second at 12 kHz."""
MAX_CHUNKS = 3 * MAX_BLOCKS
NAME = re.compile(r"(?P<time>\d{8}T\d{6}Z)_(?P<hertz>\d{1,10})_(?P<station>[^_].*)_iq\.wav")
ALLOWED_NAME = "YYYYMMDDTHHMMSSZ_HERTZ_STATION_iq.wav"
RECORD_AGAIN = "Is the file cut off? Fetch or record it again."
RIFF, CHUNK, STAMP, FORMAT = (struct.Struct(f"<{code}") for code in ("4sI4s", "4sI", "BxII", "HHIIHH"))


@dataclass(frozen=True)
class RecordingName:
    """What a recording's file name says: Unix time of its start in whole seconds, tuned frequency, and station."""

    start_s: int
    frequency_hz: float
    station: str


@dataclass(frozen=True, eq=False)
class StampedIq:
    """T samples in N stamped blocks.

    Attributes:
        nominal_rate_hz: The header's, in whole hertz: the true one differs from receiver to receiver.
        iq_T2: I and Q.
        first_sample_N: Index of each block's first sample.
        stamp_s_N: Its GPS time, whole seconds of the week, as written.
        stamp_ns_N: Nanoseconds to add.
        age_s_N: Seconds since the receiver's last GPS solution.
    """

    nominal_rate_hz: float
    iq_T2: Int16[ndarray, "T 2"]
    first_sample_N: Int64[ndarray, " N"]
    stamp_s_N: Int64[ndarray, " N"]
    stamp_ns_N: Int64[ndarray, " N"]
    age_s_N: Int64[ndarray, " N"]


def parse_name(path: str | Path) -> RecordingName:
    """Start, tuned frequency and station from a file name such as `20171127T104156Z_77500_DF0KL_iq.wav`.

    Raises:
        DataError: It is no such name.
    """
    name = Path(path).name
    match = NAME.fullmatch(name)
    try:
        if match is None:
            raise ValueError
        start = dt.datetime.strptime(match["time"], "%Y%m%dT%H%M%SZ").replace(tzinfo=dt.UTC)
    except ValueError:
        cure = "Name it as kiwirecorder does: its stamps leave the week open, and it says the frequency nowhere else."
        raise DataError(explain("name of a recording", got=name, allowed=ALLOWED_NAME, cure=cure)) from None
    return RecordingName(round(start.timestamp()), float(match["hertz"]), match["station"])


def read_stamped(path: str | Path) -> StampedIq:
    """Samples and stamps of a file.

    Raises:
        StorageError: The file cannot be read.
        DataError: It breaks the format (`parse_stamped`), or is larger than `MAX_BYTES`.
    """
    cure = "Record in shorter parts (kiwirecorder --dt-sec)."
    return parse_stamped(read_file(Path(path), MAX_BYTES, cure=cure), str(path))


def parse_stamped(data: bytes, where: str) -> StampedIq:
    """Samples and stamps of a whole file; chunks that are neither are passed over.

    Raises:
        DataError: It is no RIFF WAVE of two 16-bit channels, a size is not what the header says, or a block has no
            stamp.
    """
    rate_hz, stamp = None, None
    stamps: list[tuple[int, int, int]] = []
    blocks: list[np.ndarray] = []
    for name, start, size in _chunks(data, where):
        if name == b"fmt ":
            rate_hz = _sample_rate(data[start : start + size], where)
        elif name == b"kiwi":
            if size != STAMP.size or stamp is not None:
                got = f"a kiwi chunk of {size} bytes" if size != STAMP.size else "two kiwi chunks for one data chunk"
                raise DataError(explain(where, got=got, allowed="one of 10 bytes per data chunk", cure=RECORD_AGAIN))
            stamp = STAMP.unpack_from(data, start)
        elif name == b"data":
            stamps.append(_stamp_of_block(rate_hz, stamp, size, where))
            if len(stamps) > MAX_BLOCKS:
                cure = "Record in shorter parts."
                raise DataError(explain(where, got="more blocks", allowed=f"{MAX_BLOCKS} or fewer", cure=cure))
            blocks.append(np.frombuffer(data, "<i2", size // 2, start).reshape(-1, 2))
            stamp = None
    if rate_hz is None or not blocks or stamp is not None:
        got = "no samples after its last stamp" if stamp is not None else "no samples"
        raise DataError(explain(where, got=got, allowed="one or more stamped blocks", cure=RECORD_AGAIN))
    lengths = np.array([len(block) for block in blocks], np.int64)
    age_s_N, stamp_s_N, stamp_ns_N = np.array(stamps, np.int64).T.copy()
    iq_T2 = np.concatenate(blocks).astype(np.int16, copy=False)
    return StampedIq(rate_hz, iq_T2, np.cumsum(lengths) - lengths, stamp_s_N, stamp_ns_N, age_s_N)


def _chunks(data: bytes, where: str) -> Iterator[tuple[bytes, int, int]]:
    """Name, first byte and size of each chunk, once all of it is known to be there."""
    kind, size, form = RIFF.unpack_from(data) if len(data) >= RIFF.size else (b"", 0, b"")
    if kind != b"RIFF" or form != b"WAVE":
        cure = "Give a recording of kiwirecorder -m iq --kiwi-wav."
        raise DataError(explain(where, got=f"a start of {data[:12]!r}", allowed="RIFF....WAVE", cure=cure))
    if size + CHUNK.size != len(data):
        got = f"{len(data)} bytes where the header says {size + CHUNK.size}"
        raise DataError(explain(where, got=got, allowed="the same", cure=RECORD_AGAIN))
    offset, count = RIFF.size, 0
    while offset < len(data):
        count += 1
        if count > MAX_CHUNKS:
            got, allowed = f"more than {MAX_CHUNKS} chunks", f"two of each of {MAX_BLOCKS} blocks, and others"
            raise DataError(explain(where, got=got, allowed=allowed, cure="Record in shorter parts."))
        left = len(data) - offset - CHUNK.size
        name, size = CHUNK.unpack_from(data, offset) if left >= 0 else (data[offset:], 0)
        if size > left:
            got = f"chunk {name!r} of {size} bytes at byte {offset}, with {max(left, 0)} left"
            raise DataError(explain(where, got=got, allowed="chunks that end in the file", cure=RECORD_AGAIN))
        yield name, offset + CHUNK.size, size
        offset += CHUNK.size + size + size % 2  # RIFF pads a chunk to an even length


def _sample_rate(chunk: bytes, where: str) -> float:
    """Nominal sample rate, hertz, from the `fmt ` chunk of IQ as 16-bit integers."""
    code, channels, rate_hz, _, align, bits = FORMAT.unpack_from(chunk) if len(chunk) >= FORMAT.size else (0,) * 6
    if (code, channels, bits, align) != (1, 2, 16, 4):
        got = f"format {code}, {channels} channels of {bits} bits, {align} bytes a sample"
        cure = "Record with kiwirecorder -m iq --kiwi-wav."
        raise DataError(explain(where, got=got, allowed="format 1, 2 channels of 16 bits, 4 bytes", cure=cure))
    if not 1_000 <= rate_hz <= 200_000:
        raise DataError(explain(where, got=f"{rate_hz} Hz", allowed="1000 to 200000 Hz", cure=RECORD_AGAIN))
    return float(rate_hz)


def _stamp_of_block(
    rate_hz: float | None, stamp: tuple[int, int, int] | None, size: int, where: str
) -> tuple[int, int, int]:
    """The stamp of a block of whole samples that comes after the format and that stamp."""
    if rate_hz is None:
        raise DataError(explain(where, got="samples before the format", allowed="fmt first", cure=RECORD_AGAIN))
    if stamp is None:
        cure = "Record with kiwirecorder -m iq --kiwi-wav: without stamps nothing can be timed."
        raise DataError(explain(where, got="a data chunk without a kiwi chunk", allowed="one before each", cure=cure))
    if size == 0 or size % 4:
        got = f"a data chunk of {size} bytes"
        raise DataError(explain(where, got=got, allowed="whole samples of 4 bytes", cure=RECORD_AGAIN))
    return stamp
