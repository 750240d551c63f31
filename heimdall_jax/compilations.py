"""Compiled programs that outlive their process."""

from __future__ import annotations

import os
from pathlib import Path

import jax


def remember_compilations(runs: Path) -> None:
    """Keep compiled programs beside the runs, or where JAX_COMPILATION_CACHE_DIR says: a second start skips seconds."""
    if os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        return
    jax.config.update("jax_compilation_cache_dir", str((runs / "cache" / "xla").resolve()))
    # Small ones, too: making a model compiles a hundred.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
