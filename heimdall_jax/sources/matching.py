"""Which measurement belongs to which recording session: the platform's tables hold no key from one to the other."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter
from typing import NamedTuple

FREQUENCY_TOLERANCE_HZ = 10_000


@dataclass(frozen=True)
class Interval:
    """When a session recorded and what tells its measurements: `end` None is open, task or frequency may be unknown."""

    session_id: str
    start: datetime
    end: datetime | None
    task_id: str | None
    frequency_hz: float | None


class Measurement(NamedTuple):
    """One station's measurement; `key` is its recording's, None where there is none. A tuple, as there are many."""

    time: datetime
    station_id: str
    frequency_hz: float
    rss_db: float | None
    snr_db: float | None
    key: str | None
    sample_rate_hz: float | None
    samples: int | None
    iq_format: str | None = None


def belongs(measurement: Measurement, session: Interval) -> bool:
    """Whether time is in [start, end), frequency within 10 kHz and the task in the key, as far as each is known."""
    if measurement.time < session.start or (session.end is not None and measurement.time >= session.end):
        return False
    if session.frequency_hz is not None:
        offset = abs(measurement.frequency_hz - session.frequency_hz)
        if offset > FREQUENCY_TOLERANCE_HZ:
            return False
    return session.task_id is None or measurement.key is None or session.task_id in measurement.key.split("/")


def match(sessions: Sequence[Interval], measurements: Iterable[Measurement]) -> dict[str, dict[str, Measurement]]:
    """Measurements by session and station.

    A measurement belongs to one session only, so that no recording is on two sides of a split: of those it fits,
    one whose task its key names, then the one that started last. Per station the highest SNR counts, then the first.
    """
    waiting = sorted(sessions, key=lambda session: session.start, reverse=True)
    running = _Running()
    found: dict[str, dict[str, Measurement]] = {session.session_id: {} for session in sessions}
    for measurement in sorted(measurements, key=attrgetter("time")):
        while waiting and waiting[-1].start <= measurement.time:
            running.add(waiting.pop())
        best = running.best(measurement)
        if best is None:
            continue
        at_station = found[best.session_id]
        held = at_station.get(measurement.station_id)
        if held is None or _snr(measurement) > _snr(held):
            at_station[measurement.station_id] = measurement
    return found


class _Running:
    """Sessions that have started, by task and all in a row: thousands may be open, of which a measurement fits one."""

    def __init__(self) -> None:
        self._by_task: dict[str, list[Interval]] = {}
        self._untold: list[Interval] = []
        self._all: list[Interval] = []

    def add(self, session: Interval) -> None:
        """Later ones after earlier ones."""
        self._all.append(session)
        if session.task_id is None:
            self._untold.append(session)
        else:
            self._by_task.setdefault(session.task_id, []).append(session)

    def best(self, measurement: Measurement) -> Interval | None:
        """Of the sessions it belongs to one whose task its key names, else the one that started last."""
        if measurement.key is None:
            return _last(self._all, measurement)
        found = None
        for part in measurement.key.split("/"):
            named = self._by_task.get(part)
            session = None if named is None else _last(named, measurement)
            if session is not None and (found is None or session.start > found.start):
                found = session
        return _last(self._untold, measurement) if found is None else found


def _last(sessions: list[Interval], measurement: Measurement) -> Interval | None:
    """The latest that a measurement belongs to; those that end before it at the list's end are dropped on the way."""
    while sessions and (end := sessions[-1].end) is not None and end <= measurement.time:
        sessions.pop()
    for session in reversed(sessions):
        if belongs(measurement, session):
            return session
    return None


def _snr(measurement: Measurement) -> float:
    """SNR for comparison; an unknown one is the worst."""
    known = measurement.snr_db is not None and not math.isnan(measurement.snr_db)
    return measurement.snr_db if known and measurement.snr_db is not None else -math.inf
