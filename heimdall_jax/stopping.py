"""A stop by Ctrl-C or SIGTERM, for which a training leaves a checkpoint of the step it is in. Imports no JAX."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator
from types import FrameType

HEED_SECONDS = 3.0
"""What heeds stops may take as long to notice one; a program that compiles or reads data does not look."""
ONE_STOP_SECONDS = 1.0
"""Within which a second signal is the first again: schedulers signal a process and its group, hosts tell each other."""
STOPPED = 128
"""Exit code, plus the signal's number: 130 after Ctrl-C, 143 after SIGTERM, which says "resume me"."""
LOST = 75
"""Exit code of a process whose training lost another one; says "resume me", too (EX_TEMPFAIL of sysexits.h)."""


class Stop:
    """Turns signals into `KeyboardInterrupt(number)`: at once, or, inside `heeded`, where the work asks for it.

    A second signal never waits, nor does one that the work has not noticed after `HEED_SECONDS`.

    Attributes:
        number: The first signal that came, whatever became of it.
        heard: Whether the work has noticed it.
    """

    def __init__(self) -> None:
        self._number: int | None = None
        self._heeding, self._asked_at = False, 0.0
        self.number: int | None = None
        self.heard = False

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """SIGTERM, with which systems end a job, and Ctrl-C, unless the process was started to ignore it.

        Only in the main thread.
        """
        self._number, self.number, self.heard = None, None, False
        alarm = signal.getsignal(signal.SIGALRM)
        numbers = [signal.SIGTERM]
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            numbers.append(signal.SIGINT)
        before = {number: signal.signal(number, self._signalled) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            if self._number is not None:
                signal.setitimer(signal.ITIMER_REAL, 0)
                signal.signal(signal.SIGALRM, alarm)

    @contextlib.contextmanager
    def heeded(self) -> Iterator[None]:
        """Inside, `asked` is called often.

        Raises:
            KeyboardInterrupt: At the end, of a stop that nobody asked for any more.
        """
        self._heeding = True
        try:
            yield
        finally:
            self._heeding = False
            number = self.asked()
        if number is not None:
            raise KeyboardInterrupt(number)

    def asked(self) -> int | None:
        """The signal by which the work should stop, which it now has time to; None: it goes on."""
        if self._number is not None:
            signal.setitimer(signal.ITIMER_REAL, 0)
            self.heard = True
        return self._number

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        self.number = self.number or number
        if self._number is not None:
            if number != signal.SIGALRM and time.monotonic() - self._asked_at < ONE_STOP_SECONDS:
                return
            raise KeyboardInterrupt(self._number)
        if not self._heeding:
            raise KeyboardInterrupt(number)
        self._number, self._asked_at = number, time.monotonic()
        signal.signal(signal.SIGALRM, self._signalled)
        signal.setitimer(signal.ITIMER_REAL, HEED_SECONDS)
