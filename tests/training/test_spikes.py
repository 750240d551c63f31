"""Loss spikes: the rule that tells them, and a run that goes back from one, to the bit the same however it is cut."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from heimdall_jax.errors import NonFiniteError
from heimdall_jax.tracking.trackers import MemoryTracker
from heimdall_jax.training.batches import training_batches
from heimdall_jax.training.checkpoints import Checkpoints
from heimdall_jax.training.dataset import HeimdallDataset
from heimdall_jax.training.loop import Loop
from heimdall_jax.training.spikes import BadStep, Progress, SpikeWatch
from heimdall_jax.training.step import Trainer, TrainState
from heimdall_jax.types import Sample
from tests.training.small_loop import AUGMENTATION, STEPS, TRAINING, Silent, assert_equal, make_loop

WINDOW = 6
WATCHED = dataclasses.replace(TRAINING, spike_factor=30.0, spike_window=WINDOW, spike_rollbacks=2)
SPIKY = 13
"""Batch whose labels are a million metres off."""


def off(number: int, batch: Sample) -> Sample:
    return batch | {"position_m": batch["position_m"] + np.float32(1e6)} if number == SPIKY else batch


def not_finite(number: int, batch: Sample) -> Sample:
    return batch | {"rss_db": np.full_like(batch["rss_db"], np.nan)} if number == SPIKY else batch


def watched(
    trainer: Trainer,
    data: HeimdallDataset,
    checkpoints: Checkpoints,
    tracker: MemoryTracker,
    spoil: Callable[[int, Sample], Sample] = off,
    progress: Progress | None = None,
    **changes: object,
) -> Loop:
    changes = {"config": WATCHED} | changes
    return make_loop(trainer, data, checkpoints, tracker, spoil=spoil, progress=progress, **changes)


def whole(
    trainer: Trainer, data: HeimdallDataset, folder: Path, spoil: Callable[[int, Sample], Sample] = off
) -> tuple[Loop, TrainState, MemoryTracker, tuple[int | None, int | None]]:
    tracker = MemoryTracker()
    tracker.start("run", {})
    with Checkpoints(folder, anchor_every=WINDOW) as checkpoints:
        loop = watched(trainer, data, checkpoints, tracker, spoil)
        state = loop.run(trainer.start())
        return loop, state, tracker, (checkpoints.best(), checkpoints.latest())


@pytest.fixture(scope="module")
def undisturbed(
    trainer: Trainer, data: HeimdallDataset, tmp_path_factory: pytest.TempPathFactory
) -> tuple[TrainState, MemoryTracker, tuple[int | None, int | None]]:
    """What a run leaves that nobody killed: state, metrics, and its best and latest step."""
    return whole(trainer, data, tmp_path_factory.mktemp("whole"))[1:]


@pytest.mark.parametrize("spoil", [off, not_finite])
def test_goes_back_and_passes_over_the_batches_that_led_there(
    trainer: Trainer, data: HeimdallDataset, tmp_path: Path, spoil: Callable[[int, Sample], Sample]
) -> None:
    """Step 13 is bad; two windows begin before it, at 6 and 12; a window or more before it is 6, which takes batch 14.

    The state is that of a run which took batches 0 to 5 and 14 on, with no spike and no rollback.
    """
    loop, state, tracker, _ = whole(trainer, data, tmp_path / "c", spoil)
    assert isinstance(loop.display, Silent)
    assert [(step, to) for step, to, _ in loop.display.back] == [(13, 6)]
    assert "from samples [" in loop.display.back[0][2]
    assert (loop.progress.rollbacks, loop.progress.skipped_batches, loop.progress.rolled_back_to) == (1, 8, 6)
    batches = training_batches(data, batch_size=16, augmentation=AUGMENTATION, seed=1)
    expected = trainer.start()
    for step in range(STEPS):
        batch = batches[step if step < 6 else step + 8]
        assert batch is not None
        expected, _ = trainer.step(expected, trainer.place(batch))
    assert_equal(state.params, expected.params)
    metrics = tracker.runs["memory-0"].metrics
    assert metrics["train/rolled_back_to"] == {13: 6.0}
    assert sorted(metrics["train/loss"]) == list(range(STEPS))
    assert max(metrics["train/loss"].values()) < 100.0  # the spike itself is not among them


@pytest.mark.parametrize(
    "killed_in", [13, *(pytest.param(step, marks=pytest.mark.slow) for step in (8, 14, 17, 21, 25))]
)
def test_killed_at_any_time_and_resumed_ends_the_same_to_the_bit(
    trainer: Trainer,
    data: HeimdallDataset,
    undisturbed: tuple[TrainState, MemoryTracker, tuple[int | None, int | None]],
    tmp_path: Path,
    killed_in: int,
) -> None:
    """Before the spike, in it, just after the rollback and later; saved after every step or two."""
    expected, expected_tracker, kept = undisturbed

    class Killed(Exception):
        pass

    def kill(number: int, batch: Sample) -> Sample:
        if number == killed_in:
            raise Killed
        return off(number, batch)

    tracker = MemoryTracker()
    run = tracker.start("run", {})
    often = dataclasses.replace(WATCHED, checkpoint_seconds=15.0)
    ticks = itertools.count(0.0, 10.0)
    with Checkpoints(tmp_path / "parts", anchor_every=WINDOW) as checkpoints:
        loop = watched(trainer, data, checkpoints, tracker, kill, config=often, clock=lambda: next(ticks))
        with pytest.raises(Killed):
            loop.run(trainer.start())
        checkpoints.wait()
        tracker.start("run", {}, run)
        latest = checkpoints.latest()
        assert latest is not None
        progress = Progress(**checkpoints.record(latest)["progress"])
        state: TrainState = checkpoints.state(latest, trainer.start())
        resumed = watched(trainer, data, checkpoints, tracker, progress=progress)
        assert_equal(resumed.run(state), expected)
        assert (checkpoints.best(), checkpoints.latest()) == kept
    assert tracker.runs[run].metrics == expected_tracker.runs["memory-0"].metrics


def test_rollbacks_are_used_up_and_never_reach_back_twice(
    trainer: Trainer, data: HeimdallDataset, tmp_path: Path
) -> None:
    """No batch from 13 on is finite: back to 6, twice; the third time the run ends, with its bad batches kept."""
    kept: list[BadStep] = []

    def keep(bad: BadStep) -> str:
        kept.append(bad)
        return f" kept {bad.number}"

    def spoil(number: int, batch: Sample) -> Sample:
        return batch if number < SPIKY else not_finite(SPIKY, batch)

    tracker = MemoryTracker()
    tracker.start("run", {})
    with Checkpoints(tmp_path / "c", anchor_every=WINDOW) as checkpoints:
        loop = watched(trainer, data, checkpoints, tracker, spoil, keep_bad=keep)
        with pytest.raises(NonFiniteError, match=r"training step 6: got NaN or Inf from samples .* kept 15"):
            loop.run(trainer.start())
    assert [(bad.step, bad.number) for bad in kept] == [(13, 13), (6, 14), (6, 15)]
    assert loop.progress.rolled_back_to == 6
    assert not all(kept[0].finite_leaves)


def test_off_by_default(trainer: Trainer, data: HeimdallDataset, tmp_path: Path) -> None:
    tracker = MemoryTracker()
    tracker.start("run", {})
    with Checkpoints(tmp_path / "c") as checkpoints:
        loop = watched(trainer, data, checkpoints, tracker, config=TRAINING)
        loop.run(trainer.start())
    assert max(tracker.runs["memory-0"].metrics["train/loss"].values()) > 100.0
    assert loop.progress.recent_losses == []


def judged(losses: Iterator[float] | list[float], loss: float, factor: float = 3.0, window: int = 5) -> str | None:
    progress = Progress(recent_losses=list(losses))
    return SpikeWatch(factor, window, 1).spiked(loss, progress)


def test_the_rule_is_the_median_and_its_deviation() -> None:
    """Of 1, 2, 3, 4, 100 the median is 3, of 2, 1, 0, 1, 97 it is 1: a limit of 3 + 3 x 1.4826 = 7.4478."""
    recent = [1.0, 2.0, 3.0, 4.0, 100.0]
    assert judged(recent, 7.4) is None
    assert "spreads above the 5 before" in (judged(recent, 7.5) or "")
    assert judged(recent, -1e9) is None
    assert judged(recent[:4], 1e9) is None  # no full window
    assert judged([2.0] * 5, 1e9) is None  # no spread to compare with


def test_a_spike_is_not_taken_into_the_window() -> None:
    watch, progress = SpikeWatch(3.0, 5, 1), Progress(recent_losses=[1.0, 2.0, 3.0, 4.0, 5.0])
    assert watch.spiked(1e3, progress) is not None
    assert progress.recent_losses == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert watch.spiked(4.5, progress) is None
    assert progress.recent_losses == [2.0, 3.0, 4.0, 5.0, 4.5]


def test_gaussian_noise_rarely_passes_for_a_spike() -> None:
    """At 6 spreads a normal loss is a spike once in 1e9 steps; the window's own spread varies: none in 20,000 here."""
    rng, watch, progress = np.random.default_rng(0), SpikeWatch(6.0, 100, 1), Progress()
    falling = 3.0 * np.exp(-np.arange(20_000) / 2000) + rng.normal(0, 0.1, 20_000)
    assert [step for step, loss in enumerate(falling) if watch.spiked(float(loss), progress)] == []
