"""Scores of two transmitters and of none, on a made-up campus where every receiver has a law and a field of its own."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from heimdall_jax.errors import DataError
from heimdall_jax.evaluation.not_one import ABSENT_DB, Powers, features, floors_db, learn_not_one, summed, together

FLOOR_DB, SIDE_M = -95.0, 2000.0
RECEIVERS = 8
FLOORS_DB = np.full(RECEIVERS, FLOOR_DB)


def heard_of(places_m, seed, start_s=0.0):
    """Readings of transmitters at the places (N, X, 2), their watts added over one floor, a recording each minute."""
    world, rng = np.random.default_rng(0), np.random.default_rng(seed)
    stand_m, phase = world.uniform(0, SIDE_M, (RECEIVERS, 2)), world.uniform(0, 2 * np.pi, RECEIVERS)
    wave = world.normal(0, 2 / SIDE_M, (RECEIVERS, 2))
    away_m = np.hypot(np.linalg.norm(places_m[:, :, None] - stand_m, axis=-1), 30)
    sent_db = -60 - 30 * np.log10(away_m / 300) + 5 * np.sin(phase + 2 * np.pi * places_m @ wave.T)
    rss_db = 10 * np.log10((10 ** (sent_db / 10)).sum(axis=1) + 10 ** (FLOOR_DB / 10))
    rss_db += rng.normal(0, 2, rss_db.shape) + rng.normal(0, 1, (len(rss_db), 1))
    return Powers(rss_db, np.ones(rss_db.shape, bool), start_s + 60.0 * np.arange(len(rss_db)))


def recordings(transmitters, seed, count=300):
    return heard_of(np.random.default_rng(seed).uniform(0, SIDE_M, (count, transmitters, 2)), seed)


SINGLES = recordings(1, 1)


@pytest.fixture(scope="module")
def judge():
    return learn_not_one(SINGLES, FLOORS_DB)


@pytest.fixture(scope="module")
def judged(judge):
    return {count: judge(recordings(count, 10 + count)) for count in (0, 1, 2)}


def area(detected, usual):
    return roc_auc_score(np.r_[np.ones(len(detected)), np.zeros(len(usual))], np.r_[detected, usual])


def test_two_and_none_score_higher_than_one(judged):
    assert area(judged[2].two_N, judged[1].two_N) > 0.85
    assert area(judged[0].none_N, judged[1].none_N) > 0.99
    assert area(judged[2].either_N, judged[1].either_N) > 0.85
    assert area(judged[0].either_N, judged[1].either_N) > 0.9


def test_either_score_is_for_its_own_kind(judged):
    assert area(judged[2].none_N, judged[1].none_N) < 0.5
    assert np.median(judged[0].two_N) < np.median(judged[2].two_N)


def test_who_was_learned_from_counts():
    """What tells two from one is a pattern over receivers: with each one's readings mixed up there is less of it."""
    rng = np.random.default_rng(2)
    mixed = Powers(rng.permuted(SINGLES.rss_db_NF, axis=0), SINGLES.heard_NF, SINGLES.start_time_s_N)
    judges = [learn_not_one(singles, FLOORS_DB) for singles in (SINGLES, mixed)]
    areas = [area(*(judge(recordings(count, 20 + count)).two_N for count in (2, 1))) for judge in judges]
    assert areas[0] > areas[1] + 0.05


