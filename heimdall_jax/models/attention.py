"""Attention among tokens of which only some may be read."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from heimdall_jax.models.norms import LayerNorm
from heimdall_jax.models.precision import at_least_single
from heimdall_jax.models.trunk import Block, rematerialisable


class AttentionBlock(Block):
    """Self-attention and a perceptron, each after a layer norm and around a shortcut.

    With `first_alone` only the first token goes on, having read the others: a last block of which no more is used.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        dropout: float,
        *,
        first_alone: bool = False,
        dtype: DTypeLike | None,
        rngs: nnx.Rngs,
    ) -> None:
        self.attention_norm = LayerNorm(width, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(heads, width, dtype=dtype, decode=False, attention_fn=attend, rngs=rngs)
        self.perceptron_norm = LayerNorm(width, rngs=rngs)
        self.widen = nnx.Linear(width, 4 * width, dtype=dtype, rngs=rngs)
        self.narrow = nnx.Linear(4 * width, width, dtype=dtype, rngs=rngs)
        self.dropout, self.first_alone = nnx.Dropout(dropout, rngs=rngs), first_alone

    @rematerialisable
    def __call__(self, x: Float[Array, "B N D"], visible: Bool[Array, "B 1 1 N"]) -> Float[Array, "B Q D"]:
        """One residual step; nothing is read from tokens that are not visible."""
        read = asking = self.attention_norm(x)
        if self.first_alone:
            x, asking = x[:, :1], read[:, :1]
        x = x + self.dropout(self.attention(asking, read, mask=visible))
        return x + self.dropout(self.narrow(jax.nn.gelu(self.widen(self.perceptron_norm(x)), approximate=False)))


def attend(
    query: Float[Array, "B Q H D"],
    key: Float[Array, "B N H D"],
    value: Float[Array, "B N H D"],
    *,
    mask: Bool[Array, "B 1 1 N"],
    **_: Any,
) -> Float[Array, "B Q H D"]:
    """Scaled dot-product attention (Vaswani et al. 2017), weights in float32 or more, exactly zero where masked.

    Some token must be visible. `jax.nn.dot_product_attention` refuses bfloat16 under strict promotion.
    """
    similarity = at_least_single(jnp.einsum("bqhd,bnhd->bhqn", query, key)) / math.sqrt(query.shape[-1])
    weights = jax.nn.softmax(jnp.where(mask, similarity, -1e30), axis=-1)
    return jnp.einsum("bhqn,bnhd->bqhd", weights.astype(value.dtype), value)
