"""The Bayes estimator against SciPy integration of the same likelihood, and against what it must beat."""

import dataclasses

import jax
import numpy as np
import pymap3d
import pytest
import scipy.integrate
import scipy.stats

from heimdall_jax.config import WorldConfig
from heimdall_jax.errors import ConfigError, DataError
from heimdall_jax.evaluation.bayes import default_spacing_m, posterior_mean
from heimdall_jax.simulation.sessions import SimulatedSessions
from heimdall_jax.simulation.world import World
from heimdall_jax.types import Station

THREE = (Station("a", 45.0, 7.0, 300.0), Station("b", 45.25, 7.1, 100.0), Station("c", 45.1, 7.5, 0.0))
WORLD = World.build(WorldConfig())


def heard_of(world, split, count):
    """Received powers, masks and truths of fresh transmissions."""
    sent = jax.tree.map(np.asarray, SimulatedSessions(world, split, count).transmissions())
    return sent.received_power_dbm_R, sent.heard_R, sent.position_m_E.astype(np.float64)


def oracle_gain_db(world, latitude, longitude, station):
    """Float64, with pymap3d's geometry and a plain sum of the field's waves."""
    index = world.stations.index(station)
    here = pymap3d.geodetic2ecef(latitude, longitude, 0.0)
    there = pymap3d.geodetic2ecef(station.latitude_deg, station.longitude_deg, station.altitude_m)
    east, north, _ = pymap3d.geodetic2enu(latitude, longitude, 0.0, *world.origin_deg, 0.0)
    wave = np.asarray(world.shadowing.wavenumber_RWE, np.float64)[index] @ [east, north]
    field = np.sqrt(2 / len(wave)) * np.cos(wave + np.asarray(world.shadowing.phase_RW, np.float64)[index]).sum()
    # Friis at 1 km and 145 MHz: 75.675 dB.
    return world.config.shadowing_db * field - 75.6754 - 30 * np.log10(np.linalg.norm(np.subtract(here, there)) / 1000)


def oracle(world, power, heard, cells):
    """Posterior mean and covariance by Simpson over P_0 and a plain sum over `cells` x `cells` places."""
    (south, west), (north, east) = world.box_deg
    config = world.config
    sent = np.linspace(config.power_min_dbm, config.power_max_dbm, 801)
    places, weights = [], []
    for i in range(cells[0]):
        for j in range(cells[1]):
            longitude, latitude = (
                west + (i + 0.5) / cells[0] * (east - west),
                south + (j + 0.5) / cells[1] * (north - south),
            )
            likelihood = np.ones_like(sent)
            for r, station in enumerate(world.stations):
                mean = sent + oracle_gain_db(world, latitude, longitude, station)
                if heard[r]:
                    likelihood = likelihood * scipy.stats.norm.pdf(power[r], mean, config.fading_db)
                else:
                    likelihood = likelihood * scipy.stats.norm.cdf(world.threshold_dbm, mean, config.fading_db)
            places.append(pymap3d.geodetic2enu(latitude, longitude, 0.0, *world.origin_deg, 0.0)[:2])
            flat = config.power_min_dbm == config.power_max_dbm
            weights.append(likelihood[0] if flat else scipy.integrate.simpson(likelihood, x=sent))
    mean = np.average(places, axis=0, weights=weights)
    return mean, np.cov(np.transpose(places), aweights=weights, bias=True)


def powers_at(world, latitude, longitude):
    """What the three stations receive of 40 dBm, with a little more and less than their gain."""
    gain = [oracle_gain_db(world, latitude, longitude, station) for station in world.stations]
    return np.array([40.0 + np.array(gain) + [1.5, -2.0, 3.0]], np.float32)


@pytest.mark.parametrize(("low", "high"), [(30.0, 47.0), (40.0, 41.0), (40.5, 40.5)], ids=["wide", "narrow", "known"])
def test_posterior_is_the_integral_of_the_likelihood(low, high):
    config = dataclasses.replace(WorldConfig(), power_min_dbm=low, power_max_dbm=high, fading_db=3.0)
    world = World.build(config, stations=THREE)
    power, heard = powers_at(world, 45.12, 7.2), np.ones((1, 3), bool)
    # The box is 39.4 km by 27.8 km: 8 by 6 cells of at most 5 km.
    mean, covariance = posterior_mean(world, power, heard, spacing_m=5000.0)
    expected_mean, expected_covariance = oracle(world, power[0], heard[0], (8, 6))
    np.testing.assert_allclose(mean[0], expected_mean, atol=5.0)
    np.testing.assert_allclose(covariance[0], expected_covariance, rtol=2e-3, atol=2e-3 * 1e6)


