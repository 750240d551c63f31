"""One time per receiver from the delays of pairs: exactness, signs, and covariances against simulation."""

import numpy as np
import pytest

from heimdall_jax.evaluation.arrivals import arrival_times_s, largest_connected, noise_variance_s2


def pairs(sigma):
    """Precision (1, R, R) of the delay of every pair of receivers with independent noise."""
    total = np.add.outer(sigma**2, sigma**2)
    return (1 / total * (1 - np.eye(len(sigma))))[None]


def test_times_come_back_with_their_sign():
    """tau_ij > 0 where i hears later: receiver 2 hears last."""
    truth = np.array([0.0, 1e-4, 5e-4, -2e-4])
    got = arrival_times_s(np.subtract.outer(truth, truth)[None], pairs(np.array([1e-8, 1e-7, 1e-6, 2e-8])))[0]
    np.testing.assert_allclose(got - got[0], truth, atol=1e-12)
    assert got.argmax() == 2


def test_missing_pairs_are_not_read():
    truth = np.array([0.0, 1e-4, 5e-4])
    delay, precision = np.subtract.outer(truth, truth)[None], pairs(np.full(3, 1e-7))
    precision[0, 0, 2] = precision[0, 2, 0] = 0.0
    delay[0, 0, 2] = delay[0, 2, 0] = np.nan
    got = arrival_times_s(delay, precision)[0]
    np.testing.assert_allclose(got - got[0], truth, atol=1e-12)


def test_the_mean_of_inconsistent_pairs():
    """Three equal pairs that do not close by 3 us: least squares spreads 1 us on each; by hand."""
    delay = np.array([[0.0, 3e-6, 0.0], [-3e-6, 0.0, 0.0], [0.0, 0.0, 0.0]])[None]
    got = arrival_times_s(delay, pairs(np.full(3, 1e-7)))[0]
    np.testing.assert_allclose(got, [1e-6, -1e-6, 0.0], atol=1e-15)


def test_noise_of_each_receiver_is_found_from_its_pairs():
    sigma = np.array([1e-8, 3e-8, 2e-7, 1e-5])
    np.testing.assert_allclose(np.sqrt(noise_variance_s2(pairs(sigma))[0]), sigma, rtol=1e-6)


def test_one_pair_shares_its_variance_and_none_has_none():
    lone = pairs(np.array([1e-7, 3e-7, 1e-7]))
    lone[0, 2] = lone[0, :, 2] = 0.0
    np.testing.assert_allclose(noise_variance_s2(lone)[0], [5e-14, 5e-14, 0.0], rtol=1e-9)
    assert (noise_variance_s2(np.zeros((1, 3, 3))) == 0).all()


def test_differences_scatter_as_claimed():
    """Seven equal receivers that share their noise between pairs; the inverse Laplacian would claim 2/7 of it."""
    precision = np.tile(pairs(np.full(7, 1e-7)), (4000, 1, 1))
    noise = np.random.default_rng(0).normal(size=(4000, 7)) * 1e-7
    got = arrival_times_s(noise[:, :, None] - noise[:, None], precision)
    variance = noise_variance_s2(precision[:1])[0]
    assert np.var(got[:, 0] - got[:, 5]) == pytest.approx(variance[0] + variance[5], rel=0.09)  # 4 x sqrt(2 / 4000)


def test_groups_without_a_common_pair_cannot_be_compared():
    precision = np.zeros((2, 5, 5))
    for i, j in [(0, 1), (2, 3), (3, 4)]:
        precision[0, i, j] = precision[0, j, i] = 1.0
    assert largest_connected(precision).tolist() == [[False, False, True, True, True], [False] * 5]
