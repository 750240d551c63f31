"""What a person sees while work is long: a progress bar, or plain lines where there is no terminal."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, NamedTuple

from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from heimdall_jax import progress

PLAIN_PERIOD_S, CI_PERIOD_S = 10.0, 60.0
"""Between two lines where there is no terminal, and where `CI` is set: there, short work says nothing at all."""
STEADY_S = 1.0
"""Work that took less tells no rate."""

Listener = Callable[[Mapping[str, Any]], None]
"""Is told each progress as plain values: `work`, `step`, `total`; in training also `epoch`, `loss` (nats),
`error_m`, `seconds_left` (None before a rate is known) and, after the first evaluation, `validation_error_m`,
after a rollback `rollbacks`. Work of which nobody knows how much there is has a `total` of 0."""


class _Work(NamedTuple):
    """Work that goes on: when it began here and how much was done then, and its line of the bar."""

    began_s: float
    first: int
    task: TaskID | None


def beside(results: Console) -> Console:
    """Where progress goes: to the terminal that shows the results, too, else to standard error."""
    return results if results.is_terminal else Console(stderr=True)


def in_ci() -> bool:
    """Whether the environment's `CI` says that no person watches."""
    return os.environ.get("CI", "").lower() not in {"", "0", "false"}


class Display:
    """Progress of all work: bars with rate and time left on a terminal, else a plain line every ten seconds.

    Args:
        console: Where to write.
        samples_per_step: To state the rate of training in samples a second.
        listener: Is told the same, as often as it changes.
    """

    def __init__(self, console: Console, samples_per_step: int = 1, listener: Listener | None = None) -> None:
        self.console, self._samples_per_step, self._listener = console, samples_per_step, listener
        self._is_terminal = console.is_terminal and not console.is_dumb_terminal
        self._bar: Progress | None = None
        self._at_work: dict[str, _Work] = {}
        self._lock, self._watch = threading.RLock(), progress.watched(self)
        self._period_s = CI_PERIOD_S if in_ci() else PLAIN_PERIOD_S
        self._plain_at = time.monotonic() if in_ci() else float("-inf")
        self._flops, self._peak_flops_per_s = 0.0, 0.0
        self._steps_per_epoch, self._validation, self._rollbacks = 1, {}, 0

    def __enter__(self) -> Display:
        self._watch.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watch.__exit__(kind, error, trace)

    def pause(self) -> None:
        """Leave the terminal to others; what is told next takes it again."""
        with self._lock:
            if self._bar is not None:
                self._bar.stop()
            self._bar = None
            self._at_work.clear()

    def tell(self, work: str, done: int = 0, total: int | None = None, unit: str = "") -> None:
        """See `progress.tell`."""
        self._show(work, "", done, total, unit)

    def reading(self, done: int, total: int) -> None:
        """Sessions read so far."""
        self.tell("reading recordings", done, total, "sessions")

    def failing(self, done: int, total: int) -> None:
        """Receivers that have been made to fail so far."""
        self.tell("receivers failing in turn", done, total, "receivers")

    def costs(self, flops: float, peak_flops_per_s: float) -> None:
        """What a training step takes, arithmetic operations, and what the devices can do: told as utilisation."""
        self._flops, self._peak_flops_per_s = flops, peak_flops_per_s

    def epochs(self, steps_per_epoch: int) -> None:
        """How long an epoch is."""
        self._steps_per_epoch = steps_per_epoch

    def validated(self, step: int, metrics: dict[str, float]) -> None:
        """The mean error (metres) of the evaluation at a step goes with what is told from then on."""
        self._validation = {"validation_error_m": metrics["error_m"]}

    def rolled_back(self, step: int, to: int, why: str) -> None:
        """Training goes back from a step that went wrong."""
        self._rollbacks += 1
        text = f"note: training goes back from step {step} to {to}: {why}"
        self.console.print(text, highlight=False, soft_wrap=True)

    def update(self, step: int, total: int, metrics: dict[str, float]) -> None:
        """A training step's loss (nats), mean error and rate; step times are averaged since training began here."""
        with self._lock:
            rate, left_s = self._pace("training", step, total)
        text = f"loss {metrics['train/loss']:.3f}  error {metrics['train/error_m']:,.0f} m"
        text += f"  {rate * self._samples_per_step:,.0f} samples/s"
        if self._flops and rate:
            done = rate * self._flops
            text += f"  {done / 1e9:,.1f} GFLOP/s, {done / self._peak_flops_per_s:.1%} of peak"
        numbers = {"epoch": step / self._steps_per_epoch, "loss": metrics["train/loss"]}
        numbers |= {"error_m": metrics["train/error_m"], "seconds_left": left_s}
        if self._rollbacks:
            numbers["rollbacks"] = self._rollbacks
        self._show("training", text, step, total, "steps", numbers | self._validation)

    def _pace(self, work: str, done: int, total: int | None) -> tuple[float, float | None]:
        """Units a second since the work began here, and seconds to its end where both are known."""
        at_work = self._at_work.get(work)
        now = time.monotonic()
        if at_work is None or now <= at_work.began_s:
            return 0.0, None
        rate = (done - at_work.first) / (now - at_work.began_s)
        return rate, (total - done) / rate if rate > 0 and total is not None else None

    def _show(
        self, work: str, text: str, done: int, total: int | None, unit: str, numbers: Mapping[str, Any] | None = None
    ) -> None:
        with self._lock:
            if self._listener:
                self._listener({"work": work, "step": done, "total": total or 0, **(numbers or {})})
            fresh = self._begin(work, done, total, unit)
            rest = self._rate_and_rest(work, done, total, "" if text else unit)
            said = "  ".join(filter(None, (_amount(done, total, unit), text, rest)))
            began_s, _, task = self._at_work[work]
            finished = done == total
            if self._bar is not None and task is not None:
                self._bar.update(task, completed=done, total=total, said=said)
            else:
                told = fresh or (finished and time.monotonic() - began_s >= STEADY_S)
                self._print(f"{work} {said}".rstrip(), always=told and unit != progress.BYTES and not in_ci())
            if finished:
                self._end(work)

    def _begin(self, work: str, done: int, total: int | None, unit: str) -> bool:
        """Whether the work is new; other work has ended then, except that transfers are part of any."""
        before = self._at_work.get(work)
        if before is not None and done >= before.first:
            return False
        for other in [work] if unit == progress.BYTES else list(self._at_work):
            self._end(other)
        task = None
        if self._is_terminal:
            if self._bar is None:
                said = (TextColumn(f"{{task.{it}}}", markup=False) for it in ("description", "fields[said]"))
                columns = (SpinnerColumn(), next(said), BarColumn(20), next(said), TimeElapsedColumn())
                self._bar = Progress(*columns, console=self.console, transient=True)
                self._bar.start()
            task = self._bar.add_task(work, total=total, said="")
        self._at_work[work] = _Work(time.monotonic(), done, task)
        return True

    def _end(self, work: str) -> None:
        ended = self._at_work.pop(work, None)
        if self._bar is not None and ended is not None and ended.task is not None:
            self._bar.remove_task(ended.task)
            if not self._at_work:
                self._bar.stop()
                self._bar = None

    def _print(self, line: str, *, always: bool) -> None:
        now = time.monotonic()
        if always or now - self._plain_at >= self._period_s:
            self._plain_at = now
            self.console.print(line, highlight=False, soft_wrap=True, markup=False)

    def _rate_and_rest(self, work: str, done: int, total: int | None, unit: str) -> str:
        """Units a second, where there is a unit, and the time that is left."""
        rate, left_s = self._pace(work, done, total)
        if rate <= 0 or time.monotonic() - self._at_work[work].began_s < STEADY_S:
            return ""
        each = f"{decimal(int(rate))}/s" if unit == progress.BYTES else f"{rate:,.3g} {unit}/s" if unit else ""
        rest = "" if left_s is None or done == total else f"{_duration(left_s)} left"
        return "  ".join(filter(None, (each, rest)))


def _amount(done: int, total: int | None, unit: str) -> str:
    if total is None:
        return ""
    return f"{decimal(done)}/{decimal(total)}" if unit == progress.BYTES else f"{done:,}/{total:,} {unit}".rstrip()


def _duration(seconds: float) -> str:
    """As a person says it: 42 s, 3 min, 1 h 20 min."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
