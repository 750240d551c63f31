"""Recordings' own metadata date their samples; what is absent or impossible masks the timing, and nothing else."""

import dataclasses
import datetime as dt
import json

import numpy as np
import pytest
from catalogues import START, STATIONS, add, execute, iq

from heimdall_jax.sources.catalogue import CatalogueSource, embedded
from heimdall_jax.sources.catalogue_sql import create_catalogue
from heimdall_jax.sources.recordings import RecordingMetadata, metadata_name
from heimdall_jax.sources.rows import Recording
from heimdall_jax.sources.session_iq import APART, IMPOSSIBLE, UNTIMED
from heimdall_jax.sources.time_axis import Dated, Grid, common_grid, on_grid

RATE = 12_000.0
START_NS = int(START.timestamp()) * 1_000_000_000 + 123_457_000
CLOCK = 50e-9


@pytest.fixture
def catalogue(tmp_path):
    url, store = embedded(tmp_path)
    create_catalogue(url)
    return url, store


def signal(time_s, seed=0):
    """Forty tones below 0.4 of the sample rate, at any times."""
    rng = np.random.default_rng(seed)
    frequency, phase = rng.uniform(-0.4, 0.4, 40) * RATE, rng.uniform(0, 2 * np.pi, 40)
    tones = np.exp(1j * (2 * np.pi * frequency * np.asarray(time_s)[:, None] + phase))
    return (tones.sum(axis=1) / 40).astype(np.complex64)


def dated(late_ns=0, rate=RATE, samples=3000, sigma=CLOCK):
    """The signal as a receiver recorded it from `late_ns` after the session's start on."""
    return Dated(signal(late_ns * 1e-9 + np.arange(samples) / rate), START_NS + late_ns, rate, sigma)


def as_recordings(some, **changes):
    return [
        Recording(
            station,
            -60.0,
            10.0,
            one.iq_T,
            RecordingMetadata(
                start_time_ns=one.start_ns, sample_rate_hz=one.sample_rate_hz, clock_sigma_s=one.sigma_s, **changes
            ),
        )
        for station, one in zip(STATIONS, some, strict=False)
    ]


def read(catalogue, recordings, **options):
    url, store = catalogue
    add(url, store, recordings=recordings, sample_rate_hz=RATE)
    return CatalogueSource(url, store, **options)[0]


def test_recordings_of_one_start_and_rate_are_taken_as_they_are(catalogue):
    session = read(catalogue, as_recordings([dated(), dated(), dated()]))
    np.testing.assert_array_equal(session.iq_RT, [dated().iq_T] * 3)
    np.testing.assert_array_equal(session.clock_sigma_s_R, [CLOCK] * 3)
    assert (session.masked, session.sample_rate_hz) == ((), RATE)


@pytest.mark.parametrize("samples", [None, 2900])
def test_recordings_that_began_apart_come_to_one_time(catalogue, samples):
    """13.7 samples late, 3 samples late exactly, and 0.15 Hz faster: the same signal afterwards."""
    some = [dated(), dated(1_141_667), dated(250_000), dated(0, RATE + 0.15)]
    session = read(catalogue, as_recordings(some), samples=samples)
    assert session.masked == ()
    np.testing.assert_array_equal(session.clock_sigma_s_R, [CLOCK] * 4)
    first, *others = session.iq_RT
    for other in others:
        error = np.abs(other - first)
        assert error[60:-60].max() < 2e-3
        assert np.abs(other).max() < 1.1
    assert np.abs(some[1].iq_T[:2000] - some[0].iq_T[:2000]).max() > 0.3


def test_the_time_of_a_common_grid_is_right():
    """Against the signal itself at the grid's times, in closed form."""
    some = [dated(0), dated(1_141_667, RATE - 0.05), dated(900_001, RATE + 0.11)]
    grid = common_grid(some, RATE, 2900)
    time_s = (grid.start_ns - START_NS) * 1e-9 + np.arange(2900) / grid.sample_rate_hz
    for one in some:
        placed = on_grid(one, grid)
        assert placed is not None
        np.testing.assert_allclose(placed[60:-60], signal(time_s)[60:-60], atol=2e-3)


def test_what_a_recording_lacks_is_silent():
    late = on_grid(dated(20 * 83_333 + 27), Grid(START_NS, RATE, 3000))
    np.testing.assert_allclose(late[:20], 0, atol=2e-5)
    np.testing.assert_allclose(late[20:], dated().iq_T[20:], atol=2e-3)
    assert on_grid(dated(31 * 83_333), Grid(START_NS, RATE, 3000)) is None
    assert on_grid(dated(), Grid(START_NS + 31 * 83_333, RATE, 3000)) is None


