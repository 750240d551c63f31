"""A simulated world's recordings, written as a catalogue with their times, give the world's own arrival times."""

import dataclasses
import datetime as dt

import numpy as np
import pytest
from catalogues import START

from heimdall_jax.config import FeatureConfig, TimingConfig
from heimdall_jax.simulation.sessions import SimulatedSessions
from heimdall_jax.simulation.world import World
from heimdall_jax.sources.catalogue import CatalogueSource, embedded
from heimdall_jax.sources.catalogue_sql import add_session, create_catalogue
from heimdall_jax.sources.recordings import RecordingMetadata
from heimdall_jax.sources.rows import Recording
from heimdall_jax.training.dataset import HeimdallDataset
from heimdall_jax.worlds import TIMING_WORLD

COUNT = 6


@pytest.fixture(scope="module")
def sessions():
    config = dataclasses.replace(TIMING_WORLD, kinds=("fm",), clock_sigma_s=(50e-9, 1e-6), shadowing_db=0.0)
    return SimulatedSessions(World.build(config), "test", COUNT)


def timed(source, origin_deg, names):
    return HeimdallDataset(
        source,
        origin_deg=origin_deg,
        rows=names,
        known=names,
        features=FeatureConfig(),
        spectrogram=False,
        timing=TimingConfig(),
    )


def written(sessions, folder, late_ns):
    """The catalogue of the sessions' recordings, receiver i begun `late_ns[i]` late by its metadata."""
    url, store = embedded(folder)
    create_catalogue(url)
    for index in range(COUNT):
        session, start = sessions[index], START + dt.timedelta(minutes=index)
        start_ns = round(start.timestamp()) * 1_000_000_000
        recordings = [
            Recording(
                station,
                float(session.rss_db_R[i]),
                float(session.snr_db_R[i]),
                session.iq_RT[i],
                RecordingMetadata(
                    start_time_ns=start_ns + late_ns[i],
                    sample_rate_hz=12_000.0,
                    clock_sigma_s=float(session.clock_sigma_s_R[i]),
                ),
            )
            for i, station in enumerate(sessions.world.stations)
            if session.heard_R[i]
        ]
        rest = {"frequency_hz": session.frequency_hz, "sample_rate_hz": 12_000.0, "truth_deg": session.truth_deg}
        add_session(url, store, name=f"{index}", start=start, duration_s=1.0, recordings=recordings, **rest)
    return CatalogueSource(url, store, samples=11_982, min_receivers=1)


def test_arrival_times_are_the_worlds_to_the_bit(sessions, tmp_path):
    source = written(sessions, tmp_path, [0] * 7)
    direct = timed(sessions, source.origin_deg, source.receivers).columns()
    stored = timed(source, source.origin_deg, source.receivers).columns()
    assert stored["timing_valid"].any()
    for name in (
        "tdoa_s",
        "timing_valid",
        "arrival_precision_per_s2",
        "clock_sigma_s",
        "rss_db",
        "heard",
        "receiver_m",
    ):
        heard = stored["heard"] if stored[name].shape == stored["heard"].shape else np.ones_like(stored[name], bool)
        np.testing.assert_array_equal(stored[name][heard], direct[name][heard], err_msg=name)


def test_known_starts_are_part_of_the_arrival_times(sessions, tmp_path):
    """The same samples begun 150 us later are an arrival 150 us later; a shift of 1.8 samples moves it by 30 ns."""
    plain, late = (tmp_path / name for name in ("plain", "late"))
    late_ns = [0, 150_000, 0, -80_000, 41_667, 0, 0]
    before, after = (written(sessions, folder, starts) for folder, starts in ((plain, [0] * 7), (late, late_ns)))
    names = before.receivers
    columns = [timed(source, before.origin_deg, names).columns() for source in (before, after)]
    by_name = dict(zip((station.name for station in sessions.world.stations), late_ns, strict=True))
    late_s = np.array([by_name[name] for name in names]) * 1e-9
    both = columns[0]["timing_valid"] & columns[1]["timing_valid"]
    assert both.sum() > 0.8 * columns[0]["timing_valid"].sum()
    moved_s = columns[1]["tdoa_s"] - columns[0]["tdoa_s"]
    expected_s = np.broadcast_to(late_s[:, None] - late_s[None], moved_s.shape)
    error_s = np.abs(moved_s - expected_s)[both]
    assert np.median(error_s) < 30e-9
    assert np.abs(expected_s[both]).max() > 100e-6
