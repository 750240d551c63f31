"""Cramér-Rao bounds against the maximum-likelihood estimator, finite differences, Stein, Whittle, and a table.

Oracles use pymap3d's geometry; the table is physics.md's (median over the box, and what 10 and 90 % of fixes have).
"""

import numpy as np
import pymap3d
import pytest

from heimdall_jax.errors import DataError
from heimdall_jax.evaluation.bounds import covariance_from_information, pooled_r68
from heimdall_jax.evaluation.cramer_rao import (
    power_information,
    shadowing_covariance_db2,
    timing_information,
    timing_variance_s2,
)
from heimdall_jax.geodesy import degrees_to_enu, degrees_to_local
from heimdall_jax.simulation.stations import SEVEN_STATIONS

DEG = np.array([(s.latitude_deg, s.longitude_deg) for s in SEVEN_STATIONS])
ALTITUDE = np.array([s.altitude_m for s in SEVEN_STATIONS])
ORIGIN = (float(DEG[:, 0].min() + DEG[:, 0].max()) / 2, float(DEG[:, 1].min() + DEG[:, 1].max()) / 2)
RECEIVERS = degrees_to_enu(DEG, ALTITUDE, ORIGIN)
TRUTH_DEG = np.array([44.9, 8.4])
TRUTH_M = degrees_to_local(TRUTH_DEG, ORIGIN)
C = 299_792_458.0


def distance(place_deg):
    """Distance (N, R) in space of ground points (N, 2) in degrees."""
    here = np.stack(pymap3d.geodetic2ecef(place_deg[:, 0], place_deg[:, 1], 0.0), axis=-1)
    there = np.stack(pymap3d.geodetic2ecef(DEG[:, 0], DEG[:, 1], ALTITUDE), axis=-1)
    return np.linalg.norm(here[:, None] - there, axis=-1)


def times(place_deg):
    return distance(place_deg) / C


def powers(place_deg):
    return -30 * np.log10(distance(place_deg) / 1000)


def local(place_deg):
    return np.stack(pymap3d.geodetic2enu(place_deg[:, 0], place_deg[:, 1], 0.0, *ORIGIN, 0.0)[:2], axis=-1)


def jacobian(model, place_deg):
    """Change (N, R, 2) of the model by metre east and north, by central differences in degrees."""
    step = 1e-5
    columns, places = [], []
    for axis in np.eye(2) * step:
        columns.append((model(place_deg + axis) - model(place_deg - axis)) / (2 * step))
        places.append((local(place_deg + axis) - local(place_deg - axis)) / (2 * step))
    return np.stack(columns, axis=-1) @ np.linalg.inv(np.stack(places, axis=-1))


def full_information(model, precision, power_precision):
    """Of (east, north, nuisance) at the truth: J^T S^-1 J, and what is known of the nuisance beforehand."""
    full = np.concatenate([jacobian(model, TRUTH_DEG[None])[0], np.ones((7, 1))], axis=1)
    return full.T @ precision @ full + np.diag([0.0, 0.0, power_precision])


def likeliest(model, observed, precision, power_precision=0.0):
    """The maximum-likelihood places (N, 2) in metres: Gauss-Newton over degrees and the nuisance, from the truth."""
    place_deg, nuisance = np.tile(TRUTH_DEG, (len(observed), 1)), np.zeros(len(observed))
    for _ in range(6):
        slope = np.concatenate([jacobian(model, place_deg), np.ones((*observed.shape, 1))], axis=-1)
        rest = observed - model(place_deg) - nuisance[:, None]
        normal = np.swapaxes(slope, 1, 2) @ precision @ slope + np.diag([0.0, 0.0, power_precision])
        right = np.swapaxes(slope, 1, 2) @ precision @ rest[..., None]
        right[:, 2, 0] -= power_precision * nuisance
        step = np.linalg.solve(normal, right)[..., 0]
        per_degree = 111_000 * np.array([1.0, np.cos(np.deg2rad(44.9))])
        place_deg, nuisance = place_deg + step[:, 1::-1] / per_degree, nuisance + step[:, 2]
    return local(place_deg)


def bounds(information):
    return covariance_from_information(information)[0]


def one_timing(sigma_s):
    return timing_information(TRUTH_M[None], RECEIVERS, np.tile(sigma_s**2, (1, 1)), origin_deg=ORIGIN)


def one_power(covariance, std, heard=None):
    heard = np.ones((1, 7), bool) if heard is None else heard
    arguments = {"exponent": 3.0, "covariance_db2_RR": covariance, "power_std_db": std, "origin_deg": ORIGIN}
    return power_information(TRUTH_M[None], RECEIVERS, heard, **arguments)


SIGMAS = np.array([50e-9, 70e-9, 50e-9, 1e-6, 91e-9, 50e-9, 200e-9])
CORRELATED = shadowing_covariance_db2(RECEIVERS, shadowing_db=6.0, correlation_m=20_000.0, independent_db=2.0)


