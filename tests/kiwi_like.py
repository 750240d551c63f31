"""Recordings in KiwiSDR's format, made up: a sum of tones, whose value at any time is known in closed form."""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from heimdall_jax.types import Station

BLOCK = 512
NAMED = "20171127T104156Z"
NAMED_S = 1_511_779_316  # date -u -d 2017-11-27T10:41:56Z +%s
PLACES = {"DF0KL": (53.665337, 7.282766), "F1JEK": (45.77929, 0.614638), "HB9RYZ": (47.1721, 8.42683)}
STATIONS = {name: Station(name, *place) for name, place in PLACES.items()}
OFF_LINE = "stamp off its recording's line (stale, or beyond a gap), rejected"

rng = np.random.default_rng(7)
TONES_HZ = rng.uniform(-4900, 4900, 16)
TONES = 0.05 * np.exp(2j * np.pi * rng.random(16))


def turned(time_s: np.ndarray) -> np.ndarray:
    """Each tone's rotation since the named time; by sine and cosine: faster than a complex exp."""
    phase = 2 * np.pi * np.multiply.outer(time_s, TONES_HZ)
    return np.cos(phase) + 1j * np.sin(phase)


def signal(time_s: np.ndarray) -> np.ndarray:
    """The transmission at times after the named one; at most 0.8 of full scale."""
    return turned(time_s) @ TONES


def slope(time_s: np.ndarray) -> np.ndarray:
    """Its derivative."""
    return turned(time_s) @ (2j * np.pi * TONES_HZ * TONES)


@dataclass
class Block:
    """A block's time after the named one, and what its stamp says."""

    time_s: float
    stamp_s: int
    stamp_ns: int
    age_s: int = 2


def gps_stamp(unix_s: int, after_s: float) -> tuple[int, int]:
    """GPS seconds of the week and nanoseconds: GPS time started at Unix 315964800 and is 18 s ahead since 2017."""
    seconds = int(np.floor(after_s))
    return (unix_s + seconds - 315_964_800 + 18) % 604_800, int((after_s - seconds) * 1e9)


def write_kiwi_like(
    folder: Path,
    station: str = "DF0KL",
    *,
    rate_hz: float = 12001.1,
    begin_s: float = 0.25,
    seconds: float = 4.0,
    delay_s: float = 0.0,
    named: str = NAMED,
    hertz: int = 77_500,
    iq: Callable[[np.ndarray], np.ndarray] = signal,
    edit: Callable[[list[Block]], list[Block]] = lambda blocks: blocks,
) -> Path:
    """One receiver's recording; its first stamp is 300 s stale, as in real ones; `edit` sees the blocks after that."""
    named_s = int(datetime.strptime(named, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp())
    blocks = []
    for start in range(0, int(seconds * rate_hz), BLOCK):
        time_s = begin_s + start / rate_hz
        blocks.append(Block(time_s, *gps_stamp(named_s, time_s - (300 if start == 0 else 0))))
    return write_blocks(folder / f"{named}_{hertz}_{station}_iq.wav", edit(blocks), rate_hz, iq, delay_s)


def write_blocks(path: Path, blocks: list[Block], rate_hz: float, iq: Callable, delay_s: float) -> Path:
    body = b"fmt " + struct.pack("<IHHIIHH", 16, 1, 2, int(rate_hz), 4 * int(rate_hz), 4, 16)
    for block in blocks:
        values = iq(block.time_s + np.arange(BLOCK) / rate_hz - delay_s) * 32768
        samples = np.rint(np.stack([values.real, values.imag], axis=-1)).astype("<i2").tobytes()
        body += b"kiwi" + struct.pack("<IBBII", 10, block.age_s, 0, block.stamp_s, block.stamp_ns)
        body += b"data" + struct.pack("<I", len(samples)) + samples
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"RIFF" + struct.pack("<I", len(body) + 4) + b"WAVE" + body)
    return path


def write_places(folder: Path, places: dict[str, tuple[float, float]] = PLACES) -> Path:
    """A folder of Octave files as the recordings' authors distribute them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (latitude, longitude) in places.items():
        text = f"d.{name} = struct('coord', [{latitude},{longitude}], 'host', 'example.org', 'port', 8073);\n"
        (folder / f"{name}.txt").write_text(text)
    return folder
