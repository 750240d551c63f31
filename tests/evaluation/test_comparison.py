"""Paired differences: nothing between a model and itself, known shifts covered as often as promised, rows that pair."""

import numpy as np
import pytest
from evaluation.some_fixes import some_fixes
from rich.console import Console

from heimdall_jax.errors import DataError
from heimdall_jax.evaluation import comparison
from heimdall_jax.evaluation.comparison import (
    BETTER,
    UNTOLD,
    WORSE,
    compare,
    compare_all,
    comparison_table,
    median_difference_interval,
    verdict,
)
from heimdall_jax.geodesy import degrees_to_local, local_to_degrees

FIXES = some_fixes()


def test_a_model_is_no_different_from_itself():
    found = compare(FIXES, FIXES)
    assert found["n"] == 400
    for told in (*found["error_m"].values(), found["nll_nats_per_fix"]):
        assert told == {"difference": 0.0, "interval": [0.0, 0.0]}
    assert (found["better_share"], found["equal_share"], found["verdict"]) == (0.0, 1.0, UNTOLD)


def test_errors_that_are_all_smaller_are_better_and_the_other_way_round_worse():
    halved = some_fixes(error_m_N=FIXES.error_m_N / 2, nll_N=FIXES.nll_N - 0.5)
    found = compare(FIXES, halved)
    assert found["verdict"] == BETTER
    assert found["better_share"] == 1.0
    assert found["error_m"]["mean"]["difference"] == pytest.approx(-FIXES.error_m_N.mean() / 2)
    assert found["error_m"]["median"]["difference"] == pytest.approx(-np.median(FIXES.error_m_N) / 2)
    low, high = found["error_m"]["mean"]["interval"]
    assert low < -FIXES.error_m_N.mean() / 2 < high < 0
    assert found["nll_nats_per_fix"]["difference"] == pytest.approx(-0.5)
    back = compare(halved, FIXES)
    assert back["verdict"] == WORSE
    assert back["error_m"]["mean"]["interval"] == pytest.approx([-high, -low])


def test_pairs_tell_what_two_intervals_that_overlap_hide():
    """Each model's mean error is known to 20 m or so, the constant 2 m between them exactly."""
    found = compare(FIXES, some_fixes(error_m_N=FIXES.error_m_N + 2))
    assert found["error_m"]["mean"]["interval"] == pytest.approx([2.0, 2.0])
    assert found["error_m"]["median"]["interval"] == pytest.approx([2.0, 2.0])
    assert found["verdict"] == WORSE


@pytest.mark.parametrize(("walk", "groups"), [pytest.param(1, False, marks=pytest.mark.slow), (8, True)])
def test_intervals_hold_a_known_difference_as_often_as_they_promise(
    walk: int, groups: bool, monkeypatch: pytest.MonkeyPatch
):
    """100 experiments whose difference is 5 m in the mean and in the median of symmetric errors; 95 % cover.

    With walks, the fixes of one share half of their variance: only whole chunks know that. Of 100 binomial trials at
    0.95, three standard deviations are 7; a percentile interval of 60 groups covers a little less than it promises.
    """
    monkeypatch.setattr(comparison, "DRAWS", 300)  # of the medians: ten times as fast
    rng, count = np.random.default_rng(1), 60 * walk
    held = np.zeros(2)
    for _ in range(100):
        shared = rng.normal(0, 10, (60, 1)).repeat(walk, axis=1).reshape(-1)
        before_m = 1000 + rng.normal(0, 50, count)
        after_m = before_m + 5 + shared + (rng.normal(0, 10, count) if walk > 1 else 0)
        start_s = np.arange(60.0).repeat(walk) * 300 if groups else None
        like = {"truth_m_NE": np.zeros((count, 2)), "start_time_s_N": start_s}
        pair = [some_fixes(count, error_m_N=error_m, **like) for error_m in (before_m, after_m)]
        told = compare(*pair)["error_m"]
        held += [low <= 5 <= high for low, high in (told[key]["interval"] for key in ("mean", "median"))]
    assert (held >= 88).all(), held
    assert held[0] < 100


