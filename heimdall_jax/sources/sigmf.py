"""SigMF recordings: a pair `x.sigmf-meta` and `x.sigmf-data`, or both in an archive `x.sigmf` (an uncompressed tar).

Metadata is checked against the schema of the package `sigmf`; sizes, names and numbers are checked here before they
are used. Nothing is unpacked to disk. Specification: SigMF 1.2.
"""

from __future__ import annotations

import datetime as dt
import functools
import hashlib
import io
import re
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Complex64
from numpy import ndarray

from heimdall_jax.errors import DataError, explain
from heimdall_jax.outside import parse_json, read_file
from heimdall_jax.sources.plausible import RANGES, YEARS, is_plausible
from heimdall_jax.sources.powder_files import checked_place

MAX_SAMPLES = 1 << 25
"""168 s at 200 kHz, 46 minutes at 12 kHz."""
MAX_BYTES = 1 << 28
"""Of the samples as they are written."""
MAX_META_BYTES = 4 << 20
MAX_VALUES = 200_000
"""Of metadata, annotations included."""
MAX_MEMBERS = 64
"""Of an archive: a recording needs two, and folders."""
META, DATA, ARCHIVE = ".sigmf-meta", ".sigmf-data", ".sigmf"
DATATYPE = re.compile(r"(c|r)([fiu])(8|16|32|64)(?:_(le|be))?")
MOMENT = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:[.,](\d{1,30}))?(?:Z|\+00:?00)")
CONVERTED = 1 << 18
"""Samples that are converted at once."""


@dataclass(frozen=True, eq=False)
class SigmfRecording:
    """The samples of a recording's first capture, and what is known of them; None where nothing is said.

    Attributes:
        iq_T: Full scale 1.
        sample_rate_hz: Of them.
        start_ns: Unix time of the first sample.
        frequency_hz: The receiver's centre.
        place: Latitude, longitude in degrees and height over the ellipsoid in metres, of the receiver.
    """

    iq_T: Complex64[ndarray, " T"]
    sample_rate_hz: float
    start_ns: int | None
    frequency_hz: float | None
    place: tuple[float, float, float] | None


def read_sigmf(path: str | Path) -> SigmfRecording:
    """The recording at a `.sigmf-meta`, `.sigmf-data` or `.sigmf` file.

    Raises:
        StorageError: A file cannot be read.
        DataError: It is no SigMF, its metadata breaks the schema, sizes or the hash disagree, it holds no complex
            samples of one channel, or more than `MAX_SAMPLES`.
    """
    path = Path(path)
    if path.suffix == ARCHIVE:
        return decode_archive(read_file(path, MAX_BYTES + 2 * MAX_META_BYTES), str(path))
    if path.suffix not in (META, DATA):
        cure = "Give the recording's metadata, or an archive."
        raise DataError(explain(str(path), got=path.suffix or "no suffix", allowed=f"{META} or {ARCHIVE}", cure=cure))
    tree = _metadata(read_file(path.with_suffix(META), MAX_META_BYTES), str(path))
    name = tree["global"].get("core:dataset", path.with_suffix(DATA).name)
    return _decode(tree, read_file(path.with_name(_plain_name(name, str(path))), MAX_BYTES), str(path))


def decode_archive(data: bytes, where: str) -> SigmfRecording:
    """The one recording in an archive's bytes.

    Raises:
        DataError: See `read_sigmf`; or a member is a link or device, or its name leads out of the archive.
    """
    parts: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
            for number, member in enumerate(archive):
                _check_member(member, number, len(data), where)
                if member.isreg():
                    parts[member.name] = data[member.offset_data : member.offset_data + member.size]
    except DataError:
        raise
    except (tarfile.TarError, ValueError, EOFError, OSError, LookupError, RecursionError, OverflowError) as error:
        cure = "Write it with the sigmf package, uncompressed."
        raise DataError(explain(where, got=f"no tar archive ({error})", allowed="one", cure=cure)) from error
    metas = [name for name in parts if name.endswith(META)]
    if len(metas) != 1:
        cure = "Unpack it, and give one recording at a time."
        raise DataError(explain(where, got=f"{len(metas)} recordings", allowed="one", cure=cure))
    tree = _metadata(parts[metas[0]], where)
    named = metas[0].removesuffix(META) + DATA
    if "core:dataset" in tree["global"]:
        folder = metas[0].rpartition("/")
        named = f"{folder[0]}{folder[1]}{_plain_name(tree['global']['core:dataset'], where)}"
    if named not in parts and not tree["global"].get("core:metadata_only"):
        raise DataError(explain(where, got=f"no {named}", allowed="metadata and its data", cure="Write it again."))
    return _decode(tree, parts.get(named, b""), where)


