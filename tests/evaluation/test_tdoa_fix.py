"""Places from arrival times against the Cramér-Rao bound, pymap3d's geometry, and what must not matter."""

import numpy as np
import pymap3d
import pymap3d.vincenty
import pytest

from heimdall_jax.errors import DataError
from heimdall_jax.evaluation.bounds import covariance_from_information, pooled_r68
from heimdall_jax.evaluation.calibration import coverage, squared_mahalanobis
from heimdall_jax.evaluation.cramer_rao import timing_information
from heimdall_jax.evaluation.ranges import distance_and_slope, distance_m
from heimdall_jax.evaluation.tdoa_fix import locate_by_times, pose
from heimdall_jax.evaluation.tdoa_solver import solve
from heimdall_jax.geodesy import degrees_to_enu, degrees_to_local
from heimdall_jax.simulation.stations import SEVEN_STATIONS

DEG = np.array([(s.latitude_deg, s.longitude_deg) for s in SEVEN_STATIONS])
ALTITUDE = np.array([s.altitude_m for s in SEVEN_STATIONS])
ORIGIN = (44.94, 8.2)
RECEIVERS = degrees_to_enu(DEG, ALTITUDE, ORIGIN)
C = 299_792_458.0
NOISE_S = 30e-9

# Receivers of a published DCF77 experiment, and the transmitter.
FAR_DEG = np.array([(53.665337, 7.282766), (45.779290, 0.614638), (47.1721, 8.42683)])
DCF77_DEG = np.array([50.0152, 9.0112])
FAR_ORIGIN = (49.7, 4.5)


def oracle_times(place_deg):
    """Seconds (N, R) in space from ground points (N, 2) in degrees."""
    here = np.stack(pymap3d.geodetic2ecef(place_deg[:, 0], place_deg[:, 1], 0.0), axis=-1)
    there = np.stack(pymap3d.geodetic2ecef(DEG[:, 0], DEG[:, 1], ALTITUDE), axis=-1)
    return np.linalg.norm(here[:, None] - there, axis=-1) / C


def places_deg(count, seed=0):
    return np.random.default_rng(seed).uniform(DEG.min(axis=0), DEG.max(axis=0), (count, 2))


def posed(arrival, clock, heard=None, receivers=RECEIVERS, extra=0.0):
    count = arrival.shape[1]
    heard = np.ones(arrival.shape, bool) if heard is None else heard
    precision = (heard[:, :, None] & heard[:, None]) * (1 - np.eye(count)) / (2 * NOISE_S**2)
    return pose(
        arrival[:, :, None] - arrival[:, None],
        precision,
        clock_sigma_s_NR=np.full(arrival.shape, clock),
        extra_sigma_s=extra,
        receiver_m_NRX=np.tile(receivers, (len(arrival), 1, 1)),
    )


def errors(fixes, truth_m):
    return np.linalg.norm(fixes.position_m_NE - truth_m, axis=1)


@pytest.mark.parametrize("path", ["space", "ground"])
def test_slopes_are_differences_of_distances(path):
    place_m = np.random.default_rng(0).uniform(-300_000, 300_000, (50, 2))
    got, slope = distance_and_slope(place_m, RECEIVERS, ORIGIN, path)
    np.testing.assert_array_equal(got, distance_m(place_m, RECEIVERS, ORIGIN, path))
    for axis in range(2):
        step = 5.0 * np.eye(2)[axis]
        ahead, behind = (distance_m(place_m + s, RECEIVERS, ORIGIN, path) for s in (step, -step))
        np.testing.assert_allclose(slope[..., axis], (ahead - behind) / 10, atol=1e-6)


