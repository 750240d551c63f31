"""The loop's order, its stopping, its resuming to the bit, and what it does with numbers that are not finite."""

import dataclasses
import itertools
import signal
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx

from heimdall_jax.errors import ConfigError, NonFiniteError
from heimdall_jax.stopping import Stop
from heimdall_jax.tracking.trackers import MemoryTracker
from heimdall_jax.training.batches import evaluation_batches, training_batches
from heimdall_jax.training.checkpoints import Checkpoints
from heimdall_jax.training.dataset import HeimdallDataset
from heimdall_jax.training.spikes import Progress
from heimdall_jax.training.step import Trainer, TrainState
from heimdall_jax.types import Sample
from tests.training.small_loop import AUGMENTATION, STEPS, TRAINING, Silent, assert_equal, make_loop, make_trainer


def test_learns_and_logs_every_step_once(trainer: Trainer, data: HeimdallDataset, tmp_path: Path) -> None:
    tracker = MemoryTracker()
    tracker.start("run", {})
    with Checkpoints(tmp_path / "c") as checkpoints:
        measured: list[int] = []
        loop = make_loop(
            trainer, data, checkpoints, tracker, measure=lambda state, batch: measured.append(int(state.step))
        )
        loop.run(trainer.start())
        assert checkpoints.latest() == STEPS
    metrics = tracker.runs["memory-0"].metrics
    assert sorted(metrics["train/loss"]) == list(range(STEPS))
    assert sorted(metrics["validation/loss"]) == [0, 8, 16, 24]
    assert metrics["validation/loss"][24] < metrics["validation/loss"][0] - 0.2
    assert metrics["train/learning_rate"][2] == pytest.approx(3e-3)  # 10 % of 24 steps warm up
    assert isinstance(loop.display, Silent)
    assert loop.display.shown == list(range(1, STEPS + 1))
    assert loop.display.evaluated == [0, 8, 16, 24]
    assert measured == [1]


def test_resumed_at_any_checkpoint_ends_the_same_to_the_bit(
    trainer: Trainer, data: HeimdallDataset, tmp_path: Path
) -> None:
    whole = MemoryTracker()
    whole.start("run", {})
    with Checkpoints(tmp_path / "whole") as checkpoints:
        expected = make_loop(trainer, data, checkpoints, whole).run(trainer.start())

    class Killed(Exception):
        pass

    def kill_at_13(step: int, batch: Sample) -> Sample:
        if step == 13:
            raise Killed
        return batch

    parts = MemoryTracker()
    run = parts.start("run", {})
    with Checkpoints(tmp_path / "parts") as checkpoints:
        with pytest.raises(Killed):
            make_loop(trainer, data, checkpoints, parts, spoil=kill_at_13).run(trainer.start())
        parts.flush()
        checkpoints.wait()
        parts.start("run", {}, run)
        latest = checkpoints.latest()
        assert latest == 8
        progress = Progress(**checkpoints.record(latest)["progress"])
        state: TrainState = checkpoints.state(latest, trainer.start())
        resumed = make_loop(trainer, data, checkpoints, parts, progress=progress).run(state)
    assert_equal(resumed, expected)
    assert parts.runs[run].metrics == whole.runs["memory-0"].metrics


@pytest.mark.parametrize("asked_in", [0, *(pytest.param(step, marks=pytest.mark.slow) for step in (7, 10)), 23])
def test_a_stop_leaves_a_checkpoint_of_its_step_and_changes_nothing(
    trainer: Trainer, data: HeimdallDataset, tmp_path: Path, asked_in: int
) -> None:
    """In the first step, before an evaluation (which then belongs to the stop), between two, and in the last step."""
    whole = MemoryTracker()
    whole.start("run", {})
    with Checkpoints(tmp_path / "whole") as checkpoints:
        expected = make_loop(trainer, data, checkpoints, whole).run(trainer.start())
        kept = checkpoints.best(), checkpoints.latest()

    def stopped_in(step: int, batch: Sample) -> Sample:
        if step == asked_in:
            signal.raise_signal(signal.SIGTERM)
        return batch

    def never(start: int) -> Iterator[Sample]:
        signal.raise_signal(signal.SIGINT)
        return iter(())

    parts, stop = MemoryTracker(), Stop()
    run = parts.start("run", {})
    with Checkpoints(tmp_path / "parts") as checkpoints:
        with stop.listening(), pytest.raises(KeyboardInterrupt) as caught:
            make_loop(trainer, data, checkpoints, parts, spoil=stopped_in, stop=stop).run(trainer.start())
        assert caught.value.args == (signal.SIGTERM,)
        assert checkpoints.latest() == asked_in + 1
        parts.start("run", {}, run)
        progress = Progress(**checkpoints.record(asked_in + 1)["progress"])
        state: TrainState = checkpoints.state(asked_in + 1, trainer.start())
        resumed = make_loop(trainer, data, checkpoints, parts, progress=progress, stop=stop)
        with stop.listening(), pytest.raises(KeyboardInterrupt):
            dataclasses.replace(resumed, batches=never).run(state)  # once more, before a step is made
        with stop.listening():
            assert_equal(resumed.run(state), expected)
        assert (checkpoints.best(), checkpoints.latest()) == kept
    assert parts.runs[run].metrics == whole.runs["memory-0"].metrics