def test_times_reach_the_bound_at_maximum_likelihood():
    """20,000 draws: a variance's own standard error is 1 %; four of them."""
    rng = np.random.default_rng(0)
    observed = times(TRUTH_DEG[None]) + SIGMAS * rng.normal(size=(20_000, 7)) + rng.normal(size=(20_000, 1)) * 1e-3
    got = np.cov(likeliest(times, observed, np.diag(SIGMAS**-2.0)).T)
    expected = bounds(one_timing(SIGMAS))
    np.testing.assert_allclose(np.diag(got), np.diag(expected), rtol=0.04)
    assert got[0, 1] == pytest.approx(expected[0, 1], abs=0.04 * np.sqrt(got[0, 0] * got[1, 1]))


@pytest.mark.parametrize("std", [np.inf, 0.01, 0.0])
def test_powers_reach_the_bound_at_maximum_likelihood(std):
    """Shadowing of 6 dB scaled down to 0.06, where the estimator is efficient; the bound scales along."""
    rng, small = np.random.default_rng(1), CORRELATED * 1e-4
    sent = rng.normal(size=(20_000, 1)) * (5.0 if std == np.inf else std)
    shadowing = rng.normal(size=(20_000, 7)) @ np.linalg.cholesky(small).T
    observed = powers(TRUTH_DEG[None]) + sent + shadowing
    known = {np.inf: 0.0, 0.0: 1e12}.get(std, std**-2.0 if std else 0.0)
    got = np.cov(likeliest(powers, observed, np.linalg.inv(small), known).T)
    np.testing.assert_allclose(np.diag(got), np.diag(bounds(one_power(small, std))), rtol=0.04)


def test_information_is_the_inverse_block_of_the_full_one():
    full = full_information(times, np.diag(SIGMAS**-2.0), 0.0)
    np.testing.assert_allclose(
        bounds(one_timing(SIGMAS)), np.linalg.inv(full / np.outer(*2 * [[1, 1, 1e9]]))[:2, :2], rtol=1e-5
    )
    for std in (np.inf, 4.9):
        full = full_information(powers, np.linalg.inv(CORRELATED), std**-2.0)
        np.testing.assert_allclose(bounds(one_power(CORRELATED, std)), np.linalg.inv(full)[:2, :2], rtol=1e-5)
    known = full_information(powers, np.linalg.inv(CORRELATED), 0.0)[:2, :2]
    np.testing.assert_allclose(one_power(CORRELATED, 0.0)[0], known, rtol=1e-5)


def test_a_receiver_that_did_not_hear_is_as_if_it_were_not_there():
    heard = np.array([[True, True, False, True, True, False, True]])
    left = np.flatnonzero(heard[0])
    arguments = {"exponent": 3.0, "power_std_db": np.inf, "origin_deg": ORIGIN}
    fewer = power_information(
        TRUTH_M[None],
        RECEIVERS[left],
        np.ones((1, 5), bool),
        covariance_db2_RR=CORRELATED[np.ix_(left, left)],
        **arguments,
    )
    np.testing.assert_allclose(one_power(CORRELATED, np.inf, heard), fewer, rtol=1e-9)
    masked = np.where(heard, SIGMAS, np.inf)
    fewer = timing_information(TRUTH_M[None], RECEIVERS[left], SIGMAS[left][None] ** 2, origin_deg=ORIGIN)
    np.testing.assert_allclose(one_timing(masked[0]), fewer, rtol=1e-9)


def test_more_knowledge_never_hurts():
    """Information with less knowledge taken away leaves no negative eigenvalue: a receiver more, and known power."""
    rng = np.random.default_rng(2)
    place_m, heard = rng.uniform(-60_000, 60_000, (200, 2)), rng.random((200, 7)) < 0.7
    more = heard | (np.arange(7) == rng.integers(0, 7, (200, 1)))

    def power(mask, std):
        arguments = {"exponent": 3.0, "covariance_db2_RR": CORRELATED, "power_std_db": std, "origin_deg": ORIGIN}
        return power_information(place_m, RECEIVERS, mask, **arguments)

    def timing(mask):
        return timing_information(place_m, RECEIVERS, np.where(mask, 1e-12, np.inf), origin_deg=ORIGIN)

    pairs = [
        (timing(more), timing(heard)),
        (power(more, np.inf), power(heard, np.inf)),
        (power(heard, 0.0), power(heard, 5.0)),
        (power(heard, 5.0), power(heard, np.inf)),
    ]
    for much, little in pairs:
        gain = np.linalg.eigvalsh(much - little)
        assert (gain > -1e-9 * np.abs(much).max(axis=(1, 2))[:, None]).all()
        assert gain.max() > 1e-3 * np.abs(much).max()


def arrival_variance(snr, **more):
    snr = np.asarray(snr, np.float64)[None]
    arguments = {"noise_bandwidth_hz": 12_000.0, "duration_s": 1.0, "clock_sigma_s_NR": np.zeros_like(snr)}
    arguments |= {"heard_NR": np.ones(snr.shape, bool)} | more
    return timing_variance_s2(snr, np.array([11_000 / 12**0.5]), **arguments)[0]


