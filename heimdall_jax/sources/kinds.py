"""Recordings of any kind, told by their names, as receptions: KiwiSDR wav, SigMF, and NumPy files with a JSON."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from heimdall_jax.errors import ConfigError, DataError, explain
from heimdall_jax.sources.alignment import fit_clock
from heimdall_jax.sources.described import read_described
from heimdall_jax.sources.kiwi import KIWI_RATE_HZ, KiwiReception, read_kiwi_reception
from heimdall_jax.sources.kiwi_wav import parse_name, read_stamped
from heimdall_jax.sources.places import Places, checked_station, place_of
from heimdall_jax.sources.receptions import DatedReception, Reception
from heimdall_jax.sources.sigmf import ARCHIVE, COLLECTION, DATA, META, read_collection, read_sigmf
from heimdall_jax.sources.sigmf_decode import SigmfRecording
from heimdall_jax.sources.swapped import refuse_swapped_stations
from heimdall_jax.sources.time_axis import Dated
from heimdall_jax.types import Station

WAV, NPY, JSON = ".wav", ".npy", ".json"
SUFFIXES = (WAV, META, DATA, ARCHIVE, COLLECTION, NPY)
DEFAULT_SIGMA_S = 1e-6
"""Of a clock of which nothing is said: a microsecond, as of a receiver disciplined by GPS without care."""


@dataclass(frozen=True)
class Supplied:
    """What is not in the recordings, from whoever gives them.

    Attributes:
        stations: Places of receivers by name, for recordings that do not say theirs.
        clock_sigma_s: One standard deviation of the start of those that do not say theirs.
        start_ns: Unix time of the first sample of those that do not say theirs.
        frequency_hz: Tuned to, of those that do not say theirs.
    """

    stations: Places | None = None
    clock_sigma_s: float = DEFAULT_SIGMA_S
    start_ns: int | None = None
    frequency_hz: float | None = None


def read_receptions(
    paths: Iterable[Path], supplied: Supplied, *, timed: bool = True
) -> tuple[list[Reception], list[dict[str, str]]]:
    """What each receiver recorded, and the names of those whose times cannot be used, with the reason.

    Args:
        paths: Files of any of the kinds, also mixed.
        supplied: What they do not say.
        timed: Leave those out whose times cannot be used: they would cut the common time wrongly.

    Raises:
        ConfigError: A name is of no kind, or a JSON has an unknown key.
        StorageError: A file cannot be read.
        DataError: One breaks its format, or lacks what is not supplied: the message names the field and the flag.
    """
    kept: list[Reception] = []
    plain: list[tuple[str, str, SigmfRecording]] = []
    refused: list[dict[str, str]] = []
    for path in _once(paths):
        if path.suffix == WAV:
            reason = _undated(path) if timed else ""
            if reason:
                refused.append({"name": parse_name(path).station, "reason": f"its times cannot be used: {reason}"})
            else:
                kept.append(read_kiwi_reception(path, _places(path, parse_name(path).station, supplied)))
        else:
            plain += _read(path)
    known = {one.frequency_hz for one in kept} | {one.frequency_hz for *_, one in plain if one.frequency_hz}
    frequency_hz = supplied.frequency_hz or (known.pop() if len(known) == 1 else None)
    kept += [_dated(where, stem, one, replace(supplied, frequency_hz=frequency_hz)) for where, stem, one in plain]
    refuse_swapped_stations([one.station for one in kept])
    return kept, refused


def common_rate_hz(receptions: Sequence[Reception]) -> float:
    """Of the grid on which they are compared: a KiwiSDR's where there is one, or the middle one of theirs."""
    if not receptions or any(isinstance(one, KiwiReception) for one in receptions):
        return KIWI_RATE_HZ
    return statistics.median_low([one.nominal_rate_hz for one in receptions])


def _once(paths: Iterable[Path]) -> list[Path]:
    """Files in order, each recording once: a pattern may also find the other half of a pair."""
    paths = list(paths)
    found: dict[Path, None] = {}
    for path in paths:
        if path.suffix == DATA:
            path = path.with_suffix(META)
        if path.suffix == JSON and path.with_suffix(NPY) in paths:
            continue
        if path.suffix not in SUFFIXES:
            cure = "Give recordings; of a NumPy file with a JSON beside it, the .npy."
            raise ConfigError(
                explain(str(path), got=path.suffix or "no suffix", allowed=", ".join(SUFFIXES), cure=cure)
            )
        found[path] = None
    return list(found)


def _undated(path: Path) -> str:
    """Why a KiwiSDR's stamps do not date it; empty where they do."""
    return fit_clock(read_stamped(path), parse_name(path).start_s, str(path)).refused


def _read(path: Path) -> list[tuple[str, str, SigmfRecording]]:
    """File and a name for each recording in it."""
    if path.suffix == COLLECTION:
        recordings = read_collection(path)
        return [(f"{path}, stream {n}", f"{path.stem}-{n}", one) for n, one in enumerate(recordings, 1)]
    return [(str(path), path.stem, read_described(path) if path.suffix == NPY else read_sigmf(path))]


def _dated(where: str, stem: str, one: SigmfRecording, supplied: Supplied) -> DatedReception:
    """A recording of SigMF or NumPy with what it does not say."""
    start_ns = supplied.start_ns if one.start_ns is None else one.start_ns
    if start_ns is None:
        raise _missing(where, "start (core:datetime)", "--start 2026-01-31T12:00:00Z, if all began then")
    frequency_hz = one.frequency_hz or supplied.frequency_hz
    if frequency_hz is None:
        raise _missing(where, "frequency_hz (core:frequency)", "--frequency-hz HERTZ")
    name = one.station or stem
    sigma_s = supplied.clock_sigma_s if one.clock_sigma_s is None else one.clock_sigma_s
    dated = Dated(one.iq_T, start_ns, one.sample_rate_hz, sigma_s)
    station, assumed = _station(where, name, one, supplied), one.clock_sigma_s is None
    return DatedReception.of(station, dated, where=where, frequency_hz=frequency_hz, assumed=assumed)


def _station(where: str, name: str, one: SigmfRecording, supplied: Supplied) -> Station:
    if one.place is not None:
        return checked_station(name, *one.place, where)
    if supplied.stations is None:
        flag = f"--stations FOLDER with {name}.txt"
        raise _missing(where, "latitude, longitude (core:geolocation)", flag)
    return place_of(name, supplied.stations)


def _places(path: Path, name: str, supplied: Supplied) -> Places:
    if supplied.stations is None:
        raise _missing(str(path), "place, as a KiwiSDR's never does", f"--stations FOLDER with {name}.txt")
    return supplied.stations


def _missing(where: str, field: str, flag: str) -> DataError:
    """The error of a field that a recording leaves out."""
    return DataError(explain(where, got=f"no {field}", allowed="it, or a flag", cure=f"Give {flag}."))
