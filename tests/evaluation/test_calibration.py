"""Coverage of elliptical regions against SciPy, sampling and the binomial law."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import mahalanobis
from scipy.stats import binom, bootstrap, chi2

from heimdall_jax.errors import DataError
from heimdall_jax.evaluation import calibration
from heimdall_jax.evaluation.calibration import (
    PROBABILITIES,
    bootstrap_interval,
    chunks,
    coverage,
    fit_recalibration,
    inside_region,
    median_interval,
    squared_mahalanobis,
)


def covariances(count: int, seed: int = 0) -> np.ndarray:
    factor = np.random.default_rng(seed).normal(0, 300, (count, 2, 2))
    return factor @ factor.transpose(0, 2, 1) + 100 * np.eye(2)


def test_squared_distance_is_scipys():
    error_m, covariance = np.random.default_rng(1).normal(0, 500, (20, 2)), covariances(20)
    expected = [mahalanobis(e, [0, 0], np.linalg.inv(c)) ** 2 for e, c in zip(error_m, covariance, strict=True)]
    np.testing.assert_allclose(squared_mahalanobis(error_m, covariance), expected, rtol=1e-9)


@pytest.mark.parametrize("probability", PROBABILITIES)
def test_the_regions_edge_is_scipys_chi_square_quantile(probability):
    edge = chi2.ppf(probability, 2)
    assert inside_region(np.array([edge * (1 - 1e-9), edge * (1 + 1e-9)]), probability).tolist() == [True, False]


def test_draws_from_the_predicted_density_are_covered_as_promised():
    """10,000 draws: each share within four binomial standard deviations of its probability."""
    covariance = covariances(10_000)
    draws = np.random.default_rng(2).normal(size=(10_000, 2))
    error_m = np.einsum("nij,nj->ni", np.linalg.cholesky(covariance), draws)
    for name, share in coverage(squared_mahalanobis(error_m, covariance)).items():
        assert abs(share - float(name)) < 4 * binom.std(10_000, float(name)) / 10_000
    assert list(coverage(np.ones(3))) == ["0.5", "0.68", "0.9", "0.95"]  # design.md, Contracts


@pytest.mark.parametrize(
    "bad",
    [
        [[1.0, 0.0], [0.0, -1.0]],
        [[1.0, 2.0], [2.0, 1.0]],
        [[1.0, 0.5], [0.0, 1.0]],
        [[np.nan, 0.0], [0.0, 1.0]],
        [[0.0, 0.0], [0.0, 0.0]],
    ],
)
def test_what_is_no_covariance_is_refused(bad):
    with pytest.raises(DataError, match=r"1 of 3 that are not.* at 1"):
        squared_mahalanobis(np.zeros((3, 2)), np.stack([np.eye(2), np.array(bad), np.eye(2)]))


def test_chunks_are_five_minutes_of_the_clock():
    assert chunks(np.array([0.0, 299.9, 300.0, 1_650_896_100.0])).tolist() == [0, 0, 1, 5_502_987]


def test_interval_of_independent_fixes_is_the_binomial_one():
    """Oracle: scipy.stats.binom quantiles for 680 of 1,000, 0.651 to 0.708; 0.004 is the bootstrap's own noise."""
    inside = np.arange(1000) < 680
    low, high = bootstrap_interval(inside)
    assert low == pytest.approx(binom.ppf(0.025, 1000, 0.68) / 1000, abs=0.004)
    assert high == pytest.approx(binom.ppf(0.975, 1000, 0.68) / 1000, abs=0.004)


def test_neighbours_that_agree_widen_the_interval():
    """Groups of 25 that agree are one observation each: the width grows by 5, the square root of 25."""
    alone = np.random.default_rng(0).random(100) < 0.68
    repeated, group = np.repeat(alone, 25), np.repeat(np.arange(100), 25)
    narrow, wide = bootstrap_interval(repeated), bootstrap_interval(repeated, group)
    assert (wide[1] - wide[0]) / (narrow[1] - narrow[0]) == pytest.approx(5, rel=0.1)


@pytest.mark.parametrize("count", [40, 301])
def test_the_medians_interval_is_scipys(count):
    """Oracle: scipy.stats.bootstrap of np.median, percentile method; a twentieth of the width is both draws' noise."""
    values = np.random.default_rng(5).lognormal(5, 1, count)
    low, high = median_interval(values)
    expected = bootstrap((values,), np.median, n_resamples=20_000, method="percentile", rng=0).confidence_interval
    np.testing.assert_allclose((low, high), expected, atol=0.05 * (expected.high - expected.low))


