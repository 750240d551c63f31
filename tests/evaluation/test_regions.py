"""Regions and what they say to trust, against SciPy, geodesy's own ellipses, and numbers by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi, multivariate_normal

from heimdall_jax.evaluation.calibration import PROBABILITIES
from heimdall_jax.evaluation.regions import (
    LEAST_SIGMA_M,
    area_m2,
    doubt,
    doubt_above_m,
    isotropic_region,
    isotropic_sigma_m,
    risk,
    risk_of_order,
)
from heimdall_jax.evaluation.summary import summarize
from heimdall_jax.geodesy import error_ellipse

EXACT = np.zeros(1000)


@settings(max_examples=30, deadline=None)
@given(st.floats(1, 1e4), st.floats(1, 100), st.floats(0, 3.2))
def test_the_area_is_that_of_the_ellipse(size_m, ratio, turn):
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    covariance_m2 = rotation @ np.diag([size_m**2, (size_m / ratio) ** 2]) @ rotation.T
    covariance_m2 = (covariance_m2 + covariance_m2.T) / 2
    ellipse = error_ellipse(covariance_m2, 0.68)
    expected = np.pi * ellipse.semi_major_m * ellipse.semi_minor_m
    assert area_m2(covariance_m2[None])[0] == pytest.approx(expected, rel=1e-6)


def test_the_most_confident_fixes_are_those_with_the_smallest_radius():
    """By hand: sigmas 1 to 4 m in another order than the errors; a long thin region is not a sure one."""
    sigma_m = np.array([3.0, 1.0, 4.0, 2.0])
    covariance_m2 = sigma_m[:, None, None] ** 2 * np.eye(2)
    got = risk(np.array([30.0, 10.0, 80.0, 20.0]), covariance_m2)
    assert got == pytest.approx({"1": 35.0, "0.9": 35.0, "0.75": 20.0, "0.5": 15.0, "0.25": 10.0})
    needle_and_disc = np.array([np.diag([100.0**2, 0.01**2]), 20.0**2 * np.eye(2)])
    assert area_m2(needle_and_disc)[0] < area_m2(needle_and_disc)[1]
    assert risk(np.array([5.0, 1.0]), needle_and_disc)["0.5"] == 1.0


def test_at_least_one_fix_is_kept():
    assert risk_of_order(np.array([4.0, 2.0]), np.array([1, 0]), (0.01, 1.0)) == {"0.01": 2.0, "1": 3.0}


def test_fixes_less_sure_than_those_left_out_are_doubted():
    """By hand: of sigmas 1 to 101 m, 95 % are up to 96 m; a radius holds 1.51 sigmas."""
    above_m = doubt_above_m(np.arange(1.0, 102.0)[:, None, None] ** 2 * np.eye(2))
    assert above_m == pytest.approx(96 * chi(2).ppf(0.68))
    three = np.array([95.0, 10.0, 97.0])[:, None, None] ** 2 * np.eye(2)
    got = doubt(np.array([5.0, 7.0, 300.0]), three, above_m)
    assert got == pytest.approx({"above_m": above_m, "share": 1 / 3, "doubted_m": 300.0, "kept_m": 6.0})
    assert "doubted_m" not in doubt(np.array([5.0]), three[1:2], above_m)


def test_the_likeliest_sigma_is_the_root_of_half_the_mean_square():
    error_m = np.random.default_rng(0).rayleigh(150.0, 1000)
    assert isotropic_sigma_m(error_m, EXACT) == pytest.approx(np.sqrt(np.mean(error_m**2) / 2), rel=1e-5)
    assert isotropic_sigma_m(error_m, EXACT + 30.0) == pytest.approx(
        np.sqrt(np.mean(error_m**2) / 2 - 30.0**2), rel=1e-5
    )


def test_truths_that_scatter_differently_are_told_apart():
    """Oracle: the sigma that the draws were made with, 100 m; half the truths scatter by 300 m besides."""
    rng = np.random.default_rng(1)
    scatter_m = np.repeat([0.0, 300.0], 20_000)
    error_m = rng.rayleigh(np.hypot(100.0, scatter_m))
    assert isotropic_sigma_m(error_m, scatter_m) == pytest.approx(100.0, rel=0.02)
    assert isotropic_sigma_m(error_m, np.zeros(40_000)) > 200


def test_an_estimator_without_errors_keeps_a_finite_region():
    assert isotropic_sigma_m(np.zeros(5), np.zeros(5)) == pytest.approx(LEAST_SIGMA_M, rel=1e-4)


def test_a_baselines_region_is_scipys_gaussian_and_a_models_of_that_covariance():
    rng = np.random.default_rng(2)
    offset_m, scatter_m = rng.normal(0, 120.0, (1000, 2)), np.full(1000, 20.0)
    error_m = np.linalg.norm(offset_m, axis=1)
    got = isotropic_region(error_m, scatter_m, 100.0)
    expected = -multivariate_normal(cov=(100.0**2 + 20.0**2) * np.eye(2)).logpdf(offset_m).mean()
    assert got["nll_nats_per_fix"] == pytest.approx(expected, rel=1e-12)
    assert got["coverage"]["0.68"] == np.mean(error_m <= 100 * chi(2).ppf(0.68))
    assert got["region_area_m2"] == pytest.approx(np.pi * (100 * chi(2).ppf(0.68)) ** 2)
    covariance_m2 = np.tile(100.0**2 * np.eye(2), (1000, 1, 1))
    metrics = summarize(
        np.zeros((1000, 2)),
        covariance_m2,
        offset_m,
        origin_deg=(45.0, 8.0),
        dataset="d",
        split="s",
        truth_error_m=scatter_m,
    )
    for key in ("nll_nats_per_fix", "region_area_m2"):
        assert got[key] == pytest.approx(metrics[key], rel=1e-9)
    assert got["coverage"] == metrics["coverage"]
    assert list(got["coverage"]) == [f"{p:g}" for p in PROBABILITIES]
    assert metrics["risk_coverage"]["1"] == pytest.approx(metrics["error_m"]["mean"])
