"""How a training went, in the run's own folder: an append-only file beside what the tracker keeps. Imports no JAX.

A line is a JSON object of one kind: `begun` (a process goes on from a step), `costs` of a step, `steps` (means over
some), `validated` and `rolled_back`. Nothing is rewritten: whoever reads drops what a later `begun` or `rolled_back`
trained again, so that every step is told once.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from heimdall_jax.errors import DataError, StorageError, explain
from heimdall_jax.outside import parse_json, read_file

HISTORY = "history.jsonl"
ROWS = 2000
"""About as many rows of steps as a run has: more are no sharper in a picture."""
MAX_BYTES = 64 << 20
"""Of the file; one of `ROWS` steps and as many evaluations has under 1 MB."""
LAST_STEP = 1 << 40
MAX_LINE_BYTES, MAX_LINE_VALUES = 4096, 64


class Steps(NamedTuple):
    """Training from step `first` up to `end`, without it: means, and the largest gradient norm.

    Rates are over the steps that followed one another without an evaluation between; NaN where none did.
    """

    first: int
    end: int
    loss: float
    error_m: float
    gradient_norm: float
    learning_rate: float
    samples_per_s: float
    flops_per_s: float
    share_of_peak: float


class Validated(NamedTuple):
    """An evaluation of the state at a step on the validation split: loss in nats, mean error in metres."""

    step: int
    loss: float
    error_m: float


@dataclass
class History:
    """How a training went.

    Attributes:
        steps: Rows in order, each step in one of them.
        validated: Evaluations in order.
        resumed: Steps from which another process went on.
        rolled_back: The step that went wrong, and the one that training went back to, of each rollback.
        steps_per_epoch: So many make an epoch.
    """

    steps: list[Steps] = field(default_factory=list)
    validated: list[Validated] = field(default_factory=list)
    resumed: list[int] = field(default_factory=list)
    rolled_back: list[tuple[int, int]] = field(default_factory=list)
    steps_per_epoch: int = 1

    def _forget_after(self, step: int) -> None:
        """Drop what is trained again from a step on."""
        self.steps = [row for row in self.steps if row.end <= step]
        self.validated = [row for row in self.validated if row.step <= step]


class HistoryWriter:
    """Takes what a tracker takes, and keeps it in a file; nothing is read from the devices for it.

    Args:
        path: Of the file, which is made or gone on with.
        begun: Step that training goes on from.
        total_steps: Of the whole training.
        steps_per_epoch: So many make an epoch.
        samples_per_step: Of all processes together.
        clock: Seconds; a fake one in tests.
    """

    def __init__(
        self,
        path: Path,
        *,
        begun: int,
        total_steps: int,
        steps_per_epoch: int,
        samples_per_step: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path, self._clock = path, clock
        self._every = max(1, -(-total_steps // ROWS))
        about = {"begun": begun, "steps_per_epoch": steps_per_epoch, "samples_per_step": samples_per_step}
        self._lines: list[dict[str, Any]] = [about]
        self._some: list[Mapping[str, float]] = []
        self._first, self._seconds, self._timed = 0, 0.0, 0
        self._step_s = self._last_at = math.nan

    def costs(self, flops_per_step: float, peak_flops_per_s: float) -> None:
        """Arithmetic operations of a step on all devices together, and how many these can do in a second."""
        self._lines.append({"costs": {"flops_per_step": flops_per_step, "peak_flops_per_s": peak_flops_per_s}})

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Hold what the loop tells of a step until `flush`: `train/…`, `validation/…` or `train/rolled_back_to`."""
        if "train/rolled_back_to" in metrics:
            self._end_row()
            self._lines.append({"rolled_back": step, "to": int(metrics["train/rolled_back_to"])})
        elif "validation/loss" in metrics:
            self._end_row()
            self._lines.append({"validated": step, **_told(metrics, "validation", ("loss", "error_m"))})
        else:
            self._take(step, metrics)

    def flush(self) -> None:
        """Write what is held.

        Raises:
            StorageError: The file cannot be written.
        """
        self._end_row()
        if not self._lines:
            return
        text = "".join(json.dumps(line) + "\n" for line in self._lines)
        try:
            with self._path.open("ab+") as file:
                _drop_torn_line(file)
                file.write(text.encode())
        except OSError as error:
            cure = "Free space, then run again with --resume."
            raise StorageError(explain(f"writing {self._path}", got=error, allowed="a file", cure=cure)) from error
        self._lines.clear()

    def _take(self, step: int, metrics: Mapping[str, float]) -> None:
        now = self._clock()
        # The last step before a pause is told at once, not while a next one runs: a time counts once a next is told.
        if self._step_s == self._step_s:
            self._seconds, self._timed = self._seconds + self._step_s, self._timed + 1
        self._step_s, self._last_at = now - self._last_at, now
        if not self._some:
            self._first = step
        self._some.append(metrics)
        if (step + 1) % self._every == 0:
            self._end_row(pause=False)

    def _end_row(self, *, pause: bool = True) -> None:
        """Sum up the steps held, if any; after a pause the time to the next step is no step's."""
        if self._some:
            names = ("loss", "error_m", "learning_rate")
            means = {name: sum(one[f"train/{name}"] for one in self._some) / len(self._some) for name in names}
            norm = max(one["train/gradient_norm"] for one in self._some)
            row = {f"train/{name}": value for name, value in means.items()} | {"train/gradient_norm": norm}
            told = _told(row, "train", (*names, "gradient_norm"))
            time_told = {"seconds": self._seconds, "timed": self._timed}
            self._lines.append({"steps": [self._first, self._first + len(self._some)], **told, **time_told})
        self._some, self._seconds, self._timed = [], 0.0, 0
        if pause:
            self._step_s = self._last_at = math.nan


