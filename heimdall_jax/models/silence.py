"""What receivers that did not hear say to a network that sees receivers as channels of an image."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from heimdall_jax.models.convolution import convolve


class Silence(NamedTuple):
    """A learned vector of each channel that is silent, summed.

    Attributes:
        silent: 1 for channels that are, else 0.
        vectors: Of each channel.
    """

    silent: Float[Array, "B R"]
    vectors: Float[Array, "R S"]

    def as_vector(self, dtype: DTypeLike) -> Float[Array, "B 1 1 S"]:
        """The sum, to be added to every pixel."""
        return (self.silent @ self.vectors).astype(dtype)[:, None, None]

    def as_image(self, size: tuple[int, int], gain: Float[Array, " S"], dtype: DTypeLike) -> Float[Array, "B h w S"]:
        """The same times a gain at each of an image's pixels, by a convolution of 1 x 1."""
        silent = jnp.broadcast_to(self.silent[:, None, None], (self.silent.shape[0], *size, self.silent.shape[1]))
        return convolve(silent.astype(dtype), (self.vectors * gain[None])[None, None].astype(dtype), 1, 0)