def test_distances_are_pymap3ds():
    """In space to a millimetre; along the ground within 1e-5 of Vincenty's geodesic at 300 to 800 km."""
    place = places_deg(20)
    got = distance_m(degrees_to_local(place, ORIGIN), RECEIVERS, ORIGIN)
    np.testing.assert_allclose(got, oracle_times(place) * C, atol=1e-3)
    far = degrees_to_enu(FAR_DEG, 0.0, FAR_ORIGIN)
    got = distance_m(degrees_to_local(DCF77_DEG, FAR_ORIGIN), far, FAR_ORIGIN, "ground")
    expected = [pymap3d.vincenty.vdist(*DCF77_DEG, *receiver)[0] for receiver in FAR_DEG]
    np.testing.assert_allclose(got, np.array(expected, np.float64), rtol=1e-5)


def test_without_noise_the_place_is_exact():
    place = places_deg(200)
    fixes = solve(posed(oracle_times(place) + 0.123, 0.0), origin_deg=ORIGIN)
    # What is left is the weak pull of the region's centre.
    assert errors(fixes, degrees_to_local(place, ORIGIN)).max() < 0.01


@pytest.fixture(scope="module")
def noisy():
    """1,000 fixes at 50 ns clocks."""
    rng, place = np.random.default_rng(1), places_deg(1000, seed=1)
    arrival = oracle_times(place) + rng.normal(size=(1000, 7)) * np.hypot(50e-9, NOISE_S)
    problem = posed(arrival, 50e-9)
    return degrees_to_local(place, ORIGIN), problem, solve(problem, origin_deg=ORIGIN)


def test_the_error_is_the_bounds(noisy):
    """1,000 fixes: the standard error of r68 is 2.5 %; three of them."""
    truth_m, problem, fixes = noisy
    information = timing_information(truth_m, RECEIVERS, problem.variance_s2_NR, origin_deg=ORIGIN)
    bound = pooled_r68(covariance_from_information(information), np.random.default_rng(0))
    assert np.quantile(errors(fixes, truth_m), 0.68) == pytest.approx(bound, rel=0.075)


def test_regions_hold_what_they_promise_or_a_little_more(noisy):
    """The reduced chi-square only inflates: 0.73 was measured for 0.68 on 2,000 other fixes."""
    truth_m, _, fixes = noisy
    share = coverage(squared_mahalanobis(fixes.position_m_NE - truth_m, fixes.covariance_m2_NEE))
    assert 0.68 < share["0.68"] < 0.78
    assert np.nanmean(fixes.chi_square_N) == pytest.approx(1.0, abs=0.1)


def test_one_late_arrival_is_not_believed(noisy):
    """An echo of 5 us at one of seven: 1.5 km of range, tens of metres of place, and the weight says who."""
    truth_m, problem, plain = noisy
    late = problem.arrival_s_NR.copy()
    late[:, 2] += 5e-6
    fixes = solve(problem._replace(arrival_s_NR=late), origin_deg=ORIGIN)
    assert np.median(errors(fixes, truth_m)) < 4 * np.median(errors(plain, truth_m))
    assert (fixes.weight_NR.argmin(axis=1) == 2).mean() > 0.95
    assert np.median(fixes.weight_NR[:, 2]) < 0.05


def test_nothing_that_is_masked_or_reordered_matters(noisy):
    _, problem, _ = noisy
    heard = np.array([[True, True, True, False, True, True, True]])
    base = solve(posed(problem.arrival_s_NR[:1], 50e-9, heard), origin_deg=ORIGIN)
    spoiled = problem.arrival_s_NR[:1].copy()
    spoiled[0, 3] = np.nan
    order = np.array([6, 2, 0, 3, 1, 5, 4])
    again = solve(posed(spoiled[:, order], 50e-9, heard[:, order], RECEIVERS[order]), origin_deg=ORIGIN)
    np.testing.assert_allclose(again.position_m_NE, base.position_m_NE, atol=1e-3)
    np.testing.assert_allclose(again.covariance_m2_NEE, base.covariance_m2_NEE, rtol=1e-5)
    assert base.weight_NR[0, 3] == 0


