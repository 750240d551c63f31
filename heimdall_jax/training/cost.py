"""What a jitted function costs by XLA's own count, what a chip can do at most, and which of the two binds.

A roofline (Williams, Waterman, Patterson 2009): a program of F operations that moves B bytes to and from memory takes
at least max(F / peak, B / bandwidth) seconds. Its intensity is F / B; above the chip's ridge, peak / bandwidth,
arithmetic binds, below it memory.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from heimdall_jax.config import TrainingConfig

Precision = Literal["float32", "bfloat16", "highest"]
"""Of products: of arrays of that type, or of float32 arrays with `jax.lax.Precision.HIGHEST`, as features are made."""


class Chip(NamedTuple):
    """One accelerator.

    Attributes:
        name: Its maker's.
        kind: JAX's name of it.
        flops_per_s: Operations a second in dense products; a multiplication and an addition count as two.
        bytes_per_s: To and from its memory.
    """

    name: str
    kind: str
    flops_per_s: Mapping[Precision, float]
    bytes_per_s: float


H100 = Chip(
    "NVIDIA H100 SXM",
    "NVIDIA H100 80GB HBM3",
    {"float32": 494.7e12, "bfloat16": 989.4e12, "highest": 66.9e12},
    3.35e12,
)
"""NVIDIA's data sheet without sparsity; JAX multiplies float32 in TF32 there unless told otherwise."""
V5E = Chip("TPU v5e", "TPU v5 lite", {"float32": 197e12, "bfloat16": 197e12, "highest": 197e12 / 6}, 819e9)
"""Google Cloud's documentation; float32 is multiplied in one bfloat16 pass there, or in six, unless told otherwise."""
CHIPS = (H100, V5E)

ROWS_ON_CPU, ROWS = 1024, 4096
"""Of the matrices whose product measures a device that no table names."""
ATTEMPTS = 4


class Cost(NamedTuple):
    """Of one call, on one device: arithmetic operations, and bytes that its fused parts read and write."""

    flops: float
    bytes: float


class Bound(NamedTuple):
    """Operations a byte of a program and of the chip; least time of its arithmetic, of its traffic, and of a call."""

    intensity: float
    ridge: float
    arithmetic_s: float
    memory_s: float
    seconds: float
    binds: Literal["arithmetic", "memory"]


def cost(compiled: jax.stages.Compiled) -> Cost:
    """XLA's count for a compiled function, zeros where a back end counts nothing; the body of a loop counts once.

    After `jit(f).lower(...).compile()` a call of the same `jit(f)` with the same shapes compiles nothing more.
    """
    count = compiled.cost_analysis() or {}
    return Cost(float(count.get("flops", 0.0)), float(count.get("bytes accessed", 0.0)))


def bound(work: Cost, chip: Chip, precision: Precision) -> Bound:
    """The least time on one chip, in seconds."""
    arithmetic_s, memory_s = work.flops / chip.flops_per_s[precision], work.bytes / chip.bytes_per_s
    ridge = chip.flops_per_s[precision] / chip.bytes_per_s
    binds = "arithmetic" if arithmetic_s > memory_s else "memory"
    return Bound(work.flops / work.bytes, ridge, arithmetic_s, memory_s, max(arithmetic_s, memory_s), binds)


def peak_flops_per_s(precision: Literal["float32", "bfloat16"] = TrainingConfig.precision) -> float:
    """Of all devices together: from the table of `CHIPS`, else as a large matrix product runs on one of them.

    The virtual devices of a CPU share it, so they count as one. Measuring takes about a tenth of a second.
    """
    device = jax.devices()[0]
    known = [chip.flops_per_s[precision] for chip in CHIPS if chip.kind == device.device_kind]
    each = known[0] if known else _measured_flops_per_s(device, precision)
    return each * (jax.process_count() if device.platform == "cpu" else jax.device_count())


def _measured_flops_per_s(device: Any, precision: str) -> float:
    """The best of a few products on one device."""
    rows = ROWS_ON_CPU if device.platform == "cpu" else ROWS
    matrix = jax.device_put(jnp.ones((rows, rows), precision), device)
    product = jax.jit(jnp.matmul)
    product(matrix, matrix).block_until_ready()
    shortest_s = float("inf")
    for _ in range(ATTEMPTS):
        began = time.perf_counter()
        product(matrix, matrix).block_until_ready()
        shortest_s = min(shortest_s, time.perf_counter() - began)
    return 2 * rows**3 / shortest_s
