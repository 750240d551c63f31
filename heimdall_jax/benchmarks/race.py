"""Contestants timed in turn, round after round, so that a slow minute of the machine falls on all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

OURS = "heimdall_jax"
"""Name of our own contestant in every race."""
WARM_UPS = 2
PAUSE_S = 0.2
"""Before each turn: threads of the one before may spin on a core for that long, and slow down whoever comes next."""


class Timing(NamedTuple):
    """Seconds of one piece of work."""

    median_s: float
    least_s: float
    most_s: float

    @classmethod
    def of(cls, seconds: list[float]) -> Timing:
        """From every repeat's."""
        return cls(statistics.median(seconds), min(seconds), max(seconds))


@dataclass(frozen=True)
class Result:
    """One line of the report.

    Args:
        work: What was done.
        timings: Of each contestant.
        ratios: Peer's time over ours, the median over rounds, by peer; or another figure by its name.
        targets: What each of `ratios` should be, as text that begins with >= or <=.
        facts: Sizes, versions, reasons why a peer is absent.
    """

    work: str
    timings: dict[str, Timing]
    ratios: dict[str, float]
    targets: dict[str, str] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    def met(self, name: str) -> bool | None:
        """Whether a target is met; None where there is none."""
        if name not in self.targets or name not in self.ratios:
            return None
        sign, limit = self.targets[name].split()
        return self.ratios[name] >= float(limit) if sign == ">=" else self.ratios[name] <= float(limit)


def race(works: Mapping[str, Callable[[], object]], *, repeats: int) -> dict[str, list[float]]:
    """Seconds (repeats) of each; a work must end only when its result is there.

    A turn is a pause, the work once untimed, so that it finds its own data in the caches, and the work. Who runs alone
    has no turns.
    """
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for work in works.values():
        for _ in range(WARM_UPS):
            work()
    for _ in range(repeats):
        for name, work in works.items():
            if len(works) > 1:
                time.sleep(PAUSE_S)
                work()
            start = time.perf_counter()
            work()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def result(
    work: str,
    seconds: Mapping[str, list[float]],
    *,
    targets: Mapping[str, str] | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Result:
    """The line of a race in which `OURS` took part."""
    ratios = {
        name: statistics.median(theirs / ours for theirs, ours in zip(times, seconds[OURS], strict=True))
        for name, times in seconds.items()
        if name != OURS
    }
    timings = {name: Timing.of(times) for name, times in seconds.items()}
    return Result(work, timings, ratios, dict(targets or {}), dict(facts or {}))
