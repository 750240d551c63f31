"""Arrival times from the simulated world's IQ, as a data set holds them, against the world's own truth."""

import dataclasses

import numpy as np
import pytest

from heimdall_jax.config import FeatureConfig, TimingConfig
from heimdall_jax.geodesy import degrees_to_enu
from heimdall_jax.simulation.sessions import SimulatedSessions
from heimdall_jax.simulation.world import World
from heimdall_jax.training.dataset import HeimdallDataset
from heimdall_jax.worlds import TIMING_WORLD

COUNT = 24


@pytest.fixture(scope="module")
def sessions() -> SimulatedSessions:
    config = dataclasses.replace(TIMING_WORLD, kinds=("fm",), clock_sigma_s=(50e-9, 1e-6))
    return SimulatedSessions(World.build(config), "test", COUNT)


@pytest.fixture(scope="module")
def dataset(sessions: SimulatedSessions) -> HeimdallDataset:
    return HeimdallDataset(
        sessions,
        origin_deg=sessions.world.origin_deg,
        rows=sessions.receivers,
        known=sessions.receivers,
        features=FeatureConfig(),
        spectrogram=False,
        timing=TimingConfig(),
    )


def test_delays_scatter_about_the_truth_as_they_say(sessions: SimulatedSessions, dataset: HeimdallDataset) -> None:
    """Delay and clock error are one to a correlator; what is left is noise of the stated precision.

    Where the weaker receiver hears with 10 to 30 dB; the median of squared standard normals is 0.455. Above 30 dB the
    simulation's and interpolator's own errors (25 ns measured) are larger than the noise.
    """
    sent, columns = sessions.transmissions(dataset.source_indices.tolist()), dataset.columns()
    arrival_s = np.asarray(sent.delay_s_R, np.float64) + np.asarray(sent.clock_error_s_R, np.float64)
    error_s = columns["tdoa_s"] - (arrival_s[:, :, None] - arrival_s[:, None])
    with np.errstate(divide="ignore"):
        variance = 1 / columns["arrival_precision_per_s2"].astype(np.float64)
    both = variance[:, :, None] + variance[:, None]
    snr_db = np.asarray(sent.snr_db_R)
    weaker_db = np.minimum(snr_db[:, :, None], snr_db[:, None])
    counted = columns["timing_valid"] & (weaker_db >= 10) & (weaker_db < 30)
    assert counted.sum() > 200
    square = error_s[counted] ** 2 / both[counted]
    assert 0.6 < np.median(square) / 0.455 < 1.6
    assert np.quantile(np.abs(error_s[counted]), 0.95) < 2e-6


def test_the_columns_say_how_high_receivers_stand_and_what_their_clocks_are(
    sessions: SimulatedSessions, dataset: HeimdallDataset
) -> None:
    sent, columns = sessions.transmissions(dataset.source_indices.tolist()), dataset.columns()
    np.testing.assert_allclose(columns["clock_sigma_s"], sent.clock_sigma_s_R, rtol=1e-6)
    stations = sessions.world.stations
    places = np.array([(station.latitude_deg, station.longitude_deg) for station in stations])
    altitudes = np.array([station.altitude_m for station in stations])
    up_m = degrees_to_enu(places, altitudes, sessions.world.origin_deg)[:, 2]
    np.testing.assert_allclose(columns["receiver_up_m"], np.tile(up_m, (len(dataset), 1)), atol=1e-3)
    assert not columns["timing_valid"][:, np.arange(7), np.arange(7)].any()
    assert not columns["timing_valid"][~columns["heard"]].any()


def test_powers_are_read_from_the_same_samples(sessions: SimulatedSessions, dataset: HeimdallDataset) -> None:
    """dB of full scale: signal and noise together, at -30 dBm full scale, within a second's scatter."""
    sent, columns = sessions.transmissions(dataset.source_indices.tolist()), dataset.columns()
    noise_dbm = sessions.world.noise_dbm + np.asarray(sent.gain_bias_db_R)
    total_dbm = 10 * np.log10(10 ** (np.asarray(sent.reported_power_dbm_R) / 10) + 10 ** (noise_dbm / 10))
    heard = columns["heard"]
    np.testing.assert_allclose(columns["rss_db"][heard], (total_dbm + 30)[heard], atol=0.5)


def test_carriers_carry_no_times() -> None:
    """Whatever their level: a bare carrier has no bandwidth, and its delays would be any."""
    world = World.build(dataclasses.replace(TIMING_WORLD, kinds=("carrier",)))
    sessions = SimulatedSessions(world, "test", 32)
    dataset = HeimdallDataset(
        sessions,
        origin_deg=world.origin_deg,
        rows=sessions.receivers,
        known=sessions.receivers,
        features=FeatureConfig(),
        spectrogram=False,
        timing=TimingConfig(),
    )
    assert not dataset.columns()["timing_valid"].any()
