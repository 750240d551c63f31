"""A recording as a NumPy file and a JSON of the same stem beside it: `TO.npy` and `TO.json`.

`TO.npy` holds complex64 samples of full scale 1, one axis. `TO.json` is one object, in which only `sample_rate_hz` is
needed; what is left out is given to `locate.py` by a flag, or assumed as its notes say:

    station         string   name of the receiver; by default the stem
    latitude        number   of the receiver, degrees (WGS84), north positive; with longitude, or neither
    longitude       number   degrees, east positive
    altitude_m      number   metres over the ellipsoid; by default 0
    start           string   of the first sample, UTC, to the nanosecond: 2026-01-31T12:00:00.123456789Z
    sample_rate_hz  number   samples per second
    frequency_hz    number   tuned to: the signal's frequency that became 0 Hz
    clock_sigma_s   number   one standard deviation of `start`, seconds

Any other key is an error that suggests the nearest.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from heimdall_jax.errors import DataError, explain
from heimdall_jax.outside import parse_json, read_file
from heimdall_jax.sources.moments import moment_ns
from heimdall_jax.sources.places import checked_station
from heimdall_jax.sources.plausible import RANGES, is_plausible
from heimdall_jax.sources.recordings import read_iq
from heimdall_jax.sources.sigmf_decode import LONGEST_NAME, SigmfRecording
from heimdall_jax.trees import build

MAX_BYTES = 64 << 10
"""Of the JSON, which has a few hundred."""


@dataclass(frozen=True)
class _Described:
    """The keys of the JSON."""

    station: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    altitude_m: float | None = None
    start: str | None = None
    sample_rate_hz: float | None = None
    frequency_hz: float | None = None
    clock_sigma_s: float | None = None


def read_described(path: str | Path) -> SigmfRecording:
    """The recording at a `.npy` file, as one of SigMF is given.

    Raises:
        StorageError: A file cannot be read.
        ConfigError: A key of the JSON is unknown, or its value of another type.
        DataError: A file breaks its format, or a value cannot be meant; swapped coordinates are told.
    """
    path = Path(path)
    about_path = path.with_suffix(".json")
    cure = f"Write {about_path.name} beside {path.name}: sample_rate_hz, and station, latitude, longitude, start, ..."
    if path.exists() and not about_path.exists():
        raise DataError(explain(str(path), got=f"no {about_path.name}", allowed="one beside it", cure=cure))
    try:
        tree = parse_json(read_file(about_path, MAX_BYTES), most_bytes=MAX_BYTES)
    except ValueError as error:
        if isinstance(error, DataError):
            raise
        raise DataError(explain(str(about_path), got=f"no JSON ({error})", allowed="an object", cure=cure)) from error
    said = build(_Described, tree, f"{about_path}: ")
    _check_numbers(said, str(about_path))
    iq_T = np.asarray(read_iq(path))
    if not np.isfinite(iq_T).all():
        raise DataError(explain(str(path), got="NaN or infinity", allowed="finite samples", cure="Record again."))
    return SigmfRecording(
        iq_T=iq_T,
        sample_rate_hz=said.sample_rate_hz or 0.0,
        start_ns=None if said.start is None else moment_ns(said.start, f"{about_path}, start"),
        frequency_hz=said.frequency_hz,
        place=_place(said, str(about_path)),
        station=said.station,
        clock_sigma_s=said.clock_sigma_s,
    )


def _check_numbers(said: _Described, where: str) -> None:
    for name in ("sample_rate_hz", "frequency_hz", "clock_sigma_s", "altitude_m"):
        value = getattr(said, name)
        if (value is None and name == "sample_rate_hz") or (value is not None and not is_plausible(name, value)):
            allowed = "{:g} to {:g}".format(*RANGES[name])
            got = "nothing" if value is None else value
            raise DataError(explain(f"{where}, {name}", got=got, allowed=allowed, cure="Correct it."))
    if said.station is not None and not (said.station.strip() and len(said.station) <= LONGEST_NAME):
        allowed = f"a name of 1 to {LONGEST_NAME} characters"
        raise DataError(explain(f"{where}, station", got=repr(said.station), allowed=allowed, cure="Correct it."))


def _place(said: _Described, where: str) -> tuple[float, float, float] | None:
    if said.latitude is None and said.longitude is None:
        return None
    if said.latitude is None or said.longitude is None:
        missing = "latitude" if said.latitude is None else "longitude"
        cure = f"Add {missing}, or leave both out and give --stations."
        raise DataError(explain(where, got=f"no {missing}", allowed="both coordinates", cure=cure))
    altitude_m = said.altitude_m or 0.0
    place = checked_station(said.station or "", said.latitude, said.longitude, altitude_m, where)
    return place.latitude_deg, place.longitude_deg, altitude_m
