"""Two-dimensional convolution, NHWC, in the formulation that is fast for its output width."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from flax import nnx
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float

HE = nnx.initializers.variance_scaling(2.0, "fan_out", "truncated_normal")
"""He et al. 2015, fan-out, as ResNet uses."""


class Conv(nnx.Module):
    """Convolution over (B, height, width, C), zero-padded by `padding` on every side.

    Args:
        in_channels: Of the input.
        out_channels: Of the output.
        kernel: Height and width of the kernel.
        stride: Along both axes.
        padding: Zeros on every side.
        use_bias: Add a bias per output channel.
        kernel_init: Initialiser of the kernel.
        dtype: Of the computation; parameters stay float32.
        rngs: Source of the initial values.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        *,
        stride: int = 1,
        padding: int = 0,
        use_bias: bool = False,
        kernel_init: nnx.Initializer = HE,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        shape = (kernel, kernel, in_channels, out_channels)
        self.kernel = nnx.Param(kernel_init(rngs.params(), shape, jnp.float32))
        self.bias = nnx.Param(jnp.zeros((out_channels,), jnp.float32)) if use_bias else None
        self.stride, self.padding, self.dtype = stride, padding, dtype

    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B h w O"]:
        """Convolve."""
        y = convolve(x.astype(self.dtype), self.kernel[...].astype(self.dtype), self.stride, self.padding)
        return y if self.bias is None else y + self.bias[...].astype(self.dtype)[None, None, None]


def convolve(
    x: Float[Array, "B H W C"], kernel: Float[Array, "k k C O"], stride: int, padding: int
) -> Float[Array, "B h w O"]:
    """`lax.conv_general_dilated`, or patches and a matrix product where the output is one pixel wide.

    XLA on CPU runs a convolution with a one-pixel-wide output (or the gradient of one) at a hundredth
    of the speed of the matrix product. Taps that only ever meet padding are left out of the product:
    of a 3 x 3 kernel on a one-pixel-wide image, the middle column remains.
    """
    size = kernel.shape[0]
    rows, columns = (taps(length, size, stride, padding) for length in x.shape[1:3])
    if size > 1 and columns.outputs > 1:
        return lax.conv_general_dilated(
            x, kernel, (stride, stride), [(padding, padding)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
    patches = shifted(x, rows, columns, stride, padding)
    stacked = patches[0] if len(patches) == 1 else jnp.concatenate(patches, axis=-1)
    weights = kernel[rows.meeting.start : rows.meeting.stop, columns.meeting.start : columns.meeting.stop]
    flat = stacked.reshape(-1, stacked.shape[-1]) @ weights.reshape(stacked.shape[-1], -1)
    return flat.reshape(-1, rows.outputs, columns.outputs, kernel.shape[-1])


class Taps(NamedTuple):
    """One axis of a convolution: the kernel offsets that ever meet data, and the output's length."""

    meeting: range
    outputs: int


def taps(length: int, size: int, stride: int, padding: int) -> Taps:
    """The taps of a kernel of `size` over an axis of `length`."""
    outputs = (length + 2 * padding - size) // stride + 1
    meets = [tap for tap in range(size) if any(0 <= i * stride + tap - padding < length for i in range(outputs))]
    return Taps(range(meets[0], meets[-1] + 1), outputs)


def shifted(
    x: Float[Array, "B H W C"], rows: Taps, columns: Taps, stride: int, padding: int
) -> list[Float[Array, "B h w C"]]:
    """The input as each tap sees it, row by row."""
    padded = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    height, width = ((axis.outputs - 1) * stride + 1 for axis in (rows, columns))
    return [
        lax.slice_in_dim(lax.slice_in_dim(padded, i, i + height, stride, 1), j, j + width, stride, 2)
        for i in rows.meeting
        for j in columns.meeting
    ]
