"""The loop: evaluate on the old state, save, next batch, step, log one step late. Effects come by argument."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol, runtime_checkable

from heimdall_jax.config import TrainingConfig
from heimdall_jax.errors import NonFiniteError, explain
from heimdall_jax.stopping import Stop
from heimdall_jax.tracking.trackers import Log
from heimdall_jax.training.checkpoints import Checkpoints
from heimdall_jax.training.spikes import BadStep, Progress, RollBack, SpikeWatch, after_rollback
from heimdall_jax.training.step import DeviceBatch, StepReport, Trainer, TrainState
from heimdall_jax.types import Sample

SAVE = 1
"""What is wished of all processes where it is no signal's number; above it, to stop."""


@runtime_checkable
class Display(Protocol):
    """What a person sees while it trains."""

    def update(self, step: int, total: int, metrics: dict[str, float]) -> None:
        """Called after each logged step."""

    def validated(self, step: int, metrics: dict[str, float]) -> None:
        """Called after each evaluation."""

    def rolled_back(self, step: int, to: int, why: str) -> None:
        """Called when training goes back from a step."""


@dataclass
class Loop:
    """One training run.

    Args:
        trainer: The pure functions.
        batches: From a step, the batches from there on.
        validate: Metrics of a state on the validation split; must hold `loss`.
        checkpoints: Where states are kept.
        tracker: Where metrics go; it drops what it already has.
        config: Patience, checkpoint period and what is done about loss spikes.
        total_steps: Where to stop.
        evaluate_every: Steps between evaluations.
        record: Goes into every checkpoint beside the loop's own progress.
        display: For a person.
        measure: Called after the first step, with the state that it gave and the batch that it got.
        keep_bad: Keeps the batch of a step that went wrong; says where, and whose it is.
        clock: Seconds; a fake one in tests.
        stop: Asked once a step.

    Of several processes each sends what it wants of all, a stop or a save, along with a batch, and takes heed of what
    comes back with the step's report: all of them learn it before the same step.
    """

    trainer: Trainer
    batches: Callable[[int], Iterator[Sample]]
    validate: Callable[[TrainState], dict[str, float]]
    checkpoints: Checkpoints
    tracker: Log
    config: TrainingConfig
    total_steps: int
    evaluate_every: int
    record: dict[str, Any]
    display: Display
    measure: Callable[[TrainState, DeviceBatch], None] = lambda state, batch: None
    keep_bad: Callable[[BadStep], str] = lambda bad: ""
    clock: Callable[[], float] = time.monotonic
    progress: Progress = field(default_factory=Progress)
    stop: Stop = field(default_factory=Stop)
    _wished: int = field(default=0, init=False)
    _saved_step: int = field(default=-1, init=False)

    def run(self, state: TrainState) -> TrainState:
        """Train from `state` to the end or until patience runs out; returns the last state.

        Raises:
            NonFiniteError: A step gave NaN or Inf; names the step and its samples. No checkpoint is made of it.
            StorageError: A checkpoint could not be written.
            KeyboardInterrupt: It was stopped; there is a checkpoint of the step, unless a step took too long.
        """
        with self.stop.heeded():
            while True:
                try:
                    return self._run(state)
                except RollBack as trouble:
                    state = self._back(trouble.bad)

    def _run(self, state: TrainState) -> TrainState:
        first = step = int(state.step)
        batches = self.batches(step + self.progress.skipped_batches)
        pending: tuple[int, StepReport] | None = None
        recent: deque[tuple[int, Sample]] = deque(maxlen=2)
        watch = SpikeWatch.of(self.config)
        saved_at = self.clock()
        while True:
            due = step % self.evaluate_every == 0 or step == self.total_steps
            validation = None
            if due and self.progress.evaluated_step != step:
                pending = self._log(pending, recent)
                validation = self.validate(state)
                self.progress.judge(step, validation["loss"])
                self.tracker.log(step, {f"validation/{key}": value for key, value in validation.items()})
                self.display.validated(step, validation)
            wish = self._wish(saved_at)
            if self.trainer.placement.processes == 1:
                self._wished = wish
            stopped_by = self._wished if self._wished > SAVE else None
            unsaved = (stopped_by is not None or watch.is_anchor(step)) and self.checkpoints.latest() != step
            if validation is not None or unsaved or self._wished == SAVE:
                pending = self._log(pending, recent)
                self._save(step, state, validation)
                saved_at, self._saved_step = self.clock(), step
                self._wished = 0 if self._wished == SAVE else self._wished
            if stopped_by is not None:
                self.checkpoints.wait()
                raise KeyboardInterrupt(stopped_by)
            if step == self.total_steps or self.progress.bad_evaluations >= self.config.patience:
                break
            batch = next(batches)
            recent.append((step, batch))
            placed = self.trainer.place(batch, wish)
            state, report = self.trainer.step(state, placed)
            self._log(pending, recent)
            pending = step, report
            if step == first:  # told at once; what is measured then has the devices for itself
                pending = self._log(pending, recent)
                self.measure(state, placed)
            step += 1
        self.checkpoints.wait()
        return state

    def _wish(self, saved_at: float) -> int:
        """The signal by which this process should stop, `SAVE` if it has not saved for long, or 0."""
        return self.stop.asked() or SAVE * (self.clock() - saved_at >= self.config.checkpoint_seconds)

    def _log(self, pending: tuple[int, StepReport] | None, recent: deque[tuple[int, Sample]]) -> None:
        """Log a finished step; stop if its numbers were not finite, go back where that or a loss spike allows it."""
        if pending is None:
            return
        step, report = pending
        metrics = {f"train/{key}": value for key, value in report.metrics.compute().items()}
        if report.wish is not None and (wish := int(report.wish)) > (SAVE if step < self._saved_step else 0):
            self._wished = max(self._wished, wish)
        metrics["train/gradient_norm"] = float(report.gradient_norm)
        metrics["train/learning_rate"] = float(report.learning_rate)
        watch, loss = SpikeWatch.of(self.config), metrics["train/loss"]
        finite = bool(report.finite)
        why = watch.spiked(loss, self.progress) if finite else "NaN or Inf"
        if why is not None:
            number, leaves = step + self.progress.skipped_batches, report.finite_leaves.tolist()
            bad = BadStep(step, number, dict(recent)[step], why, loss, metrics["train/gradient_norm"], leaves)
            got = f"{why} from samples {[int(index) for index in bad.batch['index'] if index >= 0]}{self.keep_bad(bad)}"
            if watch.may_go_back(self.progress):
                raise RollBack(bad._replace(why=got))
            cure = "Look at these samples; the last checkpoint is good (--resume). A lower learning rate may help."
            raise NonFiniteError(explain(f"training step {step}", got=got, allowed="finite", cure=cure))
        self.tracker.log(step, metrics)
        self.display.update(step + 1, self.total_steps, metrics)

    def _back(self, bad: BadStep) -> TrainState:
        """The state to go on from, of a checkpoint before a step that went wrong; those after it are gone."""
        target = SpikeWatch.of(self.config).target(bad.step, self.progress)
        self.checkpoints.go_back(target)
        self.progress = after_rollback(self.checkpoints.record(target)["progress"], self.progress, bad, target)
        self.tracker.log(bad.step, {"train/rolled_back_to": float(target)})
        self.display.rolled_back(bad.step, target, bad.why)
        return self.checkpoints.state(target, self.trainer.start())

    def _save(self, step: int, state: TrainState, validation: dict[str, float] | None) -> None:
        """Metrics first, then the state: a resumed run may replay metrics (dropped by step), never miss them."""
        self.tracker.flush()
        record = self.record | {"progress": asdict(self.progress), "validation": validation}
        self.checkpoints.save(step, state, record, None if validation is None else validation["loss"])
