"""Windows of one transmission combined: by hand, and against draws."""

import numpy as np
import pytest

from heimdall_jax.evaluation.windows import combine_windows


def pair(delays: list[float], precisions: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """(N, 2, 2) of one pair."""
    turn = np.array([[0.0, 1.0], [-1.0, 0.0]])
    return np.array(delays)[:, None, None] * turn, np.array(precisions)[:, None, None] * np.abs(turn)


def test_the_median_of_the_valid_windows_is_taken():
    tdoa, precision = combine_windows(*pair([1.0, 2.0, 50.0, 0.0], [4.0, 4.0, 4.0, 0.0]))
    assert (tdoa[0, 1], tdoa[1, 0]) == (2.0, -2.0)
    # Median absolute deviation 1: sigma 1.4826, larger than the claimed 0.5; over 3 windows, pi / 2 for the median.
    assert precision[0, 1] == pytest.approx(3 / (np.pi / 2 * 1.4826**2))
    assert precision[0, 0] == precision[1, 1] == 0


def test_one_window_is_taken_at_its_word_and_none_is_none():
    tdoa, precision = combine_windows(*pair([0.3, 9.0], [7.0, 0.0]))
    assert (tdoa[0, 1], precision[0, 1]) == (0.3, pytest.approx(7.0))
    tdoa, precision = combine_windows(*pair([1.0, 2.0], [0.0, 0.0]))
    assert not tdoa.any()
    assert not precision.any()


def test_windows_that_agree_by_chance_are_not_believed_beyond_their_noise():
    _, precision = combine_windows(*pair([1.0, 1.0], [4.0, 4.0]))
    assert precision[0, 1] == pytest.approx(2 * 4.0 / (np.pi / 2))


def test_the_standard_error_is_the_scatter_of_medians():
    """400 draws of 41 windows: the variance of a median is pi / 2 / n to 4 % at 41; draws add 7 %."""
    rng = np.random.default_rng(5)
    results = [combine_windows(*pair(list(rng.standard_normal(41)), [1.0] * 41)) for _ in range(400)]
    scatter = np.var([tdoa[0, 1] for tdoa, _ in results])
    claimed = np.mean([1 / precision[0, 1] for _, precision in results])
    assert 0.8 < scatter / claimed < 1.2
