"""Memory that a phase of a run leaves behind: programs nobody calls again, and what the allocator keeps for itself."""

from __future__ import annotations

import contextlib
import ctypes

import jax


def trim() -> None:
    """Return freed memory to the system where the C library can (glibc).

    Compiling leaves hundreds of megabytes in small pieces, which glibc would keep until the process ends.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def give_back() -> None:
    """Let compiled programs go, too; those that are needed again come from the cache on disk."""
    jax.clear_caches()
    trim()
