"""Mel-frequency cepstral coefficients."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float
from numpy import ndarray

from heimdall_jax.errors import ConfigError, DataError, explain


def compute_mfcc(mel_db: ArrayLike, n_mfcc: int) -> Float[Array, "*B C L"]:
    """First n_mfcc cepstral coefficients (..., C, L) in dB of a log-mel spectrogram (..., M, L) in dB.

    Orthonormal DCT-II over the mel axis (Davis, Mermelstein 1980; Ahmed, Natarajan, Rao 1974):

        c_kl = s_k sum_m S_ml cos(pi k (2 m + 1) / (2 M)),    s_0 = sqrt(1 / M),  s_k = sqrt(2 / M)

    Raises:
        DataError: `mel_db` is not real floating, or has fewer than two axes.
        ConfigError: `n_mfcc` is not from 1 to M.
    """
    mel_db = jnp.asarray(mel_db)
    if mel_db.ndim < 2 or not jnp.issubdtype(mel_db.dtype, jnp.floating):
        got = f"{mel_db.dtype} of shape {mel_db.shape}"
        cure = "Give the output of iq_to_mel_spectrogram."
        raise DataError(explain("mel spectrogram", got=got, allowed="real, (..., mel, frame)", cure=cure))
    n_mels = mel_db.shape[-2]
    if not 1 <= n_mfcc <= n_mels:
        raise ConfigError(explain("n_mfcc", got=n_mfcc, allowed=f"1 to {n_mels}", cure="Lower it, or raise n_mels."))
    basis = jnp.asarray(_dct_matrix(n_mels)[:n_mfcc], mel_db.dtype)
    return jnp.einsum("cm,...ml->...cl", basis, mel_db, precision=jax.lax.Precision.HIGHEST)


@functools.lru_cache(maxsize=8)
def _dct_matrix(n_mels: int) -> ndarray:
    """Orthonormal DCT-II (M, M)."""
    k, m = np.arange(n_mels)[:, None], np.arange(n_mels)[None]
    matrix = np.sqrt(2 / n_mels) * np.cos(np.pi * k * (2 * m + 1) / (2 * n_mels))
    matrix[0] /= np.sqrt(2)
    matrix.setflags(write=False)
    return matrix
