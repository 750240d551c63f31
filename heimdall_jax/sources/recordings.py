"""One receiver's recording: IQ as `.npy` (complex64, one dimension), and what is known of it as JSON beside it."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from jaxtyping import Complex64
from numpy import ndarray

from heimdall_jax.errors import DataError, StorageError, explain
from heimdall_jax.outside import parse_json, parse_npy_header

SAMPLE_BYTES = 8
HEADER_BYTES = 256
"""Enough of a file to hold the header of any one-dimensional array."""
MAX_BYTES = 1 << 28
"""Of a recording: 168 s at 200 kHz, 46 minutes at 12 kHz."""
METADATA_BYTES = 65_536


@dataclass(frozen=True)
class RecordingMetadata:
    """What `websdr_{n}_metadata.json` says; None where it says nothing.

    Attributes:
        station_id: The station's key in the catalogue.
        start_time_ns: Unix time of the first sample, nanoseconds.
        sample_rate_hz: As measured; the catalogue's is rounded to whole hertz.
        clock_sigma_s: Standard deviation of the start time; None makes the recording useless for timing.
        centre_frequency_hz: Of the receiver.
    """

    station_id: str | None = None
    start_time_ns: int | None = None
    sample_rate_hz: float | None = None
    clock_sigma_s: float | None = None
    centre_frequency_hz: float | None = None


def metadata_name(recording: str) -> str:
    """Key or path of the metadata beside a recording: `a/websdr_1.npy` has `a/websdr_1_metadata.json`."""
    return f"{recording.removesuffix('.npy')}_metadata.json"


def encode_metadata(metadata: RecordingMetadata) -> bytes:
    """JSON of what is known."""
    known = {key: value for key, value in dataclasses.asdict(metadata).items() if value is not None}
    return json.dumps(known, indent=1).encode()


def decode_metadata(data: bytes, name: str) -> RecordingMetadata:
    """Parse metadata; keys that are not ours are left alone.

    Raises:
        DataError: It is no JSON object, or a value has the wrong type or range.
    """
    try:
        tree = parse_json(data, most_bytes=METADATA_BYTES)
    except ValueError as error:
        raise DataError(explain(name, got=f"no JSON ({error})", allowed="JSON", cure="Write it again.")) from error
    if not isinstance(tree, dict):
        raise DataError(explain(name, got=type(tree).__name__, allowed="a JSON object", cure="Write it again."))
    values: dict[str, Any] = {}
    for key, kinds in _KINDS.items():
        value = tree.get(key)
        if value is None:
            continue
        number = not isinstance(value, str)
        good = isinstance(value, kinds) and not isinstance(value, bool)
        if not good or (number and not (math.isfinite(value) and value >= 0)):
            allowed = "a finite number of at least 0" if float in kinds or int in kinds else "text"
            raise DataError(explain(f"{name}, {key}", got=repr(value), allowed=allowed, cure="Correct or remove it."))
        values[key] = float(value) if float in kinds else value
    return RecordingMetadata(**values)


_KINDS: dict[str, tuple[type, ...]] = {
    "station_id": (str,),
    "start_time_ns": (int,),
    "sample_rate_hz": (int, float),
    "clock_sigma_s": (int, float),
    "centre_frequency_hz": (int, float),
}


def parse_header(start: bytes, name: str) -> tuple[int, int]:
    """Bytes of the header and number of samples, from a recording's first `HEADER_BYTES` bytes.

    Raises:
        DataError: It is no `.npy`, not complex64, not one-dimensional, or empty.
    """
    allowed = "one-dimensional complex64 in .npy format"
    try:
        offset, dtype, _, shape = parse_npy_header(start)
    except (ValueError, TypeError) as error:
        cure = "Save with numpy.save(path, iq.astype('complex64'))."
        raise DataError(explain(name, got=f"no readable header ({error})", allowed=allowed, cure=cure)) from error
    if dtype != np.dtype("<c8"):
        real = np.issubdtype(dtype, np.floating) or np.issubdtype(dtype, np.integer)
        cure = "Real samples hold no IQ: record both parts." if real else "Convert with iq.astype('complex64')."
        raise DataError(explain(name, got=f"dtype {dtype}", allowed=allowed, cure=cure))
    if len(shape) != 1:
        cure = "Save one receiver's samples per file."
        raise DataError(explain(name, got=f"shape {shape}", allowed=allowed, cure=cure))
    if shape[0] == 0:
        raise DataError(explain(name, got="no samples", allowed="one or more", cure="Record again."))
    return offset, shape[0]


def check_header(start: bytes, size: int, name: str) -> tuple[int, int]:
    """What `parse_header` gives, once a recording's size agrees with it, before any sample is read.

    Raises:
        DataError: See `parse_header`; or its size is not what the header says, or beyond `MAX_BYTES`.
    """
    offset, count = parse_header(start, name)
    if size > MAX_BYTES:
        cure = "Record in shorter parts."
        raise DataError(explain(name, got=f"{size} bytes", allowed=f"{MAX_BYTES} or fewer", cure=cure))
    if size - offset != count * SAMPLE_BYTES:
        got = f"{size - offset} bytes of samples for {count} samples"
        raise DataError(explain(name, got=got, allowed=f"{SAMPLE_BYTES} bytes each", cure="Fetch the file again."))
    return offset, count


def decode_iq(data: bytes, name: str, samples: int | None = None) -> Complex64[ndarray, " T"]:
    """Read-only samples of a whole `.npy` object, or its first `samples`, after which `data` may end.

    Raises:
        DataError: See `check_header`; or there are fewer than `samples`.
    """
    start = data[:HEADER_BYTES]
    offset, count = parse_header(start, name) if samples is not None else check_header(start, len(data), name)
    samples = count if samples is None else samples
    held = min(count, (len(data) - offset) // SAMPLE_BYTES)
    if held < samples:
        raise DataError(
            explain(name, got=f"{held} samples", allowed=f"{samples} or more", cure="Record longer, or ask for less.")
        )
    return np.frombuffer(data, np.complex64, samples, offset)


def encode_iq(iq_T: Complex64[ndarray, " T"]) -> bytes:
    """The `.npy` bytes of one receiver's samples."""
    stream = io.BytesIO()
    np.save(stream, iq_T, allow_pickle=False)
    return stream.getvalue()


def read_iq(path: str | Path, *, minimum_samples: int = 1, mmap: bool = False) -> Complex64[ndarray, " T"]:
    """Samples of a `.npy` file; with `mmap`, read from disk where they are touched.

    Raises:
        StorageError: The file cannot be read.
        DataError: It breaks the format (`check_header`), or is shorter than `minimum_samples`.
    """
    try:
        if stat.S_ISFIFO(Path(path).stat().st_mode):
            raise OSError(None, "a pipe")  # opening one may never end
        with Path(path).open("rb") as file:
            offset, count = check_header(file.read(HEADER_BYTES), _size(file), str(path))
            if count < minimum_samples:
                cure = "Record longer."
                raise DataError(
                    explain(str(path), got=f"{count} samples", allowed=f"{minimum_samples} or more", cure=cure)
                )
            if mmap:
                return np.memmap(file, np.complex64, "r", offset, (count,))
            file.seek(offset)
            return np.fromfile(file, np.complex64, count)
    except DataError:
        raise
    except (OSError, ValueError) as error:  # a name with a NUL is a ValueError
        got = getattr(error, "strerror", None) or error
        raise StorageError(explain(str(path), got=got, allowed="a readable file", cure="Check the path.")) from error


def _size(file: IO[bytes]) -> int:
    return os.fstat(file.fileno()).st_size
