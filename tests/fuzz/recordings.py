"""Recordings and their metadata as targets: KiwiSDR wav and places, npy, JSON beside it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from random import Random

import numpy as np

from heimdall_jax.errors import HeimdallError
from heimdall_jax.sources.alignment import fit_clock, sample_grid
from heimdall_jax.sources.kiwi_wav import parse_name, parse_stamped
from heimdall_jax.sources.places import read_place
from heimdall_jax.sources.recordings import (
    RecordingMetadata,
    decode_iq,
    decode_metadata,
    encode_iq,
    encode_metadata,
    read_iq,
)
from tests.fuzz.harness import Reader, Target
from tests.fuzz.mutators import spoil_json, spoil_npy, spoil_riff, spoil_text
from tests.kiwi_like import NAMED_S, write_kiwi_like

NAME = b"20171127T104156Z_77500_DF0KL_iq.wav"
PLACE = b"d.DF0KL = struct('coord', [53.665337,7.282766], 'host', 'example.org', 'port', 8073);\n"


def wav_seeds() -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        return [write_kiwi_like(Path(folder), seconds=seconds).read_bytes() for seconds in (0.05, 0.5)]


def open_wav(folder: Path) -> Reader:
    def read(data: bytes) -> object:
        recording = parse_stamped(data, "a.wav")
        clock = fit_clock(recording, NAMED_S, "a.wav")
        return sample_grid(recording, clock, clock.time_ns(clock.count // 2), recording.nominal_rate_hz, 8)

    def whole(data: bytes) -> object:
        return read(data) if data not in SHORT else parse_stamped(data, "a.wav")

    return whole


SHORT: set[bytes] = set()
"""Seeds of fewer stamps than a clock needs."""


def npy_seeds() -> list[bytes]:
    iq_T = np.exp(1j * np.arange(40)).astype(np.complex64)
    return [encode_iq(iq_T), encode_iq(iq_T[:3])]


def open_npy(folder: Path) -> Reader:
    path = folder / "a.npy"

    def read(data: bytes) -> None:
        """From bytes and from a file, to the same end."""
        path.write_bytes(data)
        ends = []
        for decode in (lambda: decode_iq(data, "a.npy"), lambda: np.asarray(read_iq(path))):
            try:
                ends.append(decode().tobytes())
            except HeimdallError as error:
                ends.append(type(error))
                last = error
        if ends[0] != ends[1]:
            raise AssertionError(f"{ends}")
        if isinstance(ends[0], type):
            raise last

    return read


def metadata_seeds() -> list[bytes]:
    full = RecordingMetadata("station", 1_772_366_400_123_457_000, 12_000.3, 5e-8, 145.3e6)
    return [encode_metadata(full), encode_metadata(RecordingMetadata())]


def open_place(folder: Path) -> Reader:
    path = folder / "DF0KL.txt"

    def read(data: bytes) -> object:
        path.write_bytes(data)
        return read_place(path, "DF0KL")

    return read


def spoil_name(data: bytes, rng: Random) -> bytes:
    return spoil_text(data, rng)[:300]


TARGETS = (
    Target("wav", wav_seeds, open_wav, spoil_riff, 100_000, 2_000),
    Target(
        "wav_name",
        lambda: [NAME],
        lambda folder: lambda data: parse_name(data.decode("utf-8", "surrogateescape")),
        spoil_name,
        20_000,
        500,
    ),
    Target("kiwi_place", lambda: [PLACE], open_place, spoil_text, 20_000, 500),
    Target("npy", npy_seeds, open_npy, spoil_npy, 20_000, 1_000),
    Target(
        "npy_metadata",
        metadata_seeds,
        lambda folder: lambda data: decode_metadata(data, "a.json"),
        spoil_json,
        20_000,
        1_000,
    ),
)
