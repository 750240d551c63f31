"""Memory: what the C library keeps for the next step and gives back after a phase, and when Python looks for cycles."""

from __future__ import annotations

import contextlib
import ctypes
import gc

OBJECTS_OF_A_COLLECTION = 100_000
"""How many more there are before Python looks for cycles among them: 700 by default. Imports and traces make hundreds
of thousands, which stay, and looking through them took a tenth of the time to a first training step."""

_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8  # glibc's malloc.h


def reuse(*, freed: bool = True) -> None:
    """Keep freed memory for the next step where the C library can (glibc), until `trim`; before JAX starts threads.

    Without `freed` it only lets all threads share one arena, so that a later call may still take effect.

    XLA on CPU allocates a step's working memory anew in every step. glibc maps pieces of that size afresh, and all
    arenas but the first are too small for them: each step then pays a page fault for every 4 KiB it touches.
    """
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_ARENA_MAX, 1)
        if freed:
            libc.mallopt(_M_MMAP_MAX, 0)
            libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def collect_rarely() -> None:
    """Let Python look for cyclic garbage less often; the rest is freed at once, as ever."""
    gc.set_threshold(OBJECTS_OF_A_COLLECTION)


def trim() -> None:
    """Return freed memory to the system where the C library can (glibc).

    Compiling leaves hundreds of megabytes in small pieces, which glibc would keep until the process ends.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def give_back() -> None:
    """Let compiled programs go, too; those that are needed again come from the cache on disk."""
    import jax  # `--help` sets memory up without it

    jax.clear_caches()
    trim()
