"""What precision numbers have: as they come, but no less than float32 where rounding adds up."""

from __future__ import annotations

from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array

Tree = TypeVar("Tree")


def at_least_single(x: Array) -> Array:
    """Half precision as float32; float32 and float64 as they are."""
    return x.astype(jnp.float32) if jnp.finfo(x.dtype).bits < 32 else x


def widened(tree: Tree) -> Tree:
    """Float32 arrays as float64, everything else as it is; only where JAX knows float64 (`jax.enable_x64`)."""

    def wide(leaf: Any) -> Any:
        return leaf.astype(jnp.float64) if leaf.dtype == jnp.float32 else leaf

    return jax.tree.map(wide, tree)