def test_not_finite_keeps_the_state_names_the_samples_and_saves_nothing(
    trainer: Trainer, data: HeimdallDataset, tmp_path: Path
) -> None:
    seen: dict[int, Sample] = {}

    def spoil(step: int, batch: Sample) -> Sample:
        seen[step] = batch
        if step == 10:
            batch = batch | {"rss_db": np.full_like(batch["rss_db"], np.nan)}
        return batch

    tracker = MemoryTracker()
    tracker.start("run", {})
    with Checkpoints(tmp_path / "c") as checkpoints:
        with pytest.raises(NonFiniteError) as caught:
            make_loop(trainer, data, checkpoints, tracker, spoil=spoil).run(trainer.start())
        checkpoints.wait()
        assert checkpoints.latest() == 8
    assert "training step 10" in str(caught.value)
    assert str([int(i) for i in seen[10]["index"] if i >= 0]) in str(caught.value)


def test_a_step_with_nan_changes_nothing(trainer: Trainer, data: HeimdallDataset) -> None:
    batch = training_batches(data, batch_size=16, augmentation=AUGMENTATION, seed=1)[0]
    batch["rss_db"] = np.full_like(batch["rss_db"], np.inf)
    after, report = trainer.step(trainer.start(), trainer.place(batch))
    assert not bool(report.finite)
    assert_equal(after, trainer.start())


def test_padding_does_not_count(trainer: Trainer, data: HeimdallDataset) -> None:
    batch = next(iter(evaluation_batches(data.subset(np.arange(5)), 16)))
    other = dict(batch)
    other["rss_db"] = np.where(batch["weight"][:, None] > 0, batch["rss_db"], -999.0).astype(np.float32)
    other["position_m"] = np.where(batch["weight"][:, None] > 0, batch["position_m"], 1e5).astype(np.float32)
    states = [trainer.step(trainer.start(), trainer.place(b)) for b in (batch, other)]
    assert_equal(states[0][0].params, states[1][0].params)
    assert states[0][1].metrics.compute() == states[1][1].metrics.compute()
    assert states[0][1].metrics.compute()["count"] == 5


def test_patience_stops_and_time_saves(trainer: Trainer, data: HeimdallDataset, tmp_path: Path) -> None:
    tracker, losses = MemoryTracker(), iter([3.0, 2.0, 2.5, 2.6])
    tracker.start("run", {})
    ticks = itertools.count(0.0, 10.0)
    saved: list[int] = []
    with Checkpoints(tmp_path / "c") as checkpoints:
        keep = checkpoints.save
        checkpoints.save = lambda step, *rest: (saved.append(step), keep(step, *rest))[1]
        loop = make_loop(
            trainer,
            data,
            checkpoints,
            tracker,
            validate=lambda state: {"loss": next(losses)},
            evaluate_every=4,
            config=dataclasses.replace(TRAINING, patience=2, checkpoint_seconds=25.0),
            clock=lambda: next(ticks),
        )
        state = loop.run(trainer.start())
        assert (int(state.step), checkpoints.best(), checkpoints.latest()) == (12, 4, 12)
    assert loop.progress == Progress(best_loss=2.0, best_step=4, bad_evaluations=2, evaluated_step=12)
    assert set(range(0, 13, 4)) < set(saved)  # evaluations, and others in between by the clock


def test_every_random_stream_differs_by_place_step_and_seed(data: HeimdallDataset) -> None:
    trainer = make_trainer(data)
    streams = [
        {tuple(jax.random.key_data(key[...]).tolist()) for key in _keys(trainer, *which)}
        for which in ((3, 0), (3, 1), (4, 0))
    ]
    assert len(streams[0]) > 1
    assert len(streams[0]) == len(list(_keys(trainer, 3, 0)))
    assert len(streams[0] | streams[1] | streams[2]) == 3 * len(streams[0])


def _keys(trainer: Trainer, seed: int, step: int) -> Iterator[nnx.RngKey]:
    flat = nnx.to_flat_state(trainer._keys(jax.numpy.uint32(seed), jax.numpy.int32(step)))
    return (value for _, value in flat if isinstance(value, nnx.RngKey))


def test_runs_of_several_seeds_share_one_compiled_step(data: HeimdallDataset) -> None:
    batch = next(iter(evaluation_batches(data, 16)))
    one, other = make_trainer(data), make_trainer(data, seed=4)
    texts = [trainer.step.lower(*trainer.shapes(batch)).as_text() for trainer in (one, other)]
    assert texts[0] == texts[1]
    assert (int(one.start().seed), int(other.start().seed)) == (3, 4)


def test_batch_size_must_fit_the_devices(data: HeimdallDataset) -> None:
    with pytest.raises(ConfigError, match="multiples of 2"):
        make_trainer(data, dataclasses.replace(TRAINING, batch_size=15))


def test_batches_are_split_over_all_devices(trainer: Trainer, data: HeimdallDataset) -> None:
    placed = trainer.place(next(iter(evaluation_batches(data, 16))))
    assert {shard.data.shape[0] for shard in placed["rss_db"].addressable_shards} == {8}
    assert len(placed["rss_db"].sharding.device_set) == jax.device_count() == 2
