"""One made-up transmission as receivers in north-west Italy record it: in closed form, as npy + JSON."""

import json
from pathlib import Path

import numpy as np
import pymap3d

from heimdall_jax.geodesy import SPEED_OF_LIGHT_M_PER_S
from heimdall_jax.types import Session

PLACES = {
    "TO": (45.044, 7.672),
    "GE": (44.395, 8.956),
    "MI": (45.478, 9.123),
    "CO": (45.03, 7.27),
    "PG": (44.561, 8.1),
}
TRANSMITTER = (44.85, 8.35)
START_S = 1_700_000_000
START = "2023-11-14T22:13:20Z"
RATE_HZ = 12_000.0
TONES_HZ = np.random.default_rng(5).uniform(-4000, 4000, 300)
"""So close together that the band has no gaps."""
TURNS = np.exp(2j * np.pi * np.random.default_rng(6).random(300)) * 0.2 / np.sqrt(300)


def signal(time_s: np.ndarray) -> np.ndarray:
    """What is sent, 14 dB below full scale."""
    phase = 2 * np.pi * np.multiply.outer(time_s, TONES_HZ)
    return np.cos(phase) @ TURNS + 1j * (np.sin(phase) @ TURNS)


def delay_s(name: str) -> float:
    """Straight through space from the ground to a receiver without height (pymap3d)."""
    here, there = (np.array(pymap3d.geodetic2ecef(*place, 0.0)) for place in (PLACES[name], TRANSMITTER))
    return float(np.linalg.norm(here - there)) / SPEED_OF_LIGHT_M_PER_S


def transmission(
    names: tuple[str, ...] = tuple(PLACES),
    *,
    late_s: dict[str, float] | None = None,
    gain_db: dict[str, float] | None = None,
    sigma_s: float = 50e-9,
    begin_s: float = 0.0,
    rate_hz: float = RATE_HZ,
    hertz: float = 145_000_000.0,
) -> Session:
    """A second of it; `late_s` is what a receiver's clock adds, `gain_db` what its distance or amplifier does."""
    time_s = begin_s + np.arange(int(rate_hz)) / rate_hz
    late_s, gain_db = late_s or {}, gain_db or {}
    rows = []
    for name in names:
        rng = np.random.default_rng(list(name.encode()))
        noise = 1e-3 * rng.standard_normal((len(time_s), 2)) @ np.array([1, 1j])
        wanted = 10 ** (gain_db.get(name, 0.0) / 20) * signal(time_s - delay_s(name) - late_s.get(name, 0.0))
        rows.append(wanted + noise)
    count = len(names)
    return Session(
        session_id="made-up",
        start_time_s=float(START_S),
        receivers=names,
        receiver_deg_RE=np.array([PLACES[name] for name in names]),
        present_R=np.ones(count, bool),
        heard_R=np.ones(count, bool),
        rss_db_R=np.zeros(count, np.float32),
        iq_RT=np.array(rows, np.complex64),
        sample_rate_hz=rate_hz,
        frequency_hz=hertz,
        altitude_m_R=np.zeros(count),
        clock_sigma_s_R=np.full(count, sigma_s),
    )


def described(session: Session, number: int) -> dict:
    """What the JSON beside a receiver's samples says."""
    assert session.clock_sigma_s_R is not None
    latitude, longitude = session.receiver_deg_RE[number].tolist()
    return {
        "station": session.receivers[number],
        "latitude": latitude,
        "longitude": longitude,
        "altitude_m": 0.0,
        "start": START,
        "sample_rate_hz": session.sample_rate_hz,
        "frequency_hz": session.frequency_hz,
        "clock_sigma_s": float(session.clock_sigma_s_R[number]),
    }


def write_npy(folder: Path, session: Session, **changes: object) -> tuple[Path, ...]:
    """A `.npy` and a `.json` for each receiver; a change of None leaves its key out."""
    folder.mkdir(parents=True, exist_ok=True)
    assert session.iq_RT is not None
    paths = []
    for number, name in enumerate(session.receivers):
        path = folder / f"{name}.npy"
        np.save(path, session.iq_RT[number])
        about = described(session, number) | changes
        text = json.dumps({key: value for key, value in about.items() if value is not None})
        path.with_suffix(".json").write_text(text)
        paths.append(path)
    return tuple(paths)