def read_history(path: Path) -> History | None:
    """The file of a run; None where there is none.

    Raises:
        DataError: It is no such file, or more than is allowed.
        StorageError: It cannot be read.
    """
    if not path.exists():
        return None
    content = read_file(path, MAX_BYTES)
    history, about = History(), {"samples_per_step": 0.0, "flops_per_step": 0.0, "peak_flops_per_s": math.nan}
    for number, line in enumerate(content[: content.rfind(b"\n") + 1].splitlines(), 1):
        try:
            row = parse_json(line, most_bytes=MAX_LINE_BYTES, most_values=MAX_LINE_VALUES)
            _add(history, about, row)
        except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError) as error:
            cure = "Remove the file: the run is whole without it, and its page has no curves then."
            what, allowed = f"{path.name}, line {number}", "a line that training wrote"
            raise DataError(explain(what, got=repr(error), allowed=allowed, cure=cure)) from error
    return history


def _add(history: History, about: dict[str, float], row: dict[str, Any]) -> None:
    """Take one line."""
    if "begun" in row:
        begun, about["samples_per_step"] = _step(row["begun"]), float(row["samples_per_step"])
        history.steps_per_epoch = max(1, _step(row["steps_per_epoch"]))
        history._forget_after(begun)
        history.resumed += [begun] if begun else []
    elif "costs" in row:
        about |= {name: float(row["costs"][name]) for name in ("flops_per_step", "peak_flops_per_s")}
    elif "validated" in row:
        history.validated.append(Validated(_step(row["validated"]), _number(row["loss"]), _number(row["error_m"])))
    elif "rolled_back" in row:
        step, to = _step(row["rolled_back"]), _step(row["to"])
        history._forget_after(to)
        history.rolled_back.append((step, to))
    else:
        first, end = map(_step, row["steps"])
        rate = float(row["timed"]) / float(row["seconds"]) if row["seconds"] else math.nan
        done = rate * about["flops_per_step"] if about["flops_per_step"] else math.nan
        means = (_number(row[name]) for name in ("loss", "error_m", "gradient_norm", "learning_rate"))
        rates = rate * about["samples_per_step"], done, done / about["peak_flops_per_s"]
        history.steps.append(Steps._make((first, end, *means, *rates)))


def _told(metrics: Mapping[str, float], of: str, names: tuple[str, ...]) -> dict[str, float | None]:
    """Numbers by their short names; JSON has none that are not finite."""
    values = {name: float(metrics[f"{of}/{name}"]) for name in names}
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def _step(value: Any) -> int:
    step = int(value)
    if not 0 <= step <= LAST_STEP:
        raise ValueError(f"step {step}")
    return step


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _drop_torn_line(file: Any) -> None:
    """End an open file after its last whole line: a kill may have cut off what followed."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - MAX_LINE_BYTES))
    tail = file.read()
    whole = size - len(tail) + tail.rfind(b"\n") + 1
    if whole < size:
        file.truncate(whole)