def test_sums_are_of_one_day_and_kind_and_of_different_chunks():
    rng = np.random.default_rng(3)
    start_time_s = np.sort(rng.uniform(0, 3 * 86_400, 200))
    heard = np.where(rng.uniform(size=(200, 1)) < 0.5, [[True] * 4], [[True, True, True, False]])
    rss_db = np.arange(200.0)[:, None] + np.array([0.0, 0.25, 0.5, 0.75])  # numbers that say whose they are
    floor_db = np.full(4, -200.0)
    sums = summed(Powers(rss_db, heard, start_time_s), floor_db)
    first = np.searchsorted(start_time_s, sums.start_time_s_N)
    np.testing.assert_array_equal(sums.heard_NF, heard[first])
    watts = 10 ** (sums.rss_db_NF[:, 0] / 10) + 10**-20.0 - 10 ** (rss_db[first, 0] / 10)
    near = np.abs(10 * np.log10(watts)[:, None] - np.arange(200)).argmin(axis=1)
    clear = near > first - 60  # else the second one is lost in the first one's last digits
    assert clear.sum() > 100
    assert np.all(start_time_s[near[clear]] // 300 != start_time_s[first[clear]] // 300)
    assert np.all(start_time_s[near[clear]] // 86_400 == start_time_s[first[clear]] // 86_400)
    np.testing.assert_array_equal(heard[near[clear]], heard[first[clear]])


def test_a_sum_adds_what_is_over_the_floor():
    """Two signals in watts less one floor; one signal with noise is that signal; of two noises the first is taken."""
    rss_db = np.array([[-80.0, -80.0, -95.0, -96.0], [-80.0, -95.0, -70.0, -94.0]])
    sums = summed(Powers(rss_db, np.ones((2, 4), bool), np.array([0.0, 600.0])), np.full(4, FLOOR_DB))
    assert set(sums.start_time_s_N) == {0.0, 600.0}
    added_db = 10 * np.log10(2 * 10**-8.0 - 10**-9.5)
    for start_s, noise_db in ((0.0, -96.0), (600.0, -94.0)):
        found = sums[sums.start_time_s_N == start_s].rss_db_NF
        np.testing.assert_allclose(found, np.tile([added_db, -80.0, -70.0, noise_db], (len(found), 1)))


def test_features_are_powers_over_floors_their_order_and_differences():
    powers = Powers(np.array([[-90.0, -70.0, 0.0]]), np.array([[True, True, False]]), np.zeros(1))
    over = [5.0, 20.0, ABSENT_DB]
    largest = [20.0, 5.0, ABSENT_DB]
    expected = [*over, *largest, 0.0, -15.0, ABSENT_DB - 20, -15.0, ABSENT_DB, ABSENT_DB]
    np.testing.assert_array_equal(features(powers, np.array([-95.0, -90.0, -95.0])), [expected])


def test_what_was_not_heard_changes_nothing(judge):
    some = recordings(2, 30, count=5)
    heard = np.tile(np.arange(RECEIVERS) < 6, (5, 1))
    loud = np.where(heard, some.rss_db_NF, 40.0)
    quiet = np.where(heard, some.rss_db_NF, 0.0)
    one, other = (judge(Powers(rss_db, heard, some.start_time_s_N)) for rss_db in (loud, quiet))
    np.testing.assert_array_equal(one.two_N, other.two_N)
    np.testing.assert_array_equal(one.none_N, other.none_N)


def test_none_is_the_third_largest_excess(judge):
    """9, 5 and 2 dB over the floor: 7.006 - 1.826 x 2."""
    over_db = np.array([[9.0, 0.5, 2.0, 5.0, 1.0, 0.0, 0.0, 0.0]])
    powers = Powers(FLOOR_DB + over_db, np.ones(over_db.shape, bool), np.zeros(1))
    assert judge(powers).none_N[0] == pytest.approx(7.006 - 1.826 * 2)


def test_together_is_the_mean_within_a_minute_in_any_order():
    start_time_s = np.array([500.0, 0.0, 60.0, 120.5, 61.0])
    log_odds = np.array([8.0, 1.0, 2.0, 4.0, 3.0])
    np.testing.assert_allclose(together(log_odds, start_time_s), [8.0, 1.5, 2.0, 3.5, 3.0])
    assert together(np.zeros(0), np.zeros(0)).shape == (0,)


def test_no_recordings_have_no_odds(judge):
    assert judge(SINGLES[:0]).either_N.shape == (0,)


def test_floors_are_low_percentiles_of_who_heard_often():
    rss_db = np.tile(np.arange(101.0)[:, None], (1, 2)) - 90
    heard = np.ones((101, 2), bool)
    heard[19:, 1] = False
    np.testing.assert_array_equal(floors_db(Powers(rss_db, heard, np.zeros(101))), [-87.0, np.nan])


def test_parts_are_joined_and_receivers_picked():
    some = Powers.joined([SINGLES[:2], SINGLES[5:6]]).of(np.arange(RECEIVERS) == 3)
    np.testing.assert_array_equal(some.rss_db_NF, SINGLES.rss_db_NF[[0, 1, 5], 3:4])
    np.testing.assert_array_equal(some.start_time_s_N, [0.0, 60.0, 300.0])


def test_recordings_that_cannot_be_judged_are_refused(judge):
    heard = np.array([[True] * RECEIVERS, [True] * 2 + [False] * (RECEIVERS - 2)])
    with pytest.raises(DataError, match="1 of 2 heard by fewer"):
        judge(Powers(np.zeros((2, RECEIVERS)), heard, np.zeros(2)))


def test_recordings_of_one_chunk_cannot_be_summed():
    with pytest.raises(DataError, match="no two of a day"):
        learn_not_one(SINGLES[:5], FLOORS_DB)
