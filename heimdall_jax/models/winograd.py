"""3 x 3 convolution at stride 1 with fewer multiplications: Winograd's minimal filtering along an image's rows.

Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2016 (arXiv:1509.09308): F(m, 3) gives m outputs by
m + 2 products where taps one by one take 3 m. Here in one dimension: columns' taps stay one product.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

SIZE = 3
"""Of the kernel."""


class Tile(NamedTuple):
    """The paper's transforms: of a tile's input (m + 2 rows), of the kernel's rows, and of the products to outputs."""

    of_input: tuple[tuple[int | float, ...], ...]
    of_kernel: tuple[tuple[int | float, ...], ...]
    of_products: tuple[tuple[int | float, ...], ...]


OF_TWO = Tile(
    ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1)),
    ((1, 0, 0), (1 / 2, 1 / 2, 1 / 2), (1 / 2, -1 / 2, 1 / 2), (0, 0, 1)),
    ((1, 1, 1, 0), (0, 1, -1, -1)),
)
"""F(2, 3): up to twice the rounding of the plain sum, as measured in float32 on ResNet-18's shapes."""
OF_FOUR = Tile(
    (
        (4, 0, -5, 0, 1, 0),
        (0, -4, -4, 1, 1, 0),
        (0, 4, -4, -1, 1, 0),
        (0, -2, -1, 2, 1, 0),
        (0, 2, -1, -2, 1, 0),
        (0, 4, 0, -5, 0, 1),
    ),
    (
        (1 / 4, 0, 0),
        (-1 / 6, -1 / 6, -1 / 6),
        (-1 / 6, 1 / 6, -1 / 6),
        (1 / 24, 1 / 12, 1 / 6),
        (1 / 24, -1 / 12, 1 / 6),
        (0, 0, 1),
    ),
    ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1)),
)
"""F(4, 3): up to five times, likewise."""


def convolve(x: Float[Array, "B H W C"], kernel: Float[Array, "3 3 C O"], padding: int) -> Float[Array, "B h w O"]:
    """As `lax.conv_general_dilated` at stride 1, up to rounding; so are its gradients, by as few products.

    An image narrower than the kernel is one pixel of all its columns' channels, so that no tap meets padding. Its
    kernel is larger than the image, and transforming it takes longer than F(4, 3) saves.
    """
    batch, height, width, channels = x.shape
    outputs = kernel.shape[3]
    lines, columns = (length + 2 * padding - SIZE + 1 for length in (height, width))
    narrow = width < SIZE
    tile = OF_TWO if narrow else OF_FOUR
    points, m = len(tile.of_input), len(tile.of_products)
    tiles = -(-lines // m)
    if narrow:
        x = x.reshape(batch, height, 1, width * channels)
    blocks = tiles + -(-points // m) - 1
    rows = _shifted(x, 1, -padding, blocks * m).reshape(batch, blocks, m, *x.shape[2:])
    rows = [rows[:, row // m : row // m + tiles, row % m] for row in range(points)]
    products = []
    for of_input, of_kernel in zip(tile.of_input, tile.of_kernel, strict=True):
        seen, taps = _combined(of_input, rows), _combined(of_kernel, list(kernel))
        if narrow:
            matrix = _folded(taps, width, padding)
        else:
            seen = jnp.concatenate([_shifted(seen, 2, j - padding, columns) for j in range(SIZE)], axis=-1)
            matrix = taps.reshape(-1, outputs)
        products.append(seen.reshape(-1, seen.shape[-1]) @ matrix)
    y = jnp.stack([_combined(each, products).reshape(batch, tiles, columns, outputs) for each in tile.of_products], 2)
    return y.reshape(batch, tiles * m, columns, outputs)[:, :lines]


def _combined(factors: Sequence[int | float], parts: Sequence[Float[Array, ...]]) -> Float[Array, ...]:
    """Their sum, each times its factor."""
    terms = [part if factor == 1 else part * factor for factor, part in zip(factors, parts, strict=True) if factor]
    return functools.reduce(jnp.add, terms)


def _folded(taps: Float[Array, "3 C O"], width: int, padding: int) -> Float[Array, "W_C w_O"]:
    """The matrix from all columns' channels to all columns' outputs."""
    columns, none = range(width + 2 * padding - SIZE + 1), jnp.zeros_like(taps[0])
    seen = [[j - column + padding for column in columns] for j in range(width)]
    rows = [jnp.concatenate([taps[tap] if 0 <= tap < SIZE else none for tap in row], axis=-1) for row in seen]
    return jnp.concatenate(rows)


def _shifted(x: Float[Array, ...], axis: int, start: int, length: int) -> Float[Array, ...]:
    """So many entries of an axis from `start` on; zeros where there are none."""
    edges = [(-start, start + length - x.shape[axis], 0) if i == axis else (0, 0, 0) for i in range(x.ndim)]
    return lax.pad(x, jnp.zeros((), x.dtype), edges)
