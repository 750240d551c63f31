import jax.numpy as jnp
import numpy as np
import pytest

from heimdall_jax.errors import ConfigError
from heimdall_jax.features.interpolation import find_peak, kernel, lags_needed
from heimdall_jax.features.lags import block_lag_products, effective_samples, taper, taper_loss, two_sided
from heimdall_jax.features.pairs import relative_to_strongest, solve_sums


@pytest.mark.parametrize(("n_samples", "blocks", "hop"), [(480, 3, 8), (500, 4, 9), (97, 1, 8)])
def test_lag_products_are_the_sums_that_define_them(n_samples, blocks, hop):
    rng = np.random.default_rng(0)
    iq = rng.standard_normal((2, 3, n_samples)) + 1j * rng.standard_normal((2, 3, n_samples))
    parts = jnp.asarray(iq.real, jnp.float32), jnp.asarray(iq.imag, jnp.float32)
    real, imaginary, middle = block_lag_products(*parts, blocks=blocks, hop=hop, max_lag=8)
    got = sum(part * unit for part, unit in zip(map(np.asarray, two_sided(real, imaginary)), (1, 1j), strict=True))
    padded = np.pad(iq, ((0, 0), (0, 0), (8, 8)))
    for lag in range(-8, 9):  # by definition, in float64
        product = np.einsum("bin,bjn->bij", padded[..., 8 + lag : 8 + lag + n_samples], iq.conj())
        np.testing.assert_allclose(got[..., lag + 8].sum(1), product, atol=1e-3)
    assert got.shape == (2, blocks, 3, 3, 17)
    first = int(middle[0] + n_samples / 2) * 2  # samples in a block: its middle is half of it
    product = np.einsum("bin,bjn->bij", iq[..., :first], iq[..., :first].conj())
    np.testing.assert_allclose(got[:, 0, ..., 8], product, atol=1e-3)


def test_the_taper_is_even_and_its_loss_known():
    weight = taper(1000)
    np.testing.assert_allclose(weight, weight[::-1])
    assert weight[500] == 1
    assert taper_loss(1000, 4)[4] == 1
    np.testing.assert_allclose(taper_loss(1000, 4), taper_loss(1000, 4)[::-1])
    # Raised cosines of 20 samples at each end: sum w = 980, sum w^2 = 960 + 2 x 20 x 3/8 = 975.
    assert effective_samples(1000) == pytest.approx(980**2 / 975)


@pytest.mark.parametrize(("half_width", "low", "edge"), [(8, 0.02, 0.2), (16, 1e-3, 0.03)])
def test_the_interpolator_shifts_a_tone(half_width, low, edge):
    tap = np.arange(-half_width, half_width + 1)
    for shift in (-0.5, -0.2, 0.0, 0.4, 0.5):
        weight = kernel(half_width) @ shift ** np.arange(kernel(half_width).shape[1])
        for frequency, most in ((0.05, low), (0.3, low), (5.5 / 12, edge)):
            error = weight @ np.exp(2j * np.pi * frequency * tap) - np.exp(2j * np.pi * frequency * shift)
            assert abs(error) < most


@pytest.mark.parametrize("delay", [-7.3, -0.5, 0.0, 0.499, 3.2])
def test_a_peak_of_known_shape_is_found(delay):
    """Of exp(-(w d)^2 / 2): height 1, curvature w^2 per sample squared; turned by a carrier that must not matter."""
    width = 2 * np.pi * 800 / 12_000  # nothing of it lies outside +-5.5 kHz
    lag = np.arange(-24, 25) - delay
    value = np.exp(-0.5 * (width * lag) ** 2 + 0.3j * lag + 1j)
    peak = find_peak(jnp.asarray(value.real, jnp.float32), jnp.asarray(value.imag, jnp.float32), 16)
    assert int(peak.index) - 24 + float(peak.fraction) == pytest.approx(delay, abs=2e-5)
    assert float(peak.magnitude) == pytest.approx(1, abs=3e-6)
    assert float(peak.curvature) == pytest.approx(width**2, rel=1e-3)
    assert bool(peak.inside)


def test_lags_needed_by_hand():
    # 200 km: 667.13 us, 8.006 samples; clocks 4 x 50 ns x sqrt 2 = 0.28 us, 0.003 samples: 9, and 16.
    assert lags_needed(200_000.0, (50e-9, 50e-9), 16, 12_000.0) == 25
    assert lags_needed(150_000.0, (1e-6, 1e-6), 16, 12_000.0) == 23  # 6.004 + 0.068
    assert lags_needed(0.0, (0.0, 0.0), 8, 12_000.0) == 8
    with pytest.raises(ConfigError, match="clock sigma"):
        lags_needed(1.0, (np.inf, 1e-6), 16, 12_000.0)


def test_sums_of_pairs_agree_with_least_squares():
    rng = np.random.default_rng(1)
    weight, value = rng.uniform(0.1, 10, (6, 6)), rng.standard_normal((6, 6))
    weight, value = np.triu(weight, 1) + np.triu(weight, 1).T, np.triu(value, 1) + np.triu(value, 1).T
    pairs = [(i, j) for i in range(6) for j in range(i)]
    rows = np.array([np.sqrt(weight[i, j]) * (np.eye(6)[i] + np.eye(6)[j]) for i, j in pairs])
    wanted = np.array([np.sqrt(weight[i, j]) * value[i, j] for i, j in pairs])
    expected = np.linalg.lstsq(rows, wanted, rcond=None)[0]
    got = solve_sums(jnp.asarray(weight[None], jnp.float32), jnp.asarray(value[None], jnp.float32))
    np.testing.assert_allclose(np.asarray(got)[0], expected, atol=1e-4)


def test_a_wrong_pair_of_weak_receivers_spoils_nothing():
    truth = np.array([3.0, -2.0, 7.0, 1.0], np.float32)
    value = truth[:, None] - truth
    value[2, 3], value[3, 2] = 30, -30
    strength = np.outer([9, 5, 1, 1], [9, 5, 1, 1]).astype(np.float32) * (1 - np.eye(4, dtype=np.float32))
    got = np.asarray(relative_to_strongest(jnp.asarray(strength[None]), jnp.asarray(value[None])))[0]
    np.testing.assert_allclose(got, truth - truth[0], atol=1e-6)