def test_the_median_of_drawn_groups_is_numpys_of_their_copies(monkeypatch):
    values, group = np.random.default_rng(2).normal(size=23), np.arange(23) % 5
    drawn = np.random.default_rng(9).multinomial(5, np.full(5, 0.2), calibration.DRAWS)
    medians = [np.median(np.repeat(values, times[group])) for times in drawn]
    monkeypatch.setattr(calibration, "AT_ONCE", 100)
    assert median_interval(values, group, seed=9) == pytest.approx(np.quantile(medians, (0.025, 0.975)), rel=1e-12)


def test_one_group_says_nothing_of_spread():
    assert bootstrap_interval(np.array([True, False]), np.array([7, 7])) is None
    assert median_interval(np.array([1.0, 2.0]), np.array([7, 7])) is None


@settings(deadline=None, max_examples=20)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=2, max_size=40), st.integers(0, 3))
def test_interval_lies_in_the_unit_interval_and_repeats(rows, seed):
    inside, group = np.array([r[0] for r in rows]), np.array([r[1] for r in rows])
    interval = bootstrap_interval(inside, group, seed=seed)
    assert interval == bootstrap_interval(inside, group, seed=seed)
    assert interval is None or 0 <= interval[0] <= interval[1] <= 1


def heavy_tailed(count, seed):
    """Squared distances, spreads and numbers of receivers; sigma is 60 % too small at 1 m and with 3 receivers."""
    rng = np.random.default_rng(seed)
    spread_m, receivers = 10 ** rng.uniform(0, 4, count), rng.integers(3, 8, count)
    wrong = 1.6 ** ((4 - np.log10(spread_m)) / 4) * 1.6 ** ((7 - receivers) / 4)
    return rng.chisquare(2, count) * wrong**2, spread_m, receivers


def recalibrated(coefficients, squared, spread_m, receivers):
    """By the module's own docstring."""
    level, by_spread, by_count, low, high, fewest, most = coefficients
    spread, count = np.clip(np.log(spread_m), low, high), np.clip(receivers, fewest, most)
    return squared * np.exp(-2 * (level + by_spread * spread + by_count * count))


@pytest.mark.parametrize(("count", "tolerance"), [(10_000, 0.02), (1000, 0.07)])
def test_recalibrated_regions_hold_68_percent_at_every_spread_and_count(count, tolerance):
    coefficients = fit_recalibration(*heavy_tailed(count, 0), slopes=True)
    squared, spread_m, receivers = heavy_tailed(100_000, 1)
    after = inside_region(recalibrated(coefficients, squared, spread_m, receivers), 0.68)
    for group in (spread_m < 10, spread_m > 1000, receivers == 3, receivers == 7):
        assert after[group].mean() == pytest.approx(0.68, abs=tolerance)


@pytest.mark.parametrize(("count", "slopes"), [(900, True), (2000, False)])
def test_few_rows_or_neighbours_give_one_factor(count, slopes):
    rows = heavy_tailed(count, 0)
    coefficients = fit_recalibration(*rows, slopes=slopes)
    assert coefficients[1:3] == [0.0, 0.0]
    assert inside_region(recalibrated(coefficients, *rows), 0.68).mean() == pytest.approx(0.68, abs=0.002)


def test_regions_hold_enough_in_every_part_left_out():
    """Errors of the second part are twice as large as those of the first; on average 68 % would be 54 % of these."""
    rng = np.random.default_rng(0)
    part = np.repeat([0, 1], 2000)
    squared = rng.chisquare(2, 4000) * np.where(part == 1, 4.0, 1.0)
    rows = squared, np.full(4000, 10.0), np.full(4000, 7)
    together, apart = (fit_recalibration(*rows, slopes=False, part=which) for which in (None, part))
    held = [inside_region(recalibrated(found, *rows), 0.68)[part == 1].mean() for found in (together, apart)]
    assert held[0] < 0.6
    assert held[1] == pytest.approx(0.68, abs=0.001)


def test_what_validation_hardly_had_is_not_extrapolated_to():
    """Of 2,000 rows ten are of six receivers, whose sigma is ten times too small, the others of seven."""
    rng = np.random.default_rng(0)
    squared, receivers = rng.chisquare(2, 2000), np.full(2000, 7)
    squared[:10], receivers[:10] = 100 * squared[:10], 6
    coefficients = fit_recalibration(squared, rng.uniform(10, 20, 2000), receivers, slopes=True)
    assert coefficients[5:] == [7.0, 7.0]


def test_a_surer_fix_stays_surer():
    """Errors that do not depend on what the network says of them would be a slope of -1."""
    spread_m = np.geomspace(1, 1e4, 1000)
    squared = np.random.default_rng(0).chisquare(2, 1000) / spread_m**2
    assert fit_recalibration(squared, spread_m, np.full(1000, 7), slopes=True)[1] == -0.5
