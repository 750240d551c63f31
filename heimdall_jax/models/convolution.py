"""Two-dimensional convolution, NHWC, in the formulation that is fast for its output width."""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from heimdall_jax.models import winograd

HE = nnx.initializers.variance_scaling(2.0, "fan_out", "truncated_normal")
"""He et al. 2015, fan-out, as ResNet uses."""


FEW_CHANNELS = 8
"""Up to so many, a strided kernel's gradient is faster by a product of patches."""


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
    """`lax.conv_general_dilated`; on CPU by products where XLA's convolution or a gradient of it is slow."""
    if stride == 1 and kernel.shape[0] == winograd.SIZE and x.dtype == jnp.float32:
        return _convolve_3(x, kernel, padding)
    if stride > 1 and kernel.shape[2] <= FEW_CHANNELS:
        return _convolve_few(x, kernel, stride, padding)
    return _convolve(x, kernel, stride, padding)


def _convolve(
    x: Float[Array, "B H W C"], kernel: Float[Array, "k k C O"], stride: int, padding: int
) -> Float[Array, "B h w O"]:
    """XLA's, or patches and a matrix product where the output is one pixel wide.

    XLA on CPU runs a convolution with a one-pixel-wide output (or the gradient of one) at a hundredth
    of the speed of the matrix product. Taps that only ever meet padding are left out of the product:
    of a 3 x 3 kernel on a one-pixel-wide image, the middle column remains.
    """
    size = kernel.shape[0]
    rows, columns = (taps(length, size, stride, padding) for length in x.shape[1:3])
    if columns.outputs > 1:
        edges = [(padding, padding)] * 2
        return lax.conv_general_dilated(x, kernel, (stride, stride), edges, dimension_numbers=("NHWC", "HWIO", "NHWC"))
    patches = shifted(x, rows, columns, stride, padding)
    stacked = patches[0] if len(patches) == 1 else jnp.concatenate(patches, axis=-1)
    weights = kernel[rows.meeting.start : rows.meeting.stop, columns.meeting.start : columns.meeting.stop]
    flat = stacked.reshape(-1, stacked.shape[-1]) @ weights.reshape(stacked.shape[-1], -1)
    return flat.reshape(-1, rows.outputs, columns.outputs, kernel.shape[-1])


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _convolve_3(x: Float[Array, "B H W C"], kernel: Float[Array, "3 3 C O"], padding: int) -> Float[Array, "B h w O"]:
    """As `_convolve` at stride 1; while training on CPU, of two thirds of the multiplications or fewer."""
    return _convolve(x, kernel, 1, padding)


def _convolve_3_and_keep(
    x: Float[Array, "B H W C"], kernel: Float[Array, "3 3 C O"], padding: int
) -> tuple[Float[Array, "B h w O"], tuple[Array, Array]]:
    ways = {"cpu": winograd.convolve, "default": functools.partial(_convolve, stride=1)}
    ways = {platform: functools.partial(way, padding=padding) for platform, way in ways.items()}
    return lax.platform_dependent(x, kernel, **ways), (x, kernel)


def _convolve_3_gradients(
    padding: int, kept: tuple[Array, Array], gradient: Float[Array, "B h w O"]
) -> tuple[Float[Array, "B H W C"], Float[Array, "3 3 C O"]]:
    """Of the input and of the kernel."""

    def plain(x: Array, kernel: Array, gradient: Array) -> tuple[Array, Array]:
        return jax.vjp(lambda x, kernel: _convolve(x, kernel, 1, padding), x, kernel)[1](gradient)

    def fast(x: Array, kernel: Array, gradient: Array) -> tuple[Array, Array]:
        return jax.vjp(lambda x, kernel: winograd.convolve(x, kernel, padding), x, kernel)[1](gradient)

    return lax.platform_dependent(*kept, gradient, cpu=fast, default=plain)


_convolve_3.defvjp(_convolve_3_and_keep, _convolve_3_gradients)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _convolve_few(
    x: Float[Array, "B H W C"], kernel: Float[Array, "k k C O"], stride: int, padding: int
) -> Float[Array, "B h w O"]:
    """As `_convolve`, and on CPU the gradient of its kernel by a matrix product."""
    return _convolve(x, kernel, stride, padding)


