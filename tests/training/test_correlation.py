"""How alike shadowing is at two places: a loop over pairs in float64, values by hand, and what any covariance obeys."""

import math

import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heimdall_jax.training.correlation import by_distance, by_sector, correlation

STAND_M = np.array([120.0, -80.0])


def at_bearing(turn_rad, range_m=400.0):
    """A place (1, 2) that a receiver at the origin sees so far clockwise of north."""
    return range_m * np.array([[math.sin(turn_rad), math.cos(turn_rad)]])


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_it_is_the_loop_over_pairs(share):
    rng = np.random.default_rng(0)
    places, others = rng.uniform(-500, 500, (12, 2)), rng.uniform(-500, 500, (7, 2))
    found = correlation(places, others, STAND_M, 90.0, share)
    wanted = [[oracles.shadowing_correlation(a, b, STAND_M, 90.0, share) for b in others] for a in places]
    np.testing.assert_allclose(found, wanted, atol=2e-5)


@settings(deadline=None, max_examples=30)
@given(share=st.floats(0, 1), distance_m=st.floats(5, 1000), seed=st.integers(0, 99))
def test_it_is_a_correlation(share, distance_m, seed):
    """Symmetric, 1 of each place with itself, not negative; no combination of places has a negative variance."""
    places = np.random.default_rng(seed).normal(0, 300, (40, 2))
    places[:3] = STAND_M + np.array([[0.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])  # on the receiver, and to both sides of it
    found = correlation(places, places, STAND_M, distance_m, share).astype(np.float64)
    np.testing.assert_allclose(found, found.T, atol=1e-6)
    np.testing.assert_allclose(np.diagonal(found), 1.0, atol=1e-6)
    assert (found >= 0).all()
    assert (found <= 1 + 1e-6).all()
    assert np.linalg.eigvalsh(found).min() > -1e-4


def test_a_turn_across_south_is_a_small_one():
    """Bearings of pi - 0.03 and -pi + 0.03 are 0.06 rad apart, a fifth of a sector: exp(-0.2)."""
    found = by_sector(at_bearing(math.pi - 0.03), at_bearing(-math.pi + 0.03), np.zeros(2))
    assert found[0, 0] == pytest.approx(math.exp(-0.2), abs=1e-5)
    across_north = by_sector(at_bearing(-0.03), at_bearing(0.03), np.zeros(2))
    assert across_north[0, 0] == pytest.approx(math.exp(-0.2), abs=1e-5)


def test_values_by_hand():
    near, far = at_bearing(1.0, 180.0), at_bearing(1.0, 380.0)  # 200 and 400 with the 20 m: half as far
    assert by_sector(near, far, np.zeros(2))[0, 0] == pytest.approx(0.5, abs=1e-5)
    assert by_distance(near, far, 200.0)[0, 0] == pytest.approx(math.exp(-1), abs=1e-5)
    both = 0.6 * math.exp(-1) + 0.4 * 0.5
    assert correlation(near, far, np.zeros(2), 200.0, 0.4)[0, 0] == pytest.approx(both, abs=1e-5)
    behind = by_sector(at_bearing(0.0), at_bearing(math.pi), np.zeros(2))
    assert behind[0, 0] == pytest.approx(math.exp(-math.pi / 0.3), rel=1e-4)


def test_without_a_sector_the_receiver_does_not_matter():
    places = np.random.default_rng(0).uniform(-500, 500, (9, 2))
    plain = by_distance(places, places, 150.0)
    for stand_m in (STAND_M, np.full(2, np.nan)):
        np.testing.assert_array_equal(correlation(places, places, stand_m, 150.0, 0.0), plain)
    assert np.abs(correlation(places, places, STAND_M, 150.0, 0.5) - plain).max() > 0.1
