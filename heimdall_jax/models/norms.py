"""Normalisation in float32 or more whatever the network computes in."""

from __future__ import annotations

import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Float

from heimdall_jax.models.precision import at_least_single


class BatchNorm(nnx.BatchNorm):
    """Over all but the channels; running statistics move by a tenth per step in training, as in the original."""

    def __init__(self, channels: int, *, rngs: nnx.Rngs) -> None:
        super().__init__(channels, momentum=0.9, rngs=rngs)

    def __call__(self, x: Float[Array, "*B C"]) -> Float[Array, "*B C"]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Normalise; the result has the input's dtype."""
        return super().__call__(x.astype(jnp.float32)).astype(x.dtype)

    def gain(self) -> Float[Array, " C"]:
        """What it multiplies channels by where its statistics are fixed."""
        assert self.scale is not None
        return self.scale[...] * lax.rsqrt(self.var[...] + self.epsilon)


class LayerNorm(nnx.LayerNorm):
    """Over the last axis, with ConvNeXt's epsilon."""

    def __init__(self, channels: int, *, rngs: nnx.Rngs) -> None:
        super().__init__(channels, epsilon=1e-6, rngs=rngs)

    def __call__(self, x: Float[Array, "*B C"]) -> Float[Array, "*B C"]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Normalise; the result has the input's dtype."""
        return super().__call__(at_least_single(x)).astype(x.dtype)
