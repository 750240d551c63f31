"""Metrics on their way to a tracker: each once, over resumed runs and over outages. Imports no JAX.

A (key, step) that the run already holds is dropped: a resumed run, which replays the steps since its last checkpoint,
logs every metric once. What a tracker out of reach does not take waits in the run folder's spool.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from heimdall_jax.errors import StorageError
from heimdall_jax.tracking.spool import Row, Spool

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0
"""Between attempts of `flush` at a tracker out of reach."""

Write = Callable[[Sequence[Row]], None]

_log = logging.getLogger(__name__)


class TrackerAway(StorageError):
    """A tracker is out of reach, or refuses: what it has not taken can be delivered later.

    Attributes:
        passes: Whether waiting may help.
    """

    def __init__(self, message: str, *, passes: bool) -> None:
        super().__init__(message)
        self.passes = passes


class MetricBuffer:
    """Rows waiting to be stored, and which (key, step) the run holds already.

    Args:
        spool: Where rows wait for a tracker out of reach; without one its failures are raised.
        clock: Seconds; a fake one in tests.
    """

    def __init__(self, spool: Spool | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.waiting: list[Row] = []
        self._seen: dict[str, set[int]] = {}
        self.last_step = -1
        self._spool, self._clock = spool, clock
        self._spooled: set[tuple[str, int]] = set()
        self._pause_s, self._try_at = 0.0, float("-inf")

    def start(self, stored: Mapping[str, set[int]]) -> None:
        """Forget the previous run; `stored` says what the new one holds. What its spool holds beyond that waits again.

        Raises:
            StorageError: The spool cannot be read.
        """
        self._seen = {key: set(steps) for key, steps in stored.items()}
        self.last_step = max((max(steps) for steps in stored.values() if steps), default=-1)
        kept = [] if self._spool is None else self._spool.read()
        self.waiting = [row for row in kept if self._is_new(row.key, row.step)]
        self._spooled = {(row.key, row.step) for row in self.waiting}

    def add(self, step: int, metrics: Mapping[str, float]) -> None:
        """Keep the metrics that are new."""
        now_ms = int(time.time() * 1000)
        for key, value in metrics.items():
            if self._is_new(key, step):
                self.waiting.append(Row(int(step), key, float(value), now_ms))

    def flush(self, write: Write, size: int) -> None:
        """Store what waits, or keep it in the spool; a tracker out of reach is asked again only after a pause.

        Raises:
            TrackerAway: It is out of reach, and there is no spool.
            StorageError: The store or the spool failed otherwise.
        """
        if self._clock() < self._try_at:
            self.keep()
            return
        try:
            self.store(write, size)
        except TrackerAway as error:
            if self._spool is None:
                raise
            if self._pause_s == 0.0:
                _log.warning("metrics wait in %s; %s", self._spool.path, error)
            self._pause_s = min(max(FIRST_PAUSE_S, 2 * self._pause_s), LONGEST_PAUSE_S)
            self._try_at = self._clock() + self._pause_s

    def store(self, write: Write, size: int) -> None:
        """Store what waits, at most `size` rows at once; a failure keeps the rest in the spool.

        Raises:
            TrackerAway: The tracker is out of reach.
            StorageError: The store or the spool failed otherwise.
        """
        try:
            for chunk in self.chunks(size):
                write(chunk)
        except TrackerAway:
            self.keep()
            raise
        if self._spool is not None:
            self._spool.clear()
        if self._pause_s > 0.0:
            _log.warning("the tracker answers again: all metrics are stored")
        self._spooled.clear()
        self._pause_s, self._try_at = 0.0, float("-inf")

    def keep(self) -> None:
        """Put what waits into the spool, if there is one, each row once.

        Raises:
            StorageError: The spool cannot be written.
        """
        if self._spool is not None:
            new = [row for row in self.waiting if (row.key, row.step) not in self._spooled]
            self._spool.append(new)
            self._spooled.update((row.key, row.step) for row in new)

    def chunks(self, size: int) -> Iterator[list[Row]]:
        """Waiting rows by step, at most `size` at once; a chunk leaves the buffer once the consumer asks for the next.

        So a failing write loses nothing, and whatever is stored at a kill is a prefix by step.
        """
        self.waiting.sort(key=lambda row: row.step)
        while self.waiting:
            chunk = self.waiting[:size]
            yield chunk
            self.waiting = self.waiting[size:]
            self.last_step = max(self.last_step, chunk[-1].step)

    def _is_new(self, key: str, step: int) -> bool:
        """Whether this is the first time that the buffer sees a metric's step."""
        steps = self._seen.setdefault(key, set())
        if step in steps:
            return False
        steps.add(step)
        return True