def _convolve_few_and_keep(
    x: Float[Array, "B H W C"], kernel: Float[Array, "k k C O"], stride: int, padding: int
) -> tuple[Float[Array, "B h w O"], tuple[Array, Array]]:
    return _convolve(x, kernel, stride, padding), (x, kernel)


def _convolve_few_gradients(
    stride: int, padding: int, kept: tuple[Array, Array], gradient: Float[Array, "B h w O"]
) -> tuple[Float[Array, "B H W C"], Float[Array, "k k C O"]]:
    """Of the input and of the kernel."""
    x, kernel = kept
    (of_x,) = jax.vjp(lambda x: _convolve(x, kernel, stride, padding), x)[1](gradient)

    def plain(x: Array, gradient: Array) -> Array:
        return jax.vjp(lambda kernel: _convolve(x, kernel, stride, padding), kernel)[1](gradient)[0]

    by_patches = functools.partial(_kernel_gradient_of_few, size=kernel.shape[0], stride=stride, padding=padding)
    return of_x, lax.platform_dependent(x, gradient, cpu=by_patches, default=plain)


_convolve_few.defvjp(_convolve_few_and_keep, _convolve_few_gradients)


def _kernel_gradient_of_few(
    x: Float[Array, "B H W C"], gradient: Float[Array, "B h w O"], *, size: int, stride: int, padding: int
) -> Float[Array, "k k C O"]:
    """Where channels are few: patches, taps and channels first, times the gradient."""
    edges = ((0, 0), (0, 0), (padding, padding), (padding, padding))
    padded = jnp.pad(jnp.transpose(x, (3, 0, 1, 2)), edges)
    rows, columns = ((length - 1) * stride + 1 for length in gradient.shape[1:3])
    # columns first, then rows: all taps in one go are copied pixel by pixel
    seen = jnp.stack([lax.slice_in_dim(padded, j, j + columns, stride, axis=3) for j in range(size)])
    seen = jnp.stack([lax.slice_in_dim(seen, i, i + rows, stride, axis=3) for i in range(size)])
    product = seen.reshape(size * size * x.shape[-1], -1) @ gradient.reshape(-1, gradient.shape[-1])
    return product.reshape(size, size, x.shape[-1], gradient.shape[-1])


class Taps(NamedTuple):
    """One axis of a convolution: the kernel offsets that ever meet data, and the output's length."""

    meeting: range
    outputs: int

    def edges(self, length: int, stride: int, padding: int) -> tuple[int, int]:
        """Zeros needed before and after an axis of `length`."""
        last = (self.outputs - 1) * stride + self.meeting[-1] - padding
        return max(0, padding - self.meeting[0]), max(0, last - (length - 1))


def taps(length: int, size: int, stride: int, padding: int) -> Taps:
    """The taps of a kernel of `size` over an axis of `length`."""
    outputs = (length + 2 * padding - size) // stride + 1
    meets = [tap for tap in range(size) if any(0 <= i * stride + tap - padding < length for i in range(outputs))]
    return Taps(range(meets[0], meets[-1] + 1), outputs)


def shifted(
    x: Float[Array, "B H W C"], rows: Taps, columns: Taps, stride: int, padding: int
) -> list[Float[Array, "B h w C"]]:
    """The input as each tap sees it, row by row, padded no further than taps look that meet data."""
    (top, bottom), (left, right) = edges = [
        axis.edges(length, stride, padding) for axis, length in zip((rows, columns), x.shape[1:3], strict=True)
    ]
    padded = jnp.pad(x, ((0, 0), *edges, (0, 0))) if any((top, bottom, left, right)) else x
    height, width = ((axis.outputs - 1) * stride + 1 for axis in (rows, columns))
    batch, _, _, channels = x.shape
    return [
        lax.slice(padded, (0, i, j, 0), (batch, i + height, j + width, channels), (1, stride, stride, 1))
        for i in (tap - padding + top for tap in rows.meeting)
        for j in (tap - padding + left for tap in columns.meeting)
    ]
