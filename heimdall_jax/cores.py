"""Work shared among the cores of a CPU by threads of our own."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike

DOUBLE = (np.dtype(np.float64), np.dtype(np.complex128))


def across_cores(function: Callable[..., Any], *arrays: ArrayLike) -> Any:
    """A jitted `function` of arrays (B, ...), which treats rows apart, to a pytree of arrays (B, ...).

    On CPU as many threads as there are cores take as many rows each: XLA shares small pieces of work badly among its
    own, and moves what one core has in its cache to another. What is traced, on an accelerator or another device than
    the first, or of double precision, goes through whole: what JAX's context managers set holds in their thread alone.
    """
    rows = np.shape(arrays[0])[0]
    parts = min(len(os.sched_getaffinity(0)), rows) if all(map(_may_be_shared, arrays)) else 1
    if parts < 2:
        return function(*arrays)
    ends = [rows * part // parts for part in range(parts + 1)]
    shares = [[np.asarray(array)[start:stop] for array in arrays] for start, stop in itertools.pairwise(ends)]
    with ThreadPoolExecutor(parts - 1) as threads:
        first = function(*shares[0])  # compiled before the others, which run beside it
        others = list(threads.map(lambda share: jax.block_until_ready(function(*share)), shares[1:]))
    return jax.tree.map(lambda *found: jnp.concatenate(found), first, *others)


def _may_be_shared(array: ArrayLike) -> bool:
    if isinstance(array, Tracer) or np.dtype(jnp.result_type(array)) in DOUBLE:
        return False
    usual = jax.devices()[0]
    chosen = jax.config.jax_default_device  # pyright: ignore[reportAttributeAccessIssue]  # JAX adds flags as it starts
    here = {chosen or usual} | (array.devices() if isinstance(array, jax.Array) else set())
    return usual.platform == "cpu" and here == {usual}
