"""How a network computes while it is trained: in half precision, or forgetting what its blocks have inside."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import jax.numpy as jnp
from flax import nnx

from heimdall_jax.config import TrainingConfig
from heimdall_jax.models.convolution import Conv
from heimdall_jax.models.depthwise import DepthwiseConv
from heimdall_jax.models.heads import Locator

CONVOLUTIONS = (Conv, DepthwiseConv)
PRODUCTS = (nnx.Linear, nnx.LinearGeneral, nnx.MultiHeadAttention)

Call = TypeVar("Call", bound=Callable[..., Any])


class Block(nnx.Module):
    """One of the residual steps that a network is a stack of.

    Attributes:
        rematerialise: The gradient computes what is between input and output anew instead of keeping it.
    """

    rematerialise = False


def rematerialisable(call: Call) -> Call:
    """Decorates a `Block`'s `__call__` so that it heeds `rematerialise`."""

    @functools.wraps(call)
    def heeding(block: Block, *inputs: Any) -> Any:
        return (nnx.remat(call) if block.rematerialise else call)(block, *inputs)

    return heeding  # pyright: ignore[reportReturnType]


def as_trained(model: nnx.Module, config: TrainingConfig) -> nnx.Module:
    """A copy, with the same arrays, that computes as `config.precision` and `config.rematerialise` say.

    In bfloat16 are convolutions, and products inside of blocks. Parameters stay float32, and so do statistics of norms,
    softmax, tokens, heads and solver: what is small, or where rounding adds up.
    """
    copy = nnx.merge(*nnx.split(model))
    half = config.precision == "bfloat16"
    if half and isinstance(copy, Locator) and hasattr(copy, "dtype"):
        _compute_in_half(copy)
    for _, layer in nnx.iter_modules(copy):
        if half and isinstance(layer, CONVOLUTIONS):
            _compute_in_half(layer)
        if isinstance(layer, Block):
            layer.rematerialise = config.rematerialise
            for _, inner in nnx.iter_modules(layer):
                if half and isinstance(inner, PRODUCTS):
                    _compute_in_half(inner)
    return copy


def _compute_in_half(layer: Any) -> None:
    layer.dtype = jnp.bfloat16
