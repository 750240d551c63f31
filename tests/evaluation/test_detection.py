"""The area under the ROC curve against scikit-learn and by hand; its interval against its own claim."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from heimdall_jax.errors import DataError
from heimdall_jax.evaluation.detection import detection

scores = st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=30).map(np.array)


def test_by_hand():
    # Pairs in order: 3 beats 1 and 2, ties with 3; 2 beats 1, ties with 2: 2.5 + 1.5 of 6.
    result = detection(np.array([3.0, 2.0]), np.array([1.0, 2.0, 3.0]))
    assert result.auroc == pytest.approx(4 / 6)
    assert (result.detected, result.usual) == (2, 3)


@settings(max_examples=50, deadline=None)
@given(scores, scores, st.integers(1, 7))
def test_equals_scikit_learn_whatever_the_groups(detected, usual, groups):
    expected = roc_auc_score(np.r_[np.ones(len(detected)), np.zeros(len(usual))], np.r_[detected, usual])
    grouped = detection(detected, usual, np.arange(len(detected)) % groups, np.arange(len(usual)) % groups)
    assert grouped.auroc == pytest.approx(expected)
    assert detection(detected, usual).auroc == pytest.approx(expected)


def test_interval_of_single_recordings_is_that_of_the_normal_theory():
    rng = np.random.default_rng(0)
    n = 400
    result = detection(rng.normal(1.0, 1.0, n), rng.normal(0.0, 1.0, n))
    # Standard error by Hanley and McNeil 1982, from the area itself.
    area = result.auroc
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    error = np.sqrt((area * (1 - area) + (n - 1) * (q1 - area**2) + (n - 1) * (q2 - area**2)) / n**2)
    np.testing.assert_allclose(result.interval, [area - 1.96 * error, area + 1.96 * error], atol=0.006)


def test_neighbours_that_repeat_widen_the_interval():
    rng = np.random.default_rng(1)
    detected, usual = rng.normal(1.0, 1.0, 20), rng.normal(0.0, 1.0, 20)
    alone = detection(detected, usual)
    group = np.repeat(np.arange(20), 25)
    together = detection(np.repeat(detected, 25), np.repeat(usual, 25), group, group + 20)
    pretended = detection(np.repeat(detected, 25), np.repeat(usual, 25))
    assert alone.interval is not None
    assert together.interval is not None
    assert pretended.interval is not None
    # Copies say nothing new: the interval is that of the twenty.
    np.testing.assert_allclose(together.interval, alone.interval, atol=1e-12)
    assert np.ptp(pretended.interval) < 0.4 * np.ptp(together.interval)


def test_interval_holds_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(2)
    truth = 0.7602  # Phi(1 / sqrt 2): normal scores one standard deviation apart
    inside = 0
    for _ in range(100):
        detected_group, usual_group = np.arange(120) // 4, 30 + np.arange(120) // 4
        shared = rng.normal(0, np.sqrt(0.5), 60)
        detected = 1.0 + shared[detected_group] + rng.normal(0, np.sqrt(0.5), 120)
        usual = shared[usual_group] + rng.normal(0, np.sqrt(0.5), 120)
        low, high = detection(detected, usual, detected_group, usual_group).interval or (0.0, 0.0)
        inside += low <= truth <= high
    assert 88 <= inside <= 99  # 95 expected; binomial 99 % range is 89 to 100


def test_one_group_says_nothing_of_its_spread():
    result = detection(np.array([1.0, 2.0]), np.array([0.0, 1.0]), np.zeros(2), np.array([0.0, 1.0]))
    assert result.interval is None
    assert result.auroc == pytest.approx(3.5 / 4)


def test_the_same_seed_gives_the_same_interval():
    rng = np.random.default_rng(3)
    detected, usual = rng.normal(1.0, 1.0, 30), rng.normal(0.0, 1.0, 30)
    assert detection(detected, usual, seed=4) == detection(detected, usual, seed=4)
    assert detection(detected, usual, seed=4) != detection(detected, usual, seed=5)


@pytest.mark.parametrize(
    ("detected", "usual", "groups", "message"),
    [
        ([], [1.0], None, r"recordings to be detected: got 0 NaN of 0"),
        ([1.0], [np.nan, 1.0], None, r"usual recordings: got 1 NaN of 2"),
        ([1.0], [1.0], [0], r"groups of one kind only.*both, or neither"),
    ],
)
def test_what_cannot_be_judged(detected, usual, groups, message):
    with pytest.raises(DataError, match=message):
        detection(
            np.array(detected, np.float64),
            np.array(usual, np.float64),
            None if groups is None else np.array(groups),
        )
