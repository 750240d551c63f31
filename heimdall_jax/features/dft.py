"""Power of each windowed frame's frequency bins, from real I and Q; two back ends with one result.

    X_k = sum_n w_n x_n exp(-2 pi i k n / N) / sum_n w_n,    P_k = |X_k|^2,    w_n = 0.5 - 0.5 cos(2 pi n / N)

so a complex tone of amplitude 1 (full scale) on a bin's centre reads P = 1, 0 dB, in that bin (the "spectrum" scaling
of SciPy's ShortTimeFFT; Heinzel, Ruediger, Schilling 2002, section 9). Frames are not centred: frame l starts at
sample l * hop_length.
"""

from __future__ import annotations

import functools
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Inexact
from numpy import ndarray

Backend = Literal["fft", "matmul"]


def power_bins(n_fft: int, backend: Backend, two_sided: bool) -> ndarray:
    """Signed bin number (F,) of each column of `frame_power`; bin k is at k * sample_rate_hz / n_fft.

    "matmul" leaves out the bins at 0 and at half the sample rate: no mel filter gives them weight.
    """
    if backend == "fft":
        return np.rint(np.fft.fftfreq(n_fft) * n_fft).astype(int) if two_sided else np.arange(n_fft // 2 + 1)
    positive = np.arange(1, (n_fft + 1) // 2)
    return np.concatenate([-positive, positive]) if two_sided else positive


def frame_power(i: Inexact[Array, "*B N"], q: Float[Array, "*B N"] | None, backend: Backend) -> Float[Array, "*B F"]:
    """Power of frames' bins relative to full scale; bins as `power_bins`.

    Args:
        i: Real part, or the whole of a real signal, or of a complex one for "fft".
        q: Imaginary part; None for a whole signal. A real one has no negative bins.
        backend: "fft", or "matmul" (real matrix products only, for exporters without complex numbers).
    """
    return (_fft_power if backend == "fft" else _matmul_power)(i, q)


def _fft_power(i: Array, q: Array | None) -> Array:
    whole = i if q is None else jax.lax.complex(i, q)
    window = jnp.asarray(_window(i.shape[-1]), whole.real.dtype)[(None,) * (i.ndim - 1)]
    if jnp.iscomplexobj(whole):  # by parts, or the window would be complex, too
        spectrum = jnp.fft.fft(jax.lax.complex(whole.real * window, whole.imag * window))
    else:
        spectrum = jnp.fft.rfft(whole * window)
    return spectrum.real**2 + spectrum.imag**2


def _matmul_power(i: Array, q: Array | None) -> Array:
    """Products for positive bins give the negative ones too, since cos(-a) = cos(a) and sin(-a) = -sin(a)."""
    matrix = jnp.asarray(_dft_matrix(i.shape[-1]), i.dtype)
    i_cos, i_sin = jnp.split(jnp.matmul(i, matrix, precision=jax.lax.Precision.HIGHEST), 2, axis=-1)
    if q is None:
        return i_cos**2 + i_sin**2
    q_cos, q_sin = jnp.split(jnp.matmul(q, matrix, precision=jax.lax.Precision.HIGHEST), 2, axis=-1)
    negative = (i_cos - q_sin) ** 2 + (q_cos + i_sin) ** 2
    positive = (i_cos + q_sin) ** 2 + (q_cos - i_sin) ** 2
    return jnp.concatenate([negative, positive], axis=-1)


def _window(n_fft: int) -> ndarray:
    """Periodic Hann, sum 1."""
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
    return hann / hann.sum()


@functools.lru_cache(maxsize=8)
def _dft_matrix(n_fft: int) -> ndarray:
    """Windowed cosines, then sines, of the positive bins: (N, 2 K)."""
    sample, positive = np.arange(n_fft), np.arange(1, (n_fft + 1) // 2)
    # The product is reduced modulo N in integers, so that large angles lose nothing.
    angle = 2 * np.pi * (np.outer(sample, positive) % n_fft) / n_fft
    matrix = np.concatenate([np.cos(angle), np.sin(angle)], axis=1) * _window(n_fft)[:, None]
    matrix.setflags(write=False)
    return matrix