@pytest.mark.parametrize(("first", "second"), [(1.0, 1.0), (10.0, 1000.0), (0.1, 3.0)])
def test_two_receivers_are_steins(first, second):
    """Stein 1981: sigma = 1 / (pi sqrt(8) B_rms sqrt(B_n T g)), 1/g = 1/g1 + 1/g2 + 1/(g1 g2)."""
    snr = 1 / (1 / first + 1 / second + 1 / (first * second))
    stein = 1 / (np.pi * 8**0.5 * 11_000 / 12**0.5 * (12_000 * snr) ** 0.5)
    assert np.sqrt(arrival_variance([first, second]).sum()) == pytest.approx(stein, rel=1e-12)


@pytest.mark.parametrize(("db", "expected_ns"), [(0, 585), (10, 155), (20, 48), (30, 15)])
def test_two_receivers_at_the_levels_of_physics_md(db, expected_ns):
    """A flat 11 kHz signal, 1 s, in noise of 11 kHz."""
    both = arrival_variance([10 ** (db / 10)] * 2, noise_bandwidth_hz=11_000.0)
    assert np.sqrt(both.sum()) * 1e9 == pytest.approx(expected_ns, rel=0.02)


def test_many_receivers_are_whittles_information():
    """Full Fisher information of the delays from spectral covariances a a^H + I at every frequency, float64.

    A flat signal that fills the band: F_ij = sum_f tr(C^-1 dC/dt_i C^-1 dC/dt_j). Only differences are known, so
    variances of differences are compared.
    """
    snr, band, count = np.array([0.3, 2.0, 50.0, 7.0]), 1000.0, 1000
    frequency = (np.arange(count) + 0.5) / count * band - band / 2
    information = np.zeros((4, 4))
    amplitude = np.sqrt(snr)
    inverse = np.linalg.inv(np.outer(amplitude, amplitude) + np.eye(4))
    for f in frequency:
        slopes = []
        for i in range(4):
            by_i = np.zeros(4)
            by_i[i] = -2 * np.pi * f * amplitude[i]
            slopes.append(1j * (np.outer(by_i, amplitude) - np.outer(amplitude, by_i)))
        for i in range(4):
            for j in range(4):
                information[i, j] += np.trace(inverse @ slopes[i] @ inverse @ slopes[j]).real
    covariance = np.linalg.pinv(information, rcond=1e-9)
    variance = timing_variance_s2(
        snr[None],
        np.array([band / 12**0.5]),
        noise_bandwidth_hz=band,
        duration_s=count / band,
        clock_sigma_s_NR=np.zeros((1, 4)),
        heard_NR=np.ones((1, 4), bool),
    )[0]
    for i, j in [(0, 1), (0, 2), (1, 3), (2, 3)]:
        contrast = np.eye(4)[i] - np.eye(4)[j]
        assert variance[i] + variance[j] == pytest.approx(contrast @ covariance @ contrast, rel=1e-5)


def test_clocks_and_echoes_add_and_silence_is_infinite():
    snr, heard = [10.0, 10.0, 10.0], np.array([[True, True, False]])
    alone = arrival_variance([10.0, 10.0])
    clock, echo = np.array([[50e-9, 1e-6, np.inf]]), np.array([[0.0, 4e-12, np.nan]])
    got = arrival_variance(snr, heard_NR=heard, clock_sigma_s_NR=clock, extra_variance_s2_NR=echo)
    np.testing.assert_allclose(got[:2], np.add(alone, [2.5e-15, 1e-12 + 4e-12]), rtol=1e-12)
    assert got[2] == np.inf


def test_a_variance_of_zero_is_refused():
    with pytest.raises(DataError, match="arrival variances"):
        one_timing(np.zeros(7))


TABLE = [(50e-9, 17, 14, 29), (91e-9, 30, None, None), (1e-6, 333, None, None), (20e-6, 6600, None, None)]


@pytest.fixture(scope="module")
def box():
    return degrees_to_local(np.random.default_rng(3).uniform(DEG.min(axis=0), DEG.max(axis=0), (600, 2)), ORIGIN)


def spread(information):
    """Median, 10 and 90 % of every fix's own radius of 68 %."""
    rng = np.random.default_rng(4)
    each = [pooled_r68(one[None], rng, draws=1500) for one in covariance_from_information(information)]
    return np.quantile(each, (0.5, 0.1, 0.9))


@pytest.mark.parametrize(("sigma_s", "middle", "low", "high"), TABLE)
def test_the_table_of_physics_md_for_times(box, sigma_s, middle, low, high):
    got = spread(timing_information(box, RECEIVERS, np.full((600, 7), sigma_s**2), origin_deg=ORIGIN))
    assert got[0] == pytest.approx(middle, rel=0.04)
    if low is not None:
        np.testing.assert_allclose(got[1:], (low, high), rtol=0.08)


def test_the_table_of_physics_md_for_powers(box):
    """6 dB, exponent 3, unknown transmit power: 33 km (14-60)."""
    arguments = {"exponent": 3.0, "covariance_db2_RR": 36 * np.eye(7), "power_std_db": np.inf, "origin_deg": ORIGIN}
    got = spread(power_information(box, RECEIVERS, np.ones((600, 7), bool), **arguments))
    np.testing.assert_allclose(got, (33_000, 14_000, 60_000), rtol=0.1)
