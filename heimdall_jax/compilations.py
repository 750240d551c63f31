"""Compiled programs that outlive their process."""

from __future__ import annotations

from pathlib import Path

import jax


def remember_compilations(runs: Path) -> None:
    """Keep compiled programs beside the runs: a second start skips seconds of compiling."""
    jax.config.update("jax_compilation_cache_dir", str((runs / "cache" / "xla").resolve()))
    # Small ones, too: making a model compiles a hundred.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