def test_useless_clocks_leave_the_region(noisy):
    """At 1 ms the stations say all there is: the covariance is about the region's."""
    _, problem, _ = noisy
    fixes = solve(posed(problem.arrival_s_NR[:20], 1e-3), origin_deg=ORIGIN)
    assert (errors(fixes, problem.centre_m_NE[:20]) < problem.reach_m_N[:20]).all()
    assert (np.linalg.eigvalsh(fixes.covariance_m2_NEE) > (0.2 * problem.reach_m_N[0]) ** 2).all()


def test_a_long_wave_transmitter_among_three_receivers():
    """DCF77's geometry, 20 us of propagation: the 95 % ellipse holds the truth 95 times of 100, over 400 draws."""
    rng = np.random.default_rng(2)
    exact = np.array([pymap3d.vincenty.vdist(*DCF77_DEG, *receiver)[0] for receiver in FAR_DEG]).ravel() / C
    arrival = exact + rng.normal(size=(400, 3)) * np.hypot(20e-6, NOISE_S)
    receivers = degrees_to_enu(FAR_DEG, 0.0, FAR_ORIGIN)
    fixes = solve(posed(arrival, 0.0, receivers=receivers, extra=20e-6), origin_deg=FAR_ORIGIN, path="ground")
    truth_m = degrees_to_local(DCF77_DEG, FAR_ORIGIN)
    share = coverage(squared_mahalanobis(fixes.position_m_NE - truth_m, fixes.covariance_m2_NEE))["0.95"]
    assert share == pytest.approx(0.95, abs=0.044)  # four binomial standard deviations
    assert np.isnan(fixes.chi_square_N).all()


def test_one_transmission_with_its_details():
    exact = np.array([pymap3d.vincenty.vdist(*DCF77_DEG, *receiver)[0] for receiver in FAR_DEG]).ravel() / C
    exact = np.append(exact, 1.0)
    delay = np.subtract.outer(exact, exact)
    precision = np.full((4, 4), 1e12) * (1 - np.eye(4))
    receivers = degrees_to_enu(np.vstack([FAR_DEG, [50.0, 5.0]]), 0.0, FAR_ORIGIN)
    arguments = {"receiver_m_RX": receivers, "origin_deg": FAR_ORIGIN, "path": "ground", "extra_sigma_s": 20e-6}
    clock = np.array([1e-7, 1e-7, 1e-7, np.inf])
    position_m, covariance, details = locate_by_times(delay, precision, clock_sigma_s_R=clock, **arguments)
    # The prior's pull of 12 km^2 over 1000 km^2 at 320 km: tens of metres.
    np.testing.assert_allclose(position_m, degrees_to_local(DCF77_DEG, FAR_ORIGIN), atol=100)
    assert details.used_R.tolist() == [True, True, True, False]
    assert details.residual_s_R[3] == 0
    assert np.isinf(details.sigma_s_R[3])
    assert details.sigma_s_R[0] == pytest.approx(np.sqrt(0.5e-12 + 1e-14 + 4e-10), rel=1e-6)
    assert 5_000 < 2.45 * np.sqrt(np.linalg.eigvalsh(covariance)[1]) < 40_000
    with pytest.raises(DataError, match="got 2 usable receivers"):
        locate_by_times(delay, precision, clock_sigma_s_R=np.where(np.arange(4) < 2, 1e-7, np.inf), **arguments)


def test_two_places_that_fit_as_well_are_said_to():
    """Three receivers in a line see the same from either side; of 1 us, the Earth's curve tells nothing."""
    receivers = np.array([[-50_000.0, 0.0, 0.0], [0.0, 0.0, 0.0], [50_000.0, 0.0, 0.0]])
    truth_m = np.array([[20_000.0, 40_000.0]])
    arrival = np.linalg.norm(truth_m[:, None] - receivers[None, :, :2], axis=-1) / C
    fixes = solve(posed(arrival, 1e-6, receivers=receivers), origin_deg=ORIGIN)
    assert fixes.ambiguous_N.tolist() == [True]
    np.testing.assert_allclose(np.abs(fixes.position_m_NE), np.abs(truth_m), atol=300)
