"""Small catalogues for tests: four stations, sessions a minute apart, and noise as recordings."""

import datetime as dt

import numpy as np
import sqlalchemy as sa

from heimdall_jax.sources.catalogue_sql import add_session
from heimdall_jax.sources.recordings import RecordingMetadata
from heimdall_jax.sources.rows import Recording
from heimdall_jax.types import Station

STATIONS = [
    Station("Torino", 45.044, 7.672, 250.0),
    Station("Aquila di Giaveno", 45.02, 7.29, 600.0),
    Station("Montanaro", 45.234, 7.857, 300.0),
    Station("Genova", 44.395, 8.956, 100.0),
]
START = dt.datetime(2026, 3, 1, 12, 0, 0, 123457, tzinfo=dt.UTC)


def iq(seed, samples=600):
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(samples) + 1j * rng.standard_normal(samples)).astype(np.complex64)


def recordings(seed=0, stations=STATIONS[:3], samples=600):
    return [
        Recording(station, -60.0 - i, 10.0 + i, iq(10 * seed + i, samples), RecordingMetadata(clock_sigma_s=5e-8))
        for i, station in enumerate(stations)
    ]


def add(url, store, index=0, **changes):
    settings = {
        "name": f"session {index}",
        "start": START + dt.timedelta(minutes=index),
        "duration_s": 30.0,
        "truth_deg": (45.1 + 0.01 * index, 7.5),
        "recordings": recordings(index),
        "frequency_hz": 145.3e6,
        "sample_rate_hz": 12_000.0,
    }
    return add_session(url, store, **{**settings, **changes})


def execute(url, statement):
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.execute(sa.text(statement))
