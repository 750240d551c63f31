"""ConvNeXt (Liu et al. 2022, arXiv:2201.03545): the convolutional part, NHWC."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from heimdall_jax.models.convolution import Conv
from heimdall_jax.models.depthwise import DepthwiseConv
from heimdall_jax.models.norms import LayerNorm
from heimdall_jax.models.silence import Silence
from heimdall_jax.models.trunk import Block, rematerialisable

SIZES: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "convnext_tiny": ((3, 3, 9, 3), (96, 192, 384, 768)),
    "convnext_small": ((3, 3, 27, 3), (96, 192, 384, 768)),
    "convnext_base": ((3, 3, 27, 3), (128, 256, 512, 1024)),
    "convnext_large": ((3, 3, 27, 3), (192, 384, 768, 1536)),
}
"""Blocks and channels per stage, section 3 of the paper."""

NORMAL = nnx.initializers.truncated_normal(0.02)
LAYER_SCALE = 1e-6


class ConvNeXtBlock(Block):
    """Depthwise 7 x 7, layer norm, an inverted bottleneck, layer scale, and the shortcut."""

    def __init__(self, channels: int, *, dtype: DTypeLike, rngs: nnx.Rngs) -> None:
        self.spatial = DepthwiseConv(channels, 7, kernel_init=NORMAL, dtype=dtype, rngs=rngs)
        self.norm = LayerNorm(channels, rngs=rngs)
        self.widen = nnx.Linear(channels, 4 * channels, kernel_init=NORMAL, dtype=dtype, rngs=rngs)
        self.narrow = nnx.Linear(4 * channels, channels, kernel_init=NORMAL, dtype=dtype, rngs=rngs)
        self.scale = nnx.Param(jnp.full((channels,), LAYER_SCALE, jnp.float32))

    @rematerialisable
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
        """One residual step."""
        y = self.narrow(jax.nn.gelu(self.widen(self.norm(self.spatial(x))), approximate=False))
        return x + y * self.scale[...].astype(y.dtype)[None, None, None]


class ConvNeXt(nnx.Module):
    """Image (B, H, W, channels) to features (B, last width).

    Args:
        channels: Of the image.
        depths: Blocks per stage.
        widths: Channels per stage.
        dtype: Of the computation; parameters stay float32.
        rngs: Source of the initial values.
    """

    def __init__(
        self,
        channels: int,
        depths: tuple[int, ...],
        widths: tuple[int, ...],
        *,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        self.stem_width, self.features = widths[0], widths[-1]
        self.stem = _reduce(channels, widths[0], 4, dtype, rngs)
        self.stem_norm = LayerNorm(widths[0], rngs=rngs)
        stages, norms, reductions = [], [], []
        for stage, (depth, width) in enumerate(zip(depths, widths, strict=True)):
            if stage:
                norms.append(LayerNorm(widths[stage - 1], rngs=rngs))
                reductions.append(_reduce(widths[stage - 1], width, 2, dtype, rngs))
            stages.append(nnx.List([ConvNeXtBlock(width, dtype=dtype, rngs=rngs) for _ in range(depth)]))
        self.stages, self.norms, self.reductions = nnx.List(stages), nnx.List(norms), nnx.List(reductions)
        self.last_norm = LayerNorm(widths[-1], rngs=rngs)

    def __call__(self, x: Float[Array, "B H W C"], silence: Silence | None = None) -> Float[Array, "B F"]:
        """Features; of channels that are silent each adds its vector to the stem's output at every pixel."""
        y = self.stem(x)
        y = self.stem_norm(y if silence is None else y + silence.as_vector(y.dtype))
        for stage, blocks in enumerate(self.stages):
            if stage:
                y = self.reductions[stage - 1](self.norms[stage - 1](y))
            for block in blocks:
                y = block(y)
        return self.last_norm(jnp.mean(y, axis=(1, 2)))


def _reduce(channels: int, width: int, factor: int, dtype: DTypeLike, rngs: nnx.Rngs) -> Conv:
    """Non-overlapping convolution that divides the image's size by `factor`."""
    return Conv(channels, width, factor, stride=factor, use_bias=True, kernel_init=NORMAL, dtype=dtype, rngs=rngs)