def _check_member(member: tarfile.TarInfo, number: int, size: int, where: str) -> None:
    climbs = member.name.startswith("/") or ".." in member.name.split("/")
    strange = not (member.isreg() or member.isdir()) or member.issparse()
    if climbs or strange or number >= MAX_MEMBERS or member.offset_data + member.size > size or member.size < 0:
        what = "a link or device" if strange else f"{member.size} bytes" if not climbs else "a path that climbs"
        got = f"member {number + 1}, {member.name!r}: {what}"
        allowed = f"up to {MAX_MEMBERS} whole files and folders inside"
        raise DataError(explain(where, got=got, allowed=allowed, cure="Do not trust where it comes from."))


def _plain_name(name: Any, where: str) -> str:
    if not isinstance(name, str) or name in ("", ".", "..") or re.search(r"[/\\\0]", name) or len(name) > 255:
        cure = "Put the data beside the metadata."
        raise DataError(explain(f"{where}, core:dataset", got=name, allowed="a file's name alone", cure=cure))
    return name


@functools.cache
def _schema() -> Any:
    from jsonschema.validators import validator_for
    from sigmf.schema import get_schema

    schema = get_schema()
    return validator_for(schema)(schema)


def _metadata(data: bytes, where: str) -> dict[str, Any]:
    """Metadata that the schema accepts."""
    cure = "Write it again, with a library that checks the schema."
    try:
        tree = parse_json(data, most_bytes=MAX_META_BYTES, most_values=MAX_VALUES)
    except ValueError as error:
        raise DataError(explain(where, got=f"no JSON ({error})", allowed="SigMF metadata", cure=cure)) from error
    error = next(_schema().iter_errors(tree), None)
    if error is not None:
        got = f"{'/'.join(map(str, error.absolute_path)) or 'the whole'}: {error.message}"
        raise DataError(explain(where, got=got, allowed="what SigMF's schema allows", cure=cure))
    return tree


def _decode(tree: dict[str, Any], data: bytes, where: str) -> SigmfRecording:
    about: dict[str, Any] = tree["global"]
    captures: list[dict[str, Any]] = tree["captures"] or [{"core:sample_start": 0}]
    if about.get("core:metadata_only"):
        raise DataError(explain(where, got="metadata alone", allowed="samples", cure="Fetch the data, too."))
    digest = about.get("core:sha512")
    if digest is not None and hashlib.sha512(data).hexdigest() != digest.lower():
        got = "data with another core:sha512"
        raise DataError(explain(where, got=got, allowed="the data that was recorded", cure="Fetch it again."))
    dtype = _dtype(about, where)
    first, count = _span(about, captures, len(data), 2 * dtype.itemsize, where)
    iq_T = _converted(np.frombuffer(data, dtype, 2 * count, first))
    if not np.isfinite(iq_T).all():
        raise DataError(explain(where, got="NaN or infinity", allowed="finite samples", cure="Record again."))
    return SigmfRecording(
        iq_T=iq_T,
        sample_rate_hz=_number(about, "sample_rate", where, needed=True) or 0.0,
        start_ns=_start_ns(captures[0].get("core:datetime"), where),
        frequency_hz=_number(captures[0], "frequency", where),
        place=_place(captures[0].get("core:geolocation", about.get("core:geolocation")), where),
    )


def _dtype(about: dict[str, Any], where: str) -> np.dtype:
    """Of a real or imaginary part."""
    match = DATATYPE.fullmatch(about["core:datatype"])
    channels = about.get("core:num_channels", 1)
    if match is None or match[1] != "c" or channels != 1 or (match[3] != "8" and match[4] is None):
        got = f"{about['core:datatype']} in {channels} channels"
        cure = "Convert it; real samples hold no IQ."
        raise DataError(explain(where, got=got, allowed="complex samples of one channel, as cf32_le", cure=cure))
    try:
        return np.dtype(f"{'>' if match[4] == 'be' else '<'}{match[2]}{int(match[3]) // 8}")
    except TypeError as error:
        got = about["core:datatype"]
        raise DataError(explain(where, got=got, allowed="cf32_le, ci16_le, cu8, …", cure="Convert it.")) from error