def test_neighbours_resampled_one_by_one_would_promise_too_much():
    rng = np.random.default_rng(3)
    change_m = rng.normal(0, 10, (40, 1)).repeat(10, axis=1).reshape(-1)
    error_m = FIXES.error_m_N + 100
    alone = compare(some_fixes(error_m_N=error_m), some_fixes(error_m_N=error_m + change_m))
    times = {"start_time_s_N": np.arange(40.0).repeat(10) * 300}
    walks = compare(some_fixes(error_m_N=error_m, **times), some_fixes(error_m_N=error_m + change_m, **times))
    width, honest = (np.ptp(found["error_m"]["mean"]["interval"]) for found in (alone, walks))
    assert honest / width == pytest.approx(np.sqrt(10), rel=0.1)  # 40 independent values, not 400


def test_the_medians_interval_is_that_of_all_resamples_by_hand():
    """Three pairs have 27 resamples; enumerated, and their quantiles as SciPy's draws estimate them."""
    before, after = np.array([1.0, 2.0, 9.0]), np.array([4.0, 2.5, 1.0])
    every = np.stack(np.meshgrid(*[np.arange(3)] * 3), axis=-1).reshape(-1, 3)
    values = np.median(after[every], axis=1) - np.median(before[every], axis=1)
    found = median_difference_interval(before, after)
    assert found == (np.quantile(values, 0.025), np.quantile(values, 0.975))
    pairs = median_difference_interval(before.repeat(2), after.repeat(2), np.arange(3).repeat(2))
    assert pairs == found


def test_one_chunk_tells_nothing():
    at_once = {"start_time_s_N": np.zeros(400)}
    found = compare(some_fixes(**at_once), some_fixes(error_m_N=FIXES.error_m_N / 2, **at_once))
    assert found["error_m"]["mean"]["interval"] is None
    assert found["verdict"] == UNTOLD
    assert verdict([-1.0, 0.0]) == verdict([0.0, 1.0]) == UNTOLD


def test_rows_pair_by_name_in_whichever_order_and_frame():
    backwards = np.arange(400)[::-1]
    origin = (40.8, -111.9)
    moved_m = degrees_to_local(local_to_degrees(FIXES.truth_m_NE, FIXES.origin_deg), origin)
    other = some_fixes(
        session_ids=tuple(FIXES.session_ids[row] for row in backwards),
        truth_m_NE=moved_m[backwards],
        error_m_N=FIXES.error_m_N[backwards],
        nll_N=FIXES.nll_N[backwards],
        origin_deg=origin,
    )
    assert compare(FIXES, other)["equal_share"] == 1.0


def test_other_rows_are_refused_by_name_with_the_cure():
    names = ("new-a", *FIXES.session_ids[1:])
    with pytest.raises(
        DataError, match=r"1 rows only the first has, as session-0; 1 rows only the other has, as new-a"
    ):
        compare(FIXES, some_fixes(session_ids=names))
    with pytest.raises(DataError, match=r"^b beside a: paired runs: got 340 rows .*give --data and --split"):
        compare_all({"a": some_fixes(60), "b": FIXES})
    truth_m = FIXES.truth_m_NE.copy()
    truth_m[7] += (30.0, 40.0)
    with pytest.raises(DataError, match=r"1 whose true places differ, as session-7 by 50\.\d m"):
        compare(FIXES, some_fixes(truth_m_NE=truth_m))


def test_the_table_says_it_in_a_line():
    console = Console(width=200)
    with console.capture() as capture:
        found = compare_all({"a": FIXES, "b": some_fixes(error_m_N=FIXES.error_m_N + 2), "c": FIXES})
        console.print(comparison_table(found))
    text = capture.get()
    assert "beside a, the same 400 fixes; less is better" in text
    assert "+2.0 m (+2.0 m to +2.0 m)" in text
    assert "0% of fixes, 100% equal" in text
    assert text.count(UNTOLD) == 1
