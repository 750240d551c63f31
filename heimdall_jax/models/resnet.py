"""ResNet-18 (He et al. 2016): the convolutional part, NHWC."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from heimdall_jax.models.convolution import Conv
from heimdall_jax.models.norms import BatchNorm
from heimdall_jax.models.silence import Silence
from heimdall_jax.models.trunk import Block, rematerialisable

BLOCKS = (
    (64, 64, 1),
    (64, 64, 1),
    (64, 128, 2),
    (128, 128, 1),
    (128, 256, 2),
    (256, 256, 1),
    (256, 512, 2),
    (512, 512, 1),
)
"""Channels in, channels out and stride of each block."""


class BasicBlock(Block):
    """Two 3 x 3 convolutions around a shortcut, projected where the shape changes."""

    def __init__(self, channels_in: int, channels: int, stride: int, *, dtype: DTypeLike, rngs: nnx.Rngs) -> None:
        self.conv1 = Conv(channels_in, channels, 3, stride=stride, padding=1, dtype=dtype, rngs=rngs)
        self.norm1 = BatchNorm(channels, rngs=rngs)
        self.conv2 = Conv(channels, channels, 3, padding=1, dtype=dtype, rngs=rngs)
        self.norm2 = BatchNorm(channels, rngs=rngs)
        self.projected = stride != 1 or channels_in != channels
        if self.projected:
            self.project = Conv(channels_in, channels, 1, stride=stride, dtype=dtype, rngs=rngs)
            self.project_norm = BatchNorm(channels, rngs=rngs)

    @rematerialisable
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B h w D"]:
        """One residual step."""
        y = jax.nn.relu(self.norm1(self.conv1(x)))
        shortcut = self.project_norm(self.project(x)) if self.projected else x
        return jax.nn.relu(self.norm2(self.conv2(y)) + shortcut)


class ResNet18(nnx.Module):
    """Image (B, H, W, channels) to features (B, 512)."""

    features = 512
    stem_width = 64

    def __init__(self, channels: int, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs) -> None:
        self.stem = Conv(channels, 64, 7, stride=2, padding=3, dtype=dtype, rngs=rngs)
        self.stem_norm = BatchNorm(64, rngs=rngs)
        blocks = [BasicBlock(*shape, dtype=dtype, rngs=rngs) for shape in BLOCKS]
        self.blocks = nnx.List(blocks)

    def __call__(self, x: Float[Array, "B H W C"], silence: Silence | None = None) -> Float[Array, "B 512"]:
        """Features; of channels that are silent each adds its vector to the stem's output at every pixel."""
        y = self.stem(x)
        if silence is None or not self.stem_norm.use_running_average:
            y = max_pool(self.stem_norm(y if silence is None else y + silence.as_vector(y.dtype)))
        else:
            # A norm of fixed statistics is linear, and a constant passes a maximum: an exported graph's convolution
            # takes the norm in, and ONNX Runtime adds a convolution of pixels in its own layout, but no vector.
            y = max_pool(self.stem_norm(y))
            y = y + silence.as_image(y.shape[1:3], self.stem_norm.gain(), y.dtype)
        y = jax.nn.relu(y)  # after the maximum as before it, of a quarter of the pixels
        for block in self.blocks:
            y = block(y)
        return jnp.mean(y, axis=(1, 2))


@jax.custom_vjp
def max_pool(x: Float[Array, "B H W C"]) -> Float[Array, "B h w C"]:
    """Maximum over 3 x 3 pixels, stride 2, padded by one.

    Its gradient is that of maxima of slices: XLA on CPU runs the gradient of a pooling window six times slower.
    """
    # jax2onnx leaves out what `nnx.max_pool` is told to pad.
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-jnp.inf)
    return nnx.max_pool(padded, window_shape=(3, 3), strides=(2, 2), padding="VALID")


def _max_pool_and_keep(x: Float[Array, "B H W C"]) -> tuple[Float[Array, "B h w C"], Array]:
    return max_pool(x), x


def _max_pool_gradient(x: Array, gradient: Float[Array, "B h w C"]) -> tuple[Float[Array, "B H W C"]]:
    return jax.vjp(_max_of_slices, x)[1](gradient)


max_pool.defvjp(_max_pool_and_keep, _max_pool_gradient)


def _max_of_slices(x: Float[Array, "B H W C"]) -> Float[Array, "B h w C"]:
    for axis in (1, 2):
        edge = [(1, 1) if i == axis else (0, 0) for i in range(4)]
        padded = jnp.pad(x, edge, constant_values=-jnp.inf)
        stop = padded.shape[axis] - 2
        first, middle, last = (lax.slice_in_dim(padded, i, stop + i, 2, axis) for i in range(3))
        x = jnp.maximum(jnp.maximum(first, middle), last)
    return x