def _span(about: dict[str, Any], captures: list[dict[str, Any]], size: int, each: int, where: str) -> tuple[int, int]:
    """First byte and number of the samples of the first capture, once all sizes fit."""
    # To the schema 0.0 is an integer, too.
    starts = [int(capture["core:sample_start"]) for capture in captures]
    headers = [int(capture.get("core:header_bytes", 0)) for capture in captures]
    trailing = int(about.get("core:trailing_bytes", 0))
    total, odd = divmod(size - sum(headers) - trailing, each)
    if odd or total < 1 or sorted(starts) != starts or starts[-1] >= total or min(*headers, *starts, trailing, 0) < 0:
        got = f"{size} bytes, {sum(headers) + trailing} of them no samples, with captures from {starts[:5]}"
        raise DataError(explain(where, got=got, allowed=f"whole samples of {each} bytes", cure="Fetch it again."))
    count = (starts[1] if len(starts) > 1 else total) - starts[0]
    if not 1 <= count <= MAX_SAMPLES:
        cure = "Cut it into shorter recordings."
        raise DataError(explain(where, got=f"{count} samples", allowed=f"1 to {MAX_SAMPLES}", cure=cure))
    return headers[0] + starts[0] * each, count


def _converted(parts: ndarray) -> Complex64[ndarray, " T"]:
    """Parts in turn, of any dtype, as complex samples of full scale 1."""
    dtype, out = parts.dtype, np.empty(len(parts), np.float32)
    scale = 1.0 if dtype.kind == "f" else 2.0 ** (8 * dtype.itemsize - 1)
    for begin in range(0, len(parts), CONVERTED):
        chunk = parts[begin : begin + CONVERTED].astype(np.float64)
        with np.errstate(all="ignore"):
            out[begin : begin + CONVERTED] = (chunk - (scale if dtype.kind == "u" else 0.0)) / scale
    return out.view(np.complex64)


def _number(tree: dict[str, Any], name: str, where: str, *, needed: bool = False) -> float | None:
    """The value of `core:NAME` in hertz; None where it may be absent and is, or is 0, as baseband is said to have."""
    value = tree.get(f"core:{name}")
    if not value and not needed:
        return None
    if value is None or not is_plausible(f"{name}_hz", value):
        allowed = "{:g} to {:g}".format(*RANGES[f"{name}_hz"])
        raise DataError(explain(f"{where}, core:{name}", got=value, allowed=allowed, cure="Correct the metadata."))
    return float(value)


def _start_ns(text: str | None, where: str) -> int | None:
    """Unix time in nanoseconds; further digits are dropped."""
    if text is None:
        return None
    try:
        match = MOMENT.fullmatch(text)
        moment = dt.datetime.fromisoformat(f"{match[1]}+00:00") if match else None
    except ValueError:
        match = moment = None
    if match is None or moment is None or not YEARS[0] <= moment.year < YEARS[1]:
        allowed = "a moment in UTC such as 2026-01-31T12:00:00.123456789Z"
        raise DataError(explain(f"{where}, core:datetime", got=text, allowed=allowed, cure="Correct the metadata."))
    return round(moment.timestamp()) * 1_000_000_000 + int((match[2] or "").ljust(9, "0")[:9])


def _place(point: Any, where: str) -> tuple[float, float, float] | None:
    """GeoJSON has the longitude first."""
    if point is None:
        return None
    longitude, latitude, *height = point["coordinates"]
    latitude, longitude = checked_place((latitude, longitude), f"{where}, core:geolocation")
    altitude_m = float(height[0]) if height else 0.0
    if not is_plausible("altitude_m", altitude_m) or (latitude, longitude) == (0.0, 0.0):
        got = f"({latitude}, {longitude}) at {altitude_m} m"
        raise DataError(explain(f"{where}, core:geolocation", got=got, allowed="its place", cure="Correct it."))
    return latitude, longitude, altitude_m
