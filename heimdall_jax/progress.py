"""How far long work is: whoever does it says so, and whoever watches hears it. Nobody need be watching."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar, runtime_checkable

Item = TypeVar("Item")
Told = Callable[[int, int], None]
"""Is called with (done, total)."""

BYTES = "B"
"""The unit that is shown as kB, MB, GB."""
PERIOD_S = 0.05
"""Between two words of `counted`: items may be millions."""


@runtime_checkable
class Watcher(Protocol):
    """Who hears of progress."""

    def tell(self, work: str, done: int = 0, total: int | None = None, unit: str = "") -> None:
        """So much of the work is done; `total` is None where nobody knows how much there is."""
        ...

    def pause(self) -> None:
        """Another watches from now on."""
        ...


_watching: list[Watcher] = []


@contextlib.contextmanager
def watched(watcher: Watcher) -> Iterator[None]:
    """Inside, `watcher` hears of all work of this process, in whichever thread; one watches at a time."""
    for other in _watching[-1:]:
        other.pause()
    _watching.append(watcher)
    try:
        yield
    finally:
        watcher.pause()
        _watching.remove(watcher)


def pause() -> None:
    """Leave the terminal to results that are about to be printed."""
    for watcher in _watching[-1:]:
        watcher.pause()


def tell(work: str, done: int = 0, total: int | None = None, unit: str = "") -> None:
    """Say how far work is.

    Args:
        work: What is done, in words: "writing sessions".
        done: So far, in `unit`.
        total: In the end; None where nobody knows.
        unit: What is counted: "sessions", or `BYTES`.
    """
    for watcher in _watching[-1:]:
        watcher.tell(work, done, total, unit)


def told_as(work: str, unit: str) -> Told:
    """A function of (done, total) that says how far `work` is."""
    return lambda done, total: tell(work, done, total, unit)


def counted(items: Iterable[Item], total: int, work: str, unit: str, *, each: int = 1) -> Iterator[Item]:
    """The same items; as they are taken, it is told how many were, at `each` a time."""
    tell(work, 0, total, unit)
    said_at = time.monotonic()
    for number, item in enumerate(items, 1):
        yield item
        if (now := time.monotonic()) - said_at >= PERIOD_S:
            tell(work, min(number * each, total), total, unit)
            said_at = now
    tell(work, total, total, unit)
