"""How well delays, bandwidth and SNR are measured, against the theory and the truth of the signals made."""

import jax.numpy as jnp
import numpy as np
import pytest
from delayed_signals import RATE_HZ, received, rms_bandwidth_hz, spectrum_of

from heimdall_jax.config import TimingConfig
from heimdall_jax.features.snr import receiver_snr
from heimdall_jax.features.tdoa import iq_to_timing

N = 12_000
CONFIG = TimingConfig()

pytestmark = pytest.mark.slow


def measured(
    kind: str, snr_db: np.ndarray, count: int, seed: int
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Features, true delays (count, R) in seconds, true rms bandwidths (count,)."""
    rng = np.random.default_rng(seed)
    spectrum = spectrum_of(kind, rng, count, N)
    delay_s = rng.uniform(-3, 3, (count, len(snr_db))) / RATE_HZ
    offset_hz = rng.uniform(-15, 15, delay_s.shape)
    iq = received(spectrum, delay_s, snr_db=snr_db, offset_hz=offset_hz, rng=rng)
    got = iq_to_timing(iq, np.ones(delay_s.shape, bool), CONFIG, RATE_HZ)
    return {key: np.asarray(value, np.float64) for key, value in got.items()}, delay_s, rms_bandwidth_hz(spectrum)


def laplacian(weight: np.ndarray) -> np.ndarray:
    return weight.sum(-1)[..., None] * np.eye(weight.shape[-1]) - weight


@pytest.mark.parametrize("kind", ["fm", "flat"])
@pytest.mark.parametrize("snr_db", [10.0, 20.0, 30.0])
def test_pairs_scatter_as_the_bound_says(kind, snr_db):
    """440 independent pairs: Stein (IEEE Trans. ASSP 29 (1981) 588) with the measured bandwidth, within 1.2."""
    errors = []
    for seed in range(4):
        got, delay_s, bandwidth_hz = measured(kind, np.full(2, snr_db), 110, seed)
        assert got["timing_valid"][:, 0, 1].all()
        np.testing.assert_allclose(got["bandwidth_hz"], bandwidth_hz, rtol=0.05)
        assert abs(got["snr_db"].mean() - snr_db) < 0.1
        np.testing.assert_allclose(got["snr_db"], snr_db, atol=1)
        snr = 10 ** (snr_db / 10)
        effective = 1 / (2 / snr + 1 / snr**2)
        sigma_s = 1 / (np.pi * np.sqrt(8 * N * effective) * got["bandwidth_hz"])
        errors.append((got["tdoa_s"][:, 0, 1] - delay_s[:, 0] + delay_s[:, 1]) / sigma_s)
    errors = np.concatenate(errors)
    ratio = np.sqrt(np.mean(errors**2))
    assert 0.9 < ratio < 1.2
    assert abs(errors.mean()) < 3 * ratio / np.sqrt(errors.size)


def test_a_network_of_unequal_receivers_knows_its_precision():
    """Arrival times by weighted least squares from all pairs scatter as the weights claim, receiver by receiver."""
    got, delay_s, _ = measured("fm", np.array([10.0, 15.0, 20.0, 25.0, 30.0]), 100, 9)
    np.testing.assert_allclose(got["snr_db"].mean(0), [10, 15, 20, 25, 30], atol=0.2)
    np.testing.assert_allclose(got["snr_db"], np.broadcast_to([10, 15, 20, 25, 30], (100, 5)), atol=1)
    weight = got["tdoa_precision_per_s2"] * 1e-12
    covariance = np.linalg.pinv(laplacian(weight), rcond=1e-6, hermitian=True)
    arrival_us = np.einsum("nij,nj->ni", covariance, (weight * got["tdoa_s"] * 1e6).sum(-1))
    error_us = arrival_us - (delay_s - delay_s.mean(1, keepdims=True)) * 1e6
    score = error_us / np.sqrt(np.einsum("nii->ni", covariance))
    assert 0.9 < np.sqrt(np.mean(score**2)) < 1.2


@pytest.mark.parametrize("receivers", [2, 3, 7])
def test_pair_weights_hold_the_information_of_all_receivers(receivers):
    """Eliminating the common time from variances (1 + G) / (G kappa g_i) leaves the Laplacian of the weights."""
    got, _, _ = measured("fm", np.linspace(5, 30, receivers), 1, 2)
    snr = 10 ** (got["snr_db"][0] / 10)
    samples = (
        11_820.0  # (sum w)^2 / sum w^2 of a raised cosine over 240 samples at each end, by hand: (11760)^2 / 11700
    )
    kappa = 8 * np.pi**2 * got["bandwidth_hz"][0] ** 2 * samples  # B_n T is the number of samples
    total = snr.sum()
    information = kappa * total * snr / (1 + total)
    expected = np.diag(information) - np.outer(information, information) / information.sum()
    np.testing.assert_allclose(laplacian(got["tdoa_precision_per_s2"][0]), expected, rtol=1e-3, atol=1e-6 * kappa)


def test_snr_from_exact_coefficients():
    """A rank-one table: coefficient_ij = sqrt(q_i q_j), q = g / (1 + g)."""
    snr = np.array([0.1, 1.0, 30.0, 1000.0])
    share = snr / (1 + snr)
    coefficient = np.sqrt(np.outer(share, share))[None].astype(np.float32)
    pair = (1 - np.eye(4, dtype=np.float32))[None]
    np.testing.assert_allclose(
        np.asarray(receiver_snr(jnp.asarray(coefficient), jnp.asarray(pair), 1e12))[0], snr, rtol=2e-3
    )
    pair[0, 0] = pair[0, :, 0] = 0
    np.testing.assert_allclose(
        np.asarray(receiver_snr(jnp.asarray(coefficient), jnp.asarray(pair), 1e12))[0], [0, *snr[1:]], rtol=2e-3
    )