def test_silence_counts():
    config = dataclasses.replace(WorldConfig(), fading_db=3.0, detection_snr_db=40.0)
    world = World.build(config, stations=THREE)
    heard = np.array([[True, True, False], [False, True, False], [False, False, False]])
    power = np.where(heard, powers_at(world, 45.12, 7.2), np.nan)  # what was not heard must not be read
    mean, covariance = posterior_mean(world, power, heard, spacing_m=5000.0)
    for row in range(3):
        expected_mean, expected_covariance = oracle(world, power[row], heard[row], (8, 6))
        np.testing.assert_allclose(mean[row], expected_mean, atol=10.0)
        np.testing.assert_allclose(covariance[row], expected_covariance, rtol=2e-3, atol=2e-3 * 1e6)


@pytest.fixture(scope="module")
def fixes():
    """300 transmissions of the default world, and the posterior on a 2 km grid."""
    power, heard, truth_m = heard_of(WORLD, "test", 300)
    mean, covariance = posterior_mean(WORLD, power, heard, spacing_m=2000.0)
    return power, heard, truth_m, mean, covariance


def squared_error(position_m, truth_m):
    return np.sum((position_m - truth_m) ** 2, axis=1)


@pytest.mark.parametrize("rival", ["power centroid", "amplitude centroid", "strongest", "prior mean"])
def test_no_simple_estimator_beats_it(fixes, rival):
    power, heard, truth_m, mean, _ = fixes
    stations = np.asarray(WORLD.station_m_RX, np.float64)[:, :2]
    weight = {
        "power centroid": 10 ** (power.astype(np.float64) / 10),
        "amplitude centroid": 10 ** (power.astype(np.float64) / 20),
        "strongest": np.equal(power, power.max(axis=1, keepdims=True)),
        "prior mean": np.zeros(power.shape),
    }[rival]
    weight = np.where(heard, weight, 0)
    rival_m = weight @ stations / np.maximum(weight.sum(axis=1, keepdims=True), 1e-300)
    gain = squared_error(rival_m, truth_m) - squared_error(mean, truth_m)
    assert gain.mean() > 4 * gain.std() / np.sqrt(gain.size)


def test_claimed_error_is_the_error_made(fixes):
    *_, truth_m, mean, covariance = fixes
    # Under the prior, E|p - mean|^2 = E trace(C) for the exact posterior; a 2 km grid is near it.
    difference = np.trace(covariance, axis1=1, axis2=2) - squared_error(mean, truth_m)
    assert abs(difference.mean()) < 4 * difference.std() / np.sqrt(difference.size)


def test_order_and_chunks_do_not_matter(fixes):
    power, heard, _, mean, covariance = fixes
    rows = np.array([299, 3, 17])
    again, spread = posterior_mean(WORLD, power[rows], heard[rows], spacing_m=2000.0)
    np.testing.assert_allclose(again, mean[rows], atol=0.5)
    np.testing.assert_allclose(spread, covariance[rows], rtol=1e-4, atol=1.0)


def test_the_grid_follows_the_shadowings_correlation():
    rough = World.build(dataclasses.replace(WorldConfig(), shadowing_correlation_m=5000.0))
    assert (default_spacing_m(WORLD), default_spacing_m(rough)) == (500.0, 250.0)
    power, heard, _ = heard_of(WORLD, "test", 2)
    smooth = World.build(dataclasses.replace(WorldConfig(), shadowing_correlation_m=200_000.0))
    by_default, _ = posterior_mean(smooth, power, heard)
    np.testing.assert_array_equal(by_default, posterior_mean(smooth, power, heard, spacing_m=500.0)[0])


@pytest.mark.long
@pytest.mark.parametrize(("correlation_m", "count"), [(20_000.0, 2000), (5000.0, 500)])
def test_half_the_spacing_changes_the_error_by_less_than_two_percent(correlation_m, count):
    """5 km, 500 fixes: 500 m gave 20.30 km, 250 m 19.77, 125 m 19.64; so 250 m is the default there."""
    world = World.build(dataclasses.replace(WorldConfig(), shadowing_correlation_m=correlation_m))
    power, heard, truth_m = heard_of(world, "test", count)
    rmse = [
        np.sqrt(squared_error(posterior_mean(world, power, heard, spacing_m=spacing)[0], truth_m).mean())
        for spacing in (default_spacing_m(world), default_spacing_m(world) / 2)
    ]
    assert rmse[1] == pytest.approx(rmse[0], rel=0.02)


def test_bad_input_is_refused():
    power, heard = np.zeros((2, 7), np.float32), np.ones((2, 7), bool)
    with pytest.raises(ConfigError, match="spacing_m"):
        posterior_mean(WORLD, power, heard, spacing_m=0.0)
    with pytest.raises(DataError, match="One column per station"):
        posterior_mean(WORLD, power[:, :3], heard[:, :3])
    with pytest.raises(DataError, match="not finite"):
        posterior_mean(WORLD, np.full_like(power, np.nan), heard)
    certain = World.build(dataclasses.replace(WorldConfig(), fading_db=0.0))
    with pytest.raises(ConfigError, match="fading_db"):
        posterior_mean(certain, power, heard)
    echoing = World.build(dataclasses.replace(WorldConfig(), echoes=1))
    with pytest.raises(ConfigError, match=r"echoes.*world.echoes to 0"):
        posterior_mean(echoing, power, heard)
