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


def across_cores(function: Callable[..., Any], *arrays: ArrayLike) -> Any:
    """A jitted `function` of arrays (B, ...), which treats rows apart, to a pytree of arrays (B, ...).

    On CPU as many threads as there are cores take as many rows each: XLA shares small pieces of work badly among its
    own, and moves what one core has in its cache to another. What is traced, or on an accelerator, goes through whole.
    """
    traced = any(isinstance(array, Tracer) for array in arrays)
    rows = np.shape(arrays[0])[0]
    parts = 1 if traced or jax.default_backend() != "cpu" else min(len(os.sched_getaffinity(0)), rows)
    if parts < 2:
        return function(*arrays)
    ends = [rows * part // parts for part in range(parts + 1)]
    shares = [[np.asarray(array)[start:stop] for array in arrays] for start, stop in itertools.pairwise(ends)]
    with ThreadPoolExecutor(parts - 1) as threads:
        first = function(*shares[0])  # compiled before the others, which run beside it
        others = list(threads.map(lambda share: jax.block_until_ready(function(*share)), shares[1:]))
    return jax.tree.map(lambda *found: jnp.concatenate(found), first, *others)
