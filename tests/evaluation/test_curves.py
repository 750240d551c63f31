"""Hyperbolas and rings on the ground: every point by geodesy's distance and by Vincenty's geodesic (pymap3d)."""

import numpy as np
import pymap3d.vincenty
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heimdall_jax.errors import DataError
from heimdall_jax.evaluation.curves import hyperbola_deg, ring_deg
from heimdall_jax.geodesy import ground_distance_m

PAIRS = [((50.0, 7.0), (46.0, 8.0)), ((10.0, 179.0), (12.0, -178.0)), ((40.0, -75.0), (50.0, 8.0))]


def difference_m(points_deg, a_deg, b_deg):
    return ground_distance_m(points_deg, np.array(a_deg)) - ground_distance_m(points_deg, np.array(b_deg))


@pytest.mark.parametrize(("a_deg", "b_deg"), PAIRS)
@pytest.mark.parametrize("share", [-0.99, -0.3, 0.0, 0.7])
def test_every_point_of_a_hyperbola_has_its_difference(a_deg, b_deg, share):
    wanted_m = share * float(ground_distance_m(np.array(a_deg), np.array(b_deg)))
    points_deg = hyperbola_deg(a_deg, b_deg, wanted_m)
    assert len(points_deg) > 200
    np.testing.assert_allclose(difference_m(points_deg, a_deg, b_deg), wanted_m, atol=1e-3)


def test_a_pair_of_almost_antipodes_has_its_hyperbola_too():
    a_deg, b_deg = (-41.3, 174.8), (40.4, -3.7)
    points_deg = hyperbola_deg(a_deg, b_deg, 3_000_000.0)
    assert len(points_deg) > 200
    np.testing.assert_allclose(difference_m(points_deg, a_deg, b_deg), 3_000_000.0, atol=1e-3)


@settings(deadline=None, max_examples=60)
@given(st.floats(-80, 80), st.floats(-180, 180), st.floats(-3, 3), st.floats(0.1, 3), st.floats(-0.95, 0.95))
def test_hyperbolas_anywhere(latitude, longitude, north_deg, east_deg, share):
    a_deg, b_deg = (latitude, longitude), (latitude + north_deg, longitude + east_deg)
    wanted_m = share * float(ground_distance_m(np.array(a_deg), np.array(b_deg)))
    points_deg = hyperbola_deg(a_deg, b_deg, wanted_m, reach_m=1_000_000.0)
    assert len(points_deg) > 200
    np.testing.assert_allclose(difference_m(points_deg, a_deg, b_deg), wanted_m, atol=1.0)


def test_a_hyperbola_is_the_geodesics_to_metres():
    """Vincenty's distances, which `ground_distance_m` follows to 1e-6 at 100 km."""
    a_deg, b_deg = (45.04, 7.67), (45.5, 8.4)
    points_deg = hyperbola_deg(a_deg, b_deg, 20_000.0, reach_m=100_000.0)
    there = [np.asarray(pymap3d.vincenty.vdist(*points_deg.T, *np.array(place))[0]) for place in (a_deg, b_deg)]
    np.testing.assert_allclose(there[0] - there[1], 20_000.0, atol=1.0)


def test_a_hyperbola_bends_about_the_nearer_one_and_reaches_as_far_as_asked():
    a_deg, b_deg = (45.0, 7.0), (45.0, 8.0)
    near_a_deg = hyperbola_deg(a_deg, b_deg, -50_000.0, reach_m=300_000.0)
    away_m = ground_distance_m(near_a_deg, np.array([45.0, 7.5]))
    assert away_m.max() == pytest.approx(300_000, rel=0.01)
    assert away_m.min() == pytest.approx(25_000, rel=0.01)  # the vertex: half the difference from the middle
    assert (near_a_deg[:, 1] < 7.5).all()
    assert {near_a_deg[0, 0] > 45, near_a_deg[-1, 0] > 45} == {True, False}
    np.testing.assert_allclose(hyperbola_deg(b_deg, a_deg, 50_000.0, reach_m=300_000.0), near_a_deg[::-1], atol=1e-6)


def test_a_hyperbola_that_bends_beyond_the_reach_is_empty():
    assert hyperbola_deg((45.0, 7.0), (45.0, 8.0), 70_000.0, reach_m=30_000.0).shape == (0, 2)


@pytest.mark.parametrize("wanted_m", [78_900.0, -90_000.0, float("nan")])
def test_a_difference_that_no_place_has_is_refused(wanted_m):
    with pytest.raises(DataError, match="less than 788"):
        hyperbola_deg((45.0, 7.0), (45.0, 8.0), wanted_m)


@pytest.mark.parametrize("radius_m", [10.0, 100_000.0, 8_900_000.0])
@pytest.mark.parametrize("place_deg", [(46.0, 8.0), (89.5, 20.0), (-10.0, -179.9)])
def test_every_point_of_a_ring_is_as_far(place_deg, radius_m):
    points_deg = ring_deg(place_deg, radius_m)
    np.testing.assert_allclose(ground_distance_m(points_deg, np.array(place_deg)), radius_m, atol=0.01)
    np.testing.assert_allclose(points_deg[0], points_deg[-1], atol=1e-9)


def test_a_ring_goes_all_around():
    north, east, south, west = ring_deg((46.0, 8.0), 50_000.0, points=5)[:4]
    assert north[0] > 46.4
    assert south[0] < 45.6
    assert east[1] > 8.6
    assert west[1] < 7.4


@pytest.mark.parametrize("radius_m", [0.0, -5.0, 1e7, float("nan")])
def test_a_ring_of_no_radius_is_refused(radius_m):
    with pytest.raises(DataError, match="radius of a ring"):
        ring_deg((46.0, 8.0), radius_m)
