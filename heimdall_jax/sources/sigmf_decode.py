"""SigMF's metadata and bytes as samples, once the schema of the package `sigmf` and every number were checked."""

from __future__ import annotations

import functools
import hashlib
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Complex64
from numpy import ndarray

from heimdall_jax.errors import DataError, explain
from heimdall_jax.outside import parse_json
from heimdall_jax.sources.moments import moment_ns
from heimdall_jax.sources.plausible import RANGES, is_plausible
from heimdall_jax.sources.powder_files import checked_place

MAX_SAMPLES = 1 << 25
"""168 s at 200 kHz, 46 minutes at 12 kHz."""
MAX_META_BYTES = 4 << 20
MAX_VALUES = 200_000
"""Of metadata, annotations included."""
LONGEST_NAME = 255
"""Characters of a file's or a station's name."""
DATATYPE = re.compile(r"(c|r)([fiu])(8|16|32|64)(?:_(le|be))?")
AGAIN = "Write it again, with a library that checks the schema."
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
        station: The receiver's name.
        clock_sigma_s: One standard deviation of `start_ns`, seconds.
    """

    iq_T: Complex64[ndarray, " T"]
    sample_rate_hz: float
    start_ns: int | None
    frequency_hz: float | None
    place: tuple[float, float, float] | None
    station: str | None = None
    clock_sigma_s: float | None = None


def plain_name(name: Any, where: str) -> str:
    """A file's name that leads into no other folder.

    Raises:
        DataError: It is no such name.
    """
    if not isinstance(name, str) or name in ("", ".", "..") or re.search(r"[/\\\0]", name) or len(name) > LONGEST_NAME:
        cure = "Put all files beside the metadata."
        raise DataError(explain(where, got=name, allowed="a file's name alone", cure=cure))
    return name


@functools.cache
def _schema(file: str) -> Any:
    from jsonschema.validators import validator_for
    from sigmf.schema import get_schema

    schema = get_schema(schema_file=file)
    return validator_for(schema)(schema)


def parse_metadata(data: bytes, where: str) -> dict[str, Any]:
    """A recording's metadata, once the schema accepts it.

    Raises:
        DataError: It is no JSON, or the schema refuses it.
    """
    tree = parse_tree(data, where)
    check_schema(tree, "schema-meta.json", where)
    return tree


def parse_tree(data: bytes, where: str) -> Any:
    """What JSON of metadata stands for.

    Raises:
        DataError: It is none, or more than is allowed.
    """
    try:
        return parse_json(data, most_bytes=MAX_META_BYTES, most_values=MAX_VALUES)
    except ValueError as error:
        raise DataError(explain(where, got=f"no JSON ({error})", allowed="SigMF metadata", cure=AGAIN)) from error


def check_schema(tree: Any, schema: str, where: str) -> None:
    """Apply one of the schemas that the package `sigmf` brings.

    Raises:
        DataError: It refuses the tree.
    """
    error = next(_schema(schema).iter_errors(tree), None)
    if error is not None:
        got = f"{'/'.join(map(str, error.absolute_path)) or 'the whole'}: {error.message}"
        raise DataError(explain(where, got=got, allowed="what SigMF's schema allows", cure=AGAIN))


def decode(tree: dict[str, Any], data: bytes, where: str) -> SigmfRecording:
    """The first capture of data whose metadata the schema accepts.

    Raises:
        DataError: Sizes, the hash or numbers disagree, or it holds no complex samples of one channel.
    """
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
        station=_station(about.get("heimdall:station"), where),
        clock_sigma_s=_clock_sigma_s(about.get("heimdall:clock_sigma_s"), where),
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
    return None if text is None else moment_ns(text, f"{where}, core:datetime")


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


def _station(name: Any, where: str) -> str | None:
    if name is None:
        return None
    if not isinstance(name, str) or not name.strip() or not name.isprintable() or len(name) > LONGEST_NAME:
        allowed = f"a name of at most {LONGEST_NAME} printable characters"
        raise DataError(explain(f"{where}, heimdall:station", got=repr(name), allowed=allowed, cure="Correct it."))
    return name


def _clock_sigma_s(value: Any, where: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not is_plausible("clock_sigma_s", value):
        allowed = "{:g} to {:g} seconds".format(*RANGES["clock_sigma_s"])
        raise DataError(explain(f"{where}, heimdall:clock_sigma_s", got=value, allowed=allowed, cure="Correct it."))
    return float(value)
