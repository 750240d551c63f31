"""AdamW, its schedule, and how far a gradient may go."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from heimdall_jax.config import TrainingConfig


def make_optimizer(config: TrainingConfig, total_steps: int) -> tuple[optax.GradientTransformation, optax.Schedule]:
    """AdamW with linear warm-up and cosine decay to 1 %; biases and norms do not decay."""
    schedule = optax.warmup_cosine_decay_schedule(
        init_value=config.learning_rate * 0.01,
        peak_value=config.learning_rate,
        warmup_steps=max(1, round(config.warmup_fraction * total_steps)),
        decay_steps=max(2, total_steps),
        end_value=config.learning_rate * 0.01,
    )
    adamw = optax.adamw(schedule, weight_decay=config.weight_decay, mask=_decays)
    return adamw, schedule


def _decays(params: Any) -> Any:
    """Which leaves decay: matrices and kernels, not biases and norms."""
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


def clipped(gradient: Any, norm: jax.Array, limit: float) -> Any:
    """A gradient of this norm, shortened to `limit` where it is longer.

    One product a leaf: `optax.clip_by_global_norm` divides every leaf twice, and XLA on CPU keeps the quotients.
    """
    return optax.tree.scale(jnp.minimum(1.0, limit / norm), gradient)