def test_a_recording_that_began_far_apart_is_heard_but_not_timed(catalogue):
    session = read(catalogue, as_recordings([dated(), dated(), dated(50_000_000), dated()]))
    assert session.masked == (APART,)
    late = session.receivers.index(STATIONS[2].name)
    assert np.isinf(session.clock_sigma_s_R[late])
    assert np.isfinite(session.clock_sigma_s_R).sum() == 3
    assert session.heard_R.all()
    np.testing.assert_array_equal(session.iq_RT[late], dated(50_000_000).iq_T)


def test_long_recordings_that_began_apart_lose_nothing(catalogue):
    some = [dated(0, samples=4000), dated(700_003, samples=4000), dated(7_000_007, samples=4000)]
    session = read(catalogue, as_recordings(some), samples=3000)
    assert session.masked == ()
    assert np.abs(session.iq_RT - session.iq_RT[0]).max(axis=0)[40:].max() < 2e-3


def test_whole_hertz_make_the_clock_worse(catalogue):
    """A rate rounded to whole hertz is off by 0.29 Hz: 3.0 us in the middle of 3000 samples at 12 kHz."""
    recordings = as_recordings([dated(), dated(), dated()])
    metadata = dataclasses.replace(recordings[0].metadata, sample_rate_hz=None)
    recordings[0] = dataclasses.replace(recordings[0], metadata=metadata)
    session = read(catalogue, recordings)
    sigma_s = session.clock_sigma_s_R[session.receivers.index(STATIONS[0].name)]
    assert sigma_s == pytest.approx(np.hypot(CLOCK, 0.125 * 12**-0.5 / RATE), rel=1e-6)


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        (None, UNTIMED),
        (b"{}", UNTIMED),
        ({"clock_sigma_s": None}, UNTIMED),
        ({"start_time_ns": None}, UNTIMED),
        (b"{", IMPOSSIBLE),
        (b"\xff\xfe", IMPOSSIBLE),
        (b" " * 70_000 + b"{}", IMPOSSIBLE),
        ({"clock_sigma_s": -1e-9}, IMPOSSIBLE),
        ({"clock_sigma_s": float("nan")}, IMPOSSIBLE),
        ({"start_time_ns": -1}, IMPOSSIBLE),
        ({"start_time_ns": 1.5e18}, IMPOSSIBLE),
        ({"start_time_ns": START_NS - 2_000_000_000}, IMPOSSIBLE),
        ({"start_time_ns": START_NS + 32_000_000_000}, IMPOSSIBLE),
        ({"start_time_ns": 10**40}, IMPOSSIBLE),
        ({"sample_rate_hz": 12_013.0}, IMPOSSIBLE),
        ({"sample_rate_hz": 0.0}, IMPOSSIBLE),
        ({"sample_rate_hz": "fast"}, IMPOSSIBLE),
    ],
)
def test_what_is_absent_or_impossible_masks_the_timing_alone(catalogue, metadata, reason):
    url, store = catalogue
    recordings = as_recordings([dated(), dated(), dated()])
    add(url, store, recordings=recordings)
    name = metadata_name(min(key for key in store.list("sessions/") if key.endswith(".npy")))
    if metadata is None:
        (store.root / name).unlink()
    elif isinstance(metadata, bytes):
        store.put(name, metadata)
    else:
        store.put(name, json.dumps(json.loads(store.get(name)) | metadata).encode())
    session = CatalogueSource(url, store)[0]
    first = session.receivers.index(STATIONS[0].name)
    assert session.masked == (reason,)
    assert np.isinf(session.clock_sigma_s_R[first])
    np.testing.assert_array_equal(np.delete(session.clock_sigma_s_R, first), [CLOCK] * 2)
    assert session.heard_R.all()
    np.testing.assert_array_equal(session.iq_RT, [dated().iq_T] * 3)


def test_an_open_session_takes_any_later_start(catalogue):
    url, store = catalogue
    add(url, store, recordings=as_recordings([dated(40_000_000_000)] * 3))
    execute(url, "update recording_sessions set session_end = null")
    assert CatalogueSource(url, store)[0].masked == ()


def test_recordings_without_times_are_as_before(catalogue):
    url, store = catalogue
    add(url, store, start=START + dt.timedelta(seconds=1))
    session = CatalogueSource(url, store)[0]
    assert session.clock_sigma_s_R is None
    np.testing.assert_array_equal(session.iq_RT, [iq(1), iq(2), iq(0)])
    assert session.masked == (UNTIMED,) * 3
