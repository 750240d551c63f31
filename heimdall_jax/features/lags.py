"""Products of every pair of recordings at every lag, block by block, as a few large real matrix products.

    R_ij(k) = sum_n x_i(n + k) conj(x_j(n)),    k = -K..K,    R_ji(-k) = conj(R_ij(k)) exactly

Each recording is tapered at both ends first, so that no product meets a hard edge: with hard ends the odd and the even
lags of one recording differ by their edges, which moves a peak by nanoseconds. The taper makes R_ij(k) smaller by a
known factor, `taper_loss`.

Samples of all receivers lie side by side, I and Q, 2 R numbers. In frames of M samples, products of (2 R M) x n by
n x (2 R M) numbers, of frames with those that follow until K samples on, hold all lags of all pairs, each M times, in
parts. They do (M + K) / K times the arithmetic that lag-by-lag products do and are several times faster: those are
2 R numbers wide.
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
HOPS_IN_LAGS = 3
"""Frames in the largest lag."""


def block_lag_products(
    i_BRT: Array, q_BRT: Array, *, blocks: int, max_lag: int, hop: int | None = None
) -> tuple[Array, Array, ndarray]:
    """Real and imaginary part (B, N, R, R, K) of R_ij(k) summed over each of N blocks, at lags 0..max_lag.

    Receiver i comes first, K = max_lag + 1; the other sign of lag is in R_ji (`two_sided`). The third result is each
    block's middle (N,), samples from the middle of the recording.

    Args:
        i_BRT: Real part.
        q_BRT: Imaginary part.
        blocks: N; the recording is divided evenly, the last block is filled with zeros.
        max_lag: Samples, at least 1.
        hop: Samples in a frame, M. Any gives the same result; None: what was fastest.
    """
    batch, receivers, n_samples = i_BRT.shape
    hop = max(1, max_lag // HOPS_IN_LAGS) if hop is None else hop
    frames = math.ceil(n_samples / (blocks * hop))
    pieces = _frames(i_BRT, q_BRT, blocks * frames, hop, max_lag)
    pieces = [piece.reshape(batch, blocks, frames, -1) for piece in pieces]
    products = [
        jnp.matmul(jnp.swapaxes(piece, -1, -2), pieces[0], precision=jax.lax.Precision.HIGHEST).reshape(
            batch, blocks, -1, 2, receivers, hop, 2, receivers
        )
        for piece in pieces
    ]
    product = jnp.concatenate(products, axis=2)
    lags = max_lag + 1
    sums = functools.reduce(jnp.add, (product[:, :, m : m + lags, :, :, m : m + 1] for m in range(hop)))
    by_i, by_q = sums[..., :1, :], sums[..., 1:, :]
    real, imaginary = (
        jnp.moveaxis(part.reshape(batch, blocks, lags, receivers, receivers), 2, -1)
        for part in (by_i[:, :, :, :1] + by_q[:, :, :, 1:], by_i[:, :, :, 1:] - by_q[:, :, :, :1])
    )
    return real, imaginary, (np.arange(blocks) + 0.5) * frames * hop - n_samples / 2


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


def _frames(i_BRT: Array, q_BRT: Array, frames: int, hop: int, max_lag: int) -> list[Array]:
    """Frames (B, n, M, 2, R) of `hop` samples, I and Q, and those that follow each, up to `max_lag` samples on."""
    batch, receivers, n_samples = i_BRT.shape
    more = math.ceil(max_lag / hop)
    side_by_side = jnp.transpose(jnp.stack([i_BRT, q_BRT], axis=1), (0, 3, 1, 2))
    filled = jnp.pad(side_by_side, ((0, 0), (0, (frames + more) * hop - n_samples), (0, 0), (0, 0)))
    framed = filled.reshape(batch, frames + more, hop, 2, receivers)
    pieces = [framed[:, place : place + frames] for place in range(more + 1)]
    pieces[-1] = pieces[-1][:, :, : max_lag - (more - 1) * hop]
    return pieces


def _dot(a: ndarray, b: ndarray) -> float:
    """Exactly rounded: BLAS's last bit depends on its threads, and an exported graph must not."""
    return math.fsum(a * b)


def _read_only(array: ndarray) -> ndarray:
    array.setflags(write=False)
    return array
