"""Work in pieces on CPU: what lies between input and output stays in the cache and needs no fresh memory.

The first touch of fresh memory can cost more than the transforms. Accelerators take all at once. Exporters know neither
loops nor a choice of platform: they call the functions themselves.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float

CHUNK_BYTES = 2**21
"""Of complex frames; pieces of an eighth to twice that size took as long, one after the other."""


def all_frames(function: Callable[..., Array], parts: Sequence[Array], n_fft: int, hop_length: int) -> Array:
    """As `over_frames`, all at once."""
    start, within = _starts(parts[0].shape[-1], n_fft, hop_length), np.arange(n_fft, dtype=np.int32)
    return function(*(part[..., start[:, None] + within[None]] for part in parts))


def over_frames(
    function: Callable[..., Array], parts: Sequence[Array], n_fft: int, hop_length: int
) -> Float[Array, "*B L M"]:
    """`function` of every frame, L = 1 + (T - n_fft) // hop_length of them.

    On CPU in chunks of `CHUNK_BYTES`, one after the other: `cores.across_cores` gives other rows to other cores.

    Args:
        function: Frames (..., N) of each part to (..., M), row by row.
        parts: Each (..., T).
        n_fft: Samples in a frame, N.
        hop_length: Samples from one frame to the next.
    """
    *leading, length = parts[0].shape
    start = _starts(length, n_fft, hop_length)

    def in_chunks(*parts: Array) -> Array:
        every = (np.arange(math.prod(leading), dtype=np.int32)[:, None] * length + start[None]).reshape(-1)
        rounds = -(-every.size * 8 * n_fft // CHUNK_BYTES)
        padded = np.resize(every, (rounds, -(-every.size // rounds)))
        flat = [part.reshape(-1) for part in parts]

        def frame(start: Array) -> list[Array]:
            return [jax.lax.dynamic_slice(part, (start,), (n_fft,)) for part in flat]

        found = jax.lax.map(lambda starts: function(*jax.vmap(frame)(starts)), jnp.asarray(padded))
        return found.reshape(-1, found.shape[-1])[: every.size].reshape(*leading, len(start), -1)

    if not 0 < parts[0].size < 2**31:  # samples are numbered in 32 bits
        return all_frames(function, parts, n_fft, hop_length)
    return jax.lax.platform_dependent(
        *parts, cpu=in_chunks, default=lambda *parts: all_frames(function, parts, n_fft, hop_length)
    )


def over_recordings(function: Callable[..., Any], *arrays: Array) -> Any:
    """`function` of arrays (B, ...), which treats recordings apart, to a pytree of such; on CPU one at a time."""

    def one_by_one(*arrays: Array) -> Any:
        def alone(rows: tuple[Array, ...]) -> Any:
            return jax.tree.map(lambda found: found[0], function(*(row[None] for row in rows)))

        return jax.lax.map(alone, arrays)

    return jax.lax.platform_dependent(*arrays, cpu=one_by_one, default=function)


def _starts(length: int, n_fft: int, hop_length: int) -> np.ndarray:
    """First samples (L,) of the frames."""
    return np.arange(1 + (length - n_fft) // hop_length, dtype=np.int32) * hop_length
