"""The world's geometry, prior and link budget against pymap3d and hand arithmetic."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pymap3d
import pytest

from heimdall_jax.config import WorldConfig
from heimdall_jax.errors import ConfigError
from heimdall_jax.geodesy import ground_height_m, local_to_degrees
from heimdall_jax.simulation.channel import free_space_loss_db, noise_floor_dbm, path_loss_db, reference_loss_db
from heimdall_jax.simulation.sessions import SimulatedSessions
from heimdall_jax.simulation.stations import SEVEN_STATIONS
from heimdall_jax.simulation.world import World, distance_m, gain_db, place
from heimdall_jax.worlds import TIMING_WORLD

WORLD = World.build(WorldConfig())


@pytest.fixture(scope="module")
def sent():
    """2,000 transmissions of the default world."""
    return jax.tree.map(np.asarray, SimulatedSessions(WORLD, "test", 2000).transmissions())


def truth_deg(sent):
    return local_to_degrees(sent.position_m_E.astype(np.float64), WORLD.origin_deg)


def test_free_space_loss_at_one_kilometre():
    # 4 pi 1000 m 145e6 Hz / 299792458 m/s = 6077.95; 20 log10 of it = 75.675 dB
    assert free_space_loss_db(1000.0, 145e6) == pytest.approx(75.675, abs=1e-3)


def test_link_budget_by_hand():
    # 50 km: 75.675 + 10 * 3 * log10(50) = 75.675 + 50.969 = 126.644 dB; 40 dBm - 126.644 dB = -86.644 dBm
    loss = path_loss_db(jnp.float32(50_000), reference_db=reference_loss_db(145e6), exponent=3.0)
    assert 40 - float(loss) == pytest.approx(-86.644, abs=2e-3)
    # k T B: 10 log10(1.380649e-23 J/K * 290 K * 12000 Hz * 1000 mW/W) = -133.183 dBm; 5 dB noise figure
    assert noise_floor_dbm(12_000.0, 5.0) == pytest.approx(-128.183, abs=1e-3)
    assert pytest.approx(-125.183, abs=1e-3) == WORLD.threshold_dbm


def test_received_power_is_the_sum_of_its_parts(sent):
    places = truth_deg(sent)[:50]
    for column, station in enumerate(SEVEN_STATIONS):
        here = pymap3d.geodetic2ecef(station.latitude_deg, station.longitude_deg, station.altitude_m)
        there = pymap3d.geodetic2ecef(places[:, 0], places[:, 1], 0.0)
        metres = np.linalg.norm(np.stack(there, -1) - np.stack(here, -1), axis=-1)
        np.testing.assert_allclose(sent.distance_m_R[:50, column], metres, atol=0.1)
        np.testing.assert_allclose(sent.delay_s_R[:50, column], metres / 299_792_458, atol=1e-9)
        expected = (
            sent.power_dbm[:50]
            - (75.675 + 30 * np.log10(metres / 1000))
            + sent.shadowing_db_R[:50, column]
            + sent.fading_db_R[:50, column]
        )
        np.testing.assert_allclose(sent.received_power_dbm_R[:50, column], expected, atol=2e-3)


def test_heard_is_power_over_the_threshold(sent):
    np.testing.assert_array_equal(sent.heard_R, sent.received_power_dbm_R >= WORLD.noise_dbm + 3)
    assert not sent.heard_R.all()


def test_prior_is_uniform_over_the_box(sent):
    (south, west), (north, east) = (44.395, 7.27), (45.478, 9.123)  # extremes of the seven, read off physics
    places = truth_deg(sent)
    assert np.allclose(WORLD.origin_deg, ((south + north) / 2, (west + east) / 2))
    for axis, (low, high) in enumerate([(south, north), (west, east)]):
        unit = (places[:, axis] - low) / (high - low)
        assert unit.min() >= -1e-5
        assert unit.max() <= 1 + 1e-5
        counts = np.histogram(unit, 10, (0, 1))[0]
        assert np.sum((counts - 200) ** 2 / 200) < 27.9  # chi-square, 9 degrees of freedom, p = 0.001
    assert sent.power_dbm.min() >= 30
    assert sent.power_dbm.max() <= 47
    assert sent.power_dbm.mean() == pytest.approx(38.5, abs=4 * 17 / np.sqrt(12 * 2000))


def test_nuisances_have_their_spread(sent):
    assert sent.fading_db_R.std() == pytest.approx(2.0, abs=4 * 2 / np.sqrt(2 * sent.fading_db_R.size))
    correlation = np.corrcoef(sent.fading_db_R.T)
    assert np.abs(correlation - np.eye(7)).max() < 4.5 / np.sqrt(2000)
    # One draw of a field that is correlated over a third of the region: its spread is near 6 dB, not at it.
    assert 3.5 < sent.shadowing_db_R.std() < 8.5


@pytest.mark.parametrize("unit", [(0.0, 0.0), (1.0, 1.0), (0.25, 0.9), (0.5, 0.5)])
def test_place_is_that_fraction_of_the_box(unit):
    metres = np.asarray(place(WORLD, jnp.array(unit, jnp.float32)), np.float64)
    (south, west), (north, east) = WORLD.box_deg
    expected = pymap3d.geodetic2enu(
        south + unit[1] * (north - south), west + unit[0] * (east - west), 0.0, *WORLD.origin_deg, 0.0
    )
    np.testing.assert_allclose(metres, expected[:2], atol=0.2)


def test_ground_height_of_a_far_place_in_float32():
    place_deg = (45.478, 9.123)
    east, north, up = pymap3d.geodetic2enu(*place_deg, 0.0, *WORLD.origin_deg, 0.0)
    point = jnp.array([east, north], jnp.float32)
    assert float(ground_height_m(point, WORLD.origin_deg, jnp)) == pytest.approx(up, abs=2e-3)
    assert up == pytest.approx(-(east**2 + north**2) / 2 / 6.371e6, rel=0.01)  # the sphere's
    assert ground_height_m(np.array([east, north]), WORLD.origin_deg) == pytest.approx(up, abs=1e-6)


def test_distance_over_a_station_is_its_altitude():
    station = SEVEN_STATIONS[3]
    east, north, _ = pymap3d.geodetic2enu(station.latitude_deg, station.longitude_deg, 0.0, *WORLD.origin_deg, 0.0)
    assert float(distance_m(WORLD, jnp.array([east, north], jnp.float32))[3]) == pytest.approx(700.0, abs=0.1)


def test_longest_delay_covers_the_box(sent):
    assert sent.delay_s_R.max() < WORLD.max_delay_s < 1e-3


@pytest.mark.parametrize(
    ("field", "value", "cure"),
    [
        ("shadowing_correlation_m", 0.0, "above zero"),
        ("frequencies_hz", (145e6, -1.0), "frequencies_hz: got -1.0"),
        ("frequencies_hz", (), "Name what to draw"),
        ("duration_s", float("nan"), "above zero"),
        ("fading_db", -2.0, "zero or above"),
        ("echoes", -1, "zero or above"),
        ("echo_db", float("inf"), "a finite number"),
        ("gain_bias_db", -0.1, "zero or above"),
        ("power_min_dbm", 50.0, "Swap"),
        ("kinds", (), "Name what to draw"),
        ("clock_sigma_s", (), "Name what to draw"),
        ("clock_sigma_s", (1e-6, -1e-6), "clock_sigma_s: got -1e-06"),
        ("clock_sigma_s", (0.1,), "0 to 0.01 s"),
        ("offset_max_hz", 1200.0, "drift of the samples: got 4.1e-06 s"),  # 1200 / 145e6 / 2 s
        ("rate_error_ppm", 2.0, "drift of the samples: got 6e-06 s"),  # 6 sigmas of 2 ppm, half a second
    ],
)
def test_impossible_worlds_are_refused(field, value, cure):
    with pytest.raises(ConfigError, match=r"world.*allowed") as error:
        World.build(dataclasses.replace(WorldConfig(), **{field: value}))
    assert re.search(cure, str(error.value))


def test_gain_of_a_world_is_known_where_it_has_one():
    with pytest.raises(ConfigError, match=r"a field for every transmission.*world.fixed"):
        gain_db(World.build(dataclasses.replace(WorldConfig(), fixed=False)), jnp.zeros(2))
    with pytest.raises(ConfigError, match=r"several carriers"):
        gain_db(World.build(dataclasses.replace(TIMING_WORLD, fixed=True)), jnp.zeros(2))


def test_stations_without_a_box_are_refused():
    with pytest.raises(ConfigError, match="stations"):
        World.build(WorldConfig(), stations=SEVEN_STATIONS[:1])
