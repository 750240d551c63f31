"""What a person sees while work is long: a progress bar, or plain lines where there is no terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

PLAIN_PERIOD_S = 10.0

Listener = Callable[[Mapping[str, Any]], None]
"""Is told each progress as plain values: `work`, `step`, `total`; in training also `epoch`, `loss` (nats),
`error_m`, `seconds_left` (None before a rate is known) and, after the first evaluation, `validation_error_m`,
after a rollback `rollbacks`."""


class Display:
    """Progress of reading and training, on standard error's terminal or as a line every ten seconds.

    Args:
        console: Where to write.
        samples_per_step: To state the rate in samples a second.
        listener: Is told the same, as often as it changes.
    """

    def __init__(self, console: Console, samples_per_step: int, listener: Listener | None = None) -> None:
        self.console, self._samples_per_step, self._listener = console, samples_per_step, listener
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=console, transient=True) if console.is_terminal else None
        self._task = self._bar.add_task("", total=None) if self._bar else None
        self._work, self._plain_at, self._began = "", 0.0, (0.0, 0)
        self._flops, self._peak_flops_per_s = 0.0, 0.0
        self._steps_per_epoch, self._validation, self._rollbacks = 1, {}, 0

    def __enter__(self) -> Display:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def reading(self, done: int, total: int) -> None:
        """Sessions read so far."""
        self._show("reading recordings", "", done, total)

    def failing(self, done: int, total: int) -> None:
        """Receivers that have been made to fail so far."""
        self._show("receivers failing in turn", "", done, total)

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
        rate = self._rate(step)
        text = f"loss {metrics['train/loss']:.3f}  error {metrics['train/error_m']:,.0f} m"
        text += f"  {rate * self._samples_per_step:,.0f} samples/s"
        if self._flops and rate:
            done = rate * self._flops
            text += f"  {done / 1e9:,.1f} GFLOP/s, {done / self._peak_flops_per_s:.1%} of peak"
        numbers = {"epoch": step / self._steps_per_epoch, "loss": metrics["train/loss"]}
        numbers |= {"error_m": metrics["train/error_m"], "seconds_left": (total - step) / rate if rate else None}
        if self._rollbacks:
            numbers["rollbacks"] = self._rollbacks
        self._show("training", text, step, total, numbers | self._validation)

    def _rate(self, step: int) -> float:
        now = time.monotonic()
        if self._work != "training":
            self._began = (now, step)
        since, first = self._began
        return (step - first) / (now - since) if now > since else 0.0

    def _show(self, work: str, text: str, done: int, total: int, numbers: Mapping[str, Any] | None = None) -> None:
        if self._listener:
            self._listener({"work": work, "step": done, "total": total, **(numbers or {})})
        now = time.monotonic()
        fresh, self._work = work != self._work, work
        if self._bar and self._task is not None:
            self._bar.update(self._task, description=f"{work}  {text}", completed=done, total=total)
        elif fresh or done == total or now - self._plain_at >= PLAIN_PERIOD_S:
            self._plain_at = now
            self.console.print(f"{work} {done}/{total}  {text}".rstrip(), highlight=False, soft_wrap=True)
