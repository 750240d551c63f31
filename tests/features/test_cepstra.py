import jax.numpy as jnp
import numpy as np
import pytest
import scipy.fft

from heimdall_jax.errors import ConfigError, DataError
from heimdall_jax.features.cepstra import compute_mfcc

MEL_DB = np.random.default_rng(0).uniform(-140, 0, (2, 3, 128, 5)).astype(np.float32)


@pytest.mark.parametrize("n_mfcc", [1, 20, 128])
def test_equals_scipy_dct(n_mfcc):
    expected = scipy.fft.dct(MEL_DB.astype(np.float64), type=2, norm="ortho", axis=-2)[..., :n_mfcc, :]
    ours = compute_mfcc(MEL_DB, n_mfcc)
    assert ours.shape == (2, 3, n_mfcc, 5)
    assert ours.dtype == jnp.float32
    np.testing.assert_allclose(np.asarray(ours), expected, atol=5e-3)  # of values up to 1600


def test_a_single_spectrogram_equals_its_row_in_a_batch():
    alone = compute_mfcc(MEL_DB[1, 2], 13)
    np.testing.assert_allclose(np.asarray(alone), np.asarray(compute_mfcc(MEL_DB, 13))[1, 2], atol=1e-3)


@pytest.mark.parametrize(
    "mel_db", [np.zeros(128, np.float32), np.zeros((128, 5), np.complex64), np.zeros((128, 5), int)]
)
def test_what_is_no_mel_spectrogram_is_refused(mel_db):
    with pytest.raises(DataError, match="mel spectrogram"):
        compute_mfcc(mel_db, 13)


@pytest.mark.parametrize("n_mfcc", [0, 129])
def test_more_coefficients_than_bands_are_refused(n_mfcc):
    with pytest.raises(ConfigError, match="1 to 128"):
        compute_mfcc(MEL_DB, n_mfcc)
