"""Rows of fixes under one condition, on errors drawn from the very covariances that are claimed."""

import numpy as np
import pytest

from heimdall_jax.evaluation.conditions import Condition, by_clock, judge, ratio_interval, spoken_s, strong

COUNT = 4000


def condition(*, inflation: float = 1.0, seed: int = 0) -> Condition:
    """Errors whose standard deviations are `inflation` times the bound's; the predicted covariance is the errors'."""
    rng = np.random.default_rng(seed)
    factor = np.linalg.cholesky(np.array([[900.0, 300.0], [300.0, 400.0]])) * rng.uniform(0.5, 2.0, (COUNT, 1, 1))
    offset_m = inflation * np.einsum("nij,nj->ni", factor, rng.normal(size=(COUNT, 2)))
    bound_m2 = factor @ factor.swapaxes(1, 2)
    error_m = np.linalg.norm(offset_m, axis=1)
    return Condition(
        error_m_N=error_m,
        offset_m_NE=offset_m,
        covariance_m2_NEE=inflation**2 * bound_m2,
        bound_m2_NEE=bound_m2,
        others={"power_only": 1000 * error_m},
        truth_m_NE=rng.uniform(-1000, 1000, (COUNT, 2)),
        station_m_RE=np.array([[-1000.0, -1000.0], [1000.0, -1000.0], [1000.0, 1000.0]]),
    )


def test_an_estimator_at_the_bound_has_ratio_one_and_true_regions():
    row = judge(condition())
    assert row["n"] == COUNT
    assert row["ratio_interval"][0] < 1 < row["ratio_interval"][1]
    assert row["coverage_interval"][0] < 0.68 < row["coverage_interval"][1]
    assert row["error_m"]["power_only"]["p68"] == pytest.approx(1000 * row["error_m"]["fused"]["p68"])


def test_one_that_errs_half_as_much_again_has_ratio_one_and_a_half_and_regions_that_say_so():
    row = judge(condition(inflation=1.5))
    assert row["ratio_p68"] == pytest.approx(1.5, rel=0.05)
    assert row["ratio_interval"][0] < row["ratio_p68"] < row["ratio_interval"][1]
    assert row["coverage_68"] == pytest.approx(0.68, abs=0.03)


def test_half_of_the_square_lies_in_the_triangle_of_the_stations():
    """Places are uniform on the square of which the three stations are corners."""
    row = judge(condition())
    assert row["n_in_hull"] / COUNT == pytest.approx(0.5, abs=0.03)
    assert row["within_30_m_in_hull"] == pytest.approx(row["within_30_m"], abs=0.04)


def test_the_interval_of_a_ratio_holds_it_as_often_as_it_says():
    """95 % of intervals hold 1: of 40, 34 or more do with a probability of 98.6 % (binomial)."""
    held = 0
    for seed in range(40):
        drawn = condition(seed=seed)
        part = drawn.at(np.arange(COUNT) < 500)
        low, high = ratio_interval(part.error_m_N, part.bound_m2_NEE, seed=seed)
        held += low < 1 < high
    assert held >= 34


def test_rows_by_clock_count_every_fix_once():
    clock_s = np.full((COUNT, 3), 50e-9, np.float32)
    clock_s[:1000] = 1e-6
    clock_s[1000:1500, 0] = 20e-6
    usable = np.arange(COUNT) < 3900
    rows = {row["name"]: row["n"] for row in by_clock(condition(), clock_s, usable)}
    assert rows == {"clocks 50 ns": 2400, "clocks 1 us": 1000, "clocks mixed": 500, "times unusable": 100}


def test_strong_transmissions_are_those_that_four_receivers_heard_with_15_db():
    snr_db = np.full((3, 5), 15.0)
    snr_db[1, :2] = 14.9
    heard = np.ones((3, 5), bool)
    heard[2, :2] = False
    assert strong(snr_db, heard).tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(15e-9, "15 ns"), (1e-6, "1 us"), (2e-5, "20 us"), (1e-3, "1 ms"), (2.0, "2 s"), (0.0, "0 ns")],
)
def test_times_are_told_with_their_unit(seconds, text):
    assert spoken_s(seconds) == text
