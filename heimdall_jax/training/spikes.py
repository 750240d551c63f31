"""Steps that go wrong: loss spikes told by a robust rule, and how far to go back from one.

A spike is a loss above the median of those before it by `factor` times 1.4826 times their median absolute deviation,
the standard deviation of a normal variable (Hampel's identifier; Davies and Gather, 1993). Training then goes back to a
checkpoint about a window before the spike and passes over the batches that led there, as PaLM's did by hand
(Chowdhery et al. 2022, section 5.1: 100 steps back, the same data at another time made no spike again).

Steps count updates of the weights, so a step taken back is taken again, with another batch: `Progress` counts the
batches passed over apart. All that the rule reads is in the checkpoint gone back to, and which one that is follows from
the step alone, so a run that is killed and resumed goes the same way.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from heimdall_jax.config import TrainingConfig
from heimdall_jax.types import Sample

MAD_TO_SIGMA = 1.4826


@dataclass
class Progress:
    """What the loop itself must remember between steps; saved with every checkpoint.

    Attributes:
        best_loss: Of all evaluations.
        best_step: Its step.
        bad_evaluations: Since then.
        evaluated_step: The last one.
        skipped_batches: Step s takes batch s and so many more.
        rollbacks: So far.
        rolled_back_to: Never before this step again.
        recent_losses: Of the steps before, a window at most; kept where spikes are watched for.
    """

    best_loss: float = math.inf
    best_step: int = -1
    bad_evaluations: int = 0
    evaluated_step: int = -1
    skipped_batches: int = 0
    rollbacks: int = 0
    rolled_back_to: int = 0
    recent_losses: list[float] = field(default_factory=list)

    def judge(self, step: int, loss: float) -> None:
        """Take note of a validation loss."""
        self.evaluated_step = step
        if loss < self.best_loss:
            self.best_loss, self.best_step, self.bad_evaluations = loss, step, 0
        else:
            self.bad_evaluations += 1


class BadStep(NamedTuple):
    """A step that went wrong.

    Attributes:
        step: Updates of the weights before it.
        number: Of its batch.
        batch: On the host, as the step got it.
        why: In words.
        loss: Nats per fix.
        gradient_norm: Of all parameters.
        finite_leaves: Of each parameter, in the order of the tree: whether its gradient is finite.
    """

    step: int
    number: int
    batch: Sample
    why: str
    loss: float
    gradient_norm: float
    finite_leaves: Sequence[bool]


class RollBack(Exception):
    """Training must go back from this step; for the loop itself."""

    def __init__(self, bad: BadStep) -> None:
        super().__init__(bad.why)
        self.bad = bad


@dataclass(frozen=True)
class SpikeWatch:
    """The rule of a config; `factor` None is off."""

    factor: float | None
    window: int
    most: int

    @classmethod
    def of(cls, config: TrainingConfig) -> SpikeWatch:
        """Its `spike_*` settings."""
        return cls(config.spike_factor, config.spike_window, config.spike_rollbacks)

    @property
    def anchor_every(self) -> int | None:
        """Steps between the checkpoints that can be gone back to; None where spikes are not watched for."""
        return None if self.factor is None else self.window

    def is_anchor(self, step: int) -> bool:
        """Whether a checkpoint is due that can be gone back to."""
        return self.factor is not None and step % self.window == 0

    def may_go_back(self, progress: Progress) -> bool:
        """Whether a rollback is left."""
        return self.factor is not None and progress.rollbacks < self.most

    def spiked(self, loss: float, progress: Progress) -> str | None:
        """What is wrong with a finite loss, given those before it; None if nothing. A good one is taken note of."""
        if self.factor is None:
            return None
        recent = progress.recent_losses
        if len(recent) == self.window and self.may_go_back(progress):
            middle = float(np.median(recent))
            spread = MAD_TO_SIGMA * float(np.median(np.abs(np.subtract(recent, middle))))
            if spread > 0 and loss > middle + self.factor * spread:
                return f"a loss of {loss:.4g}, {(loss - middle) / spread:.1f} spreads above the {self.window} before"
        progress.recent_losses = [*recent[1 - self.window :], loss] if self.window > 1 else [loss]
        return None

    def target(self, step: int, progress: Progress) -> int:
        """The step to go back to: the last anchor but one, so a window or more, but never back twice over."""
        return max((step // self.window - 1) * self.window, progress.rolled_back_to)


def after_rollback(saved: dict[str, Any], now: Progress, bad: BadStep, target: int) -> Progress:
    """The progress of the checkpoint gone back to, its next batch the one after the bad one."""
    restored = Progress(**saved)
    restored.rollbacks, restored.rolled_back_to = now.rollbacks + 1, target
    restored.skipped_batches = bad.number + 1 - target
    return restored
