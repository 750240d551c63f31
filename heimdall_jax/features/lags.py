"""Products of every pair of recordings at every lag, block by block, as a few large real matrix products.

    R_ij(k) = sum_n x_i(n + k) conj(x_j(n)),    k = -K..K,    R_ji(-k) = conj(R_ij(k)) exactly

Each recording is tapered at both ends first, so that no product meets a hard edge: with hard ends the odd and the even
lags of one recording differ by their edges, which moves a peak by nanoseconds. The taper makes R_ij(k) smaller by a
known factor, `taper_loss`.

With frames of M samples one product of (R (M + K)) x n by n x (R M) numbers holds all lags of all pairs, on diagonals.
It does twice the arithmetic that lag-by-lag products do and is several times faster: those are 7 numbers wide.
"""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy import ndarray

TAPERED_SHARE = 0.02
"""Of a recording, at each end. It costs 1.5 % of the integration time."""


def block_lag_products(
    i_BRT: Array, q_BRT: Array, *, blocks: int, hop: int, max_lag: int
) -> tuple[Array, Array, ndarray]:
    """Real and imaginary part (B, N, R, R, K) of R_ij(k) summed over each of N blocks, at lags 0..max_lag.

    Receiver i comes first, K = max_lag + 1; the other sign of lag is in R_ji (`two_sided`). The third result is each
    block's middle (N,), samples from the middle of the recording.

    Args:
        i_BRT: Real part.
        q_BRT: Imaginary part.
        blocks: N; the recording is divided evenly, the last block is filled with zeros.
        hop: Samples in a frame, M; at least max_lag. Any gives the same result.
        max_lag: Samples.
    """
    n_samples = i_BRT.shape[-1]
    frames = math.ceil(n_samples / (blocks * hop))
    # (B, N, 2 n, R, M + K): I then Q along the axis that is summed over.
    parts = [_frames(x, blocks, frames, hop, max_lag) for x in (i_BRT, q_BRT)]
    early = [part[..., :hop] for part in parts]
    later = jnp.concatenate(parts, axis=2)
    real, imaginary = jnp.concatenate(early, axis=2), jnp.concatenate([-early[1], early[0]], axis=2)
    earlier = jnp.stack([real, imaginary], axis=3)
    batch, receivers = i_BRT.shape[:2]
    width = hop + max_lag
    product = jnp.matmul(
        jnp.swapaxes(later.reshape(batch, blocks, 2 * frames, receivers * width), -1, -2),
        earlier.reshape(batch, blocks, 2 * frames, 2 * receivers * hop),
        precision=jax.lax.Precision.HIGHEST,
    ).reshape(batch, blocks, receivers, width, 2, receivers, hop)
    sums = _diagonal_sums(jnp.transpose(product, (0, 1, 2, 4, 5, 6, 3)), max_lag)
    middle = (np.arange(blocks) + 0.5) * frames * hop - n_samples / 2
    return sums[:, :, :, 0], sums[:, :, :, 1], middle


def two_sided(real: Array, imaginary: Array) -> tuple[Array, Array]:
    """Lags -max_lag..max_lag (..., R, R, 2 K - 1) from lags 0..max_lag (..., R, R, K), by R_ij(-k) = conj(R_ji(k))."""
    negative = [jnp.flip(jnp.swapaxes(x[..., 1:], -2, -3), axis=-1) for x in (real, imaginary)]
    return jnp.concatenate([negative[0], real], -1), jnp.concatenate([-negative[1], imaginary], -1)


@functools.cache
def taper(n_samples: int) -> ndarray:
    """Weights (T,) that rise and fall as half a period of a cosine, in amplitude as sine."""
    length = max(1, round(TAPERED_SHARE * n_samples))
    rise = np.sin(np.pi / 2 * (np.arange(length) + 0.5) / length)
    return _read_only(np.concatenate([rise, np.ones(n_samples - 2 * length), rise[::-1]]))


def tapered(i_BRT: Array, q_BRT: Array) -> tuple[Array, Array]:
    """The recordings, faded in and out."""
    weight = jnp.asarray(taper(i_BRT.shape[-1]), i_BRT.dtype)[None, None]
    return i_BRT * weight, q_BRT * weight


@functools.cache
def taper_loss(n_samples: int, max_lag: int) -> ndarray:
    """(2 max_lag + 1,) factors by which the taper lowers each lag's sum, 1 at lag 0."""
    weight = taper(n_samples)
    one_side = np.array([_dot(weight[k:], weight[: n_samples - k]) for k in range(max_lag + 1)]) / _dot(weight, weight)
    return _read_only(np.concatenate([one_side[:0:-1], one_side]))


def effective_samples(n_samples: int) -> float:
    """How many samples of equal weight carry as much information as the tapered recording."""
    weight = taper(n_samples) ** 2
    return math.fsum(weight) ** 2 / _dot(weight, weight)


def _frames(x_BRT: Array, blocks: int, frames: int, hop: int, max_lag: int) -> Array:
    """(B, N, n, R, M + K): frames of `hop` samples with the `max_lag` that follow each."""
    batch, receivers, n_samples = x_BRT.shape
    filled = jnp.pad(x_BRT, ((0, 0), (0, 0), (0, blocks * frames * hop - n_samples)))
    framed = filled.reshape(batch, receivers, blocks * frames, hop)
    following = jnp.concatenate([framed[:, :, 1:, :max_lag], jnp.zeros_like(framed[:, :, :1, :max_lag])], axis=2)
    longer = jnp.concatenate([framed, following], axis=-1)
    return jnp.transpose(longer.reshape(batch, receivers, blocks, frames, hop + max_lag), (0, 2, 3, 1, 4))


def _diagonal_sums(product: Array, max_lag: int) -> Array:
    """(..., max_lag + 1) sums over m of product[..., m, m + k]: one more column a row turns diagonals into columns."""
    *leading, hop, width = product.shape
    flat = product.reshape(*leading, hop * width)
    longer = jnp.concatenate([flat, jnp.zeros_like(flat[..., :hop])], axis=-1)
    return jnp.sum(longer.reshape(*leading, hop, width + 1)[..., : max_lag + 1], axis=-2)


def _dot(a: ndarray, b: ndarray) -> float:
    """Exactly rounded: BLAS's last bit depends on its threads, and an exported graph must not."""
    return math.fsum(a * b)


def _read_only(array: ndarray) -> ndarray:
    array.setflags(write=False)
    return array
