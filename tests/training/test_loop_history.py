"""The history that the loop leaves beside its tracker: of a resumed training as of one that never stopped."""

from pathlib import Path

import numpy as np
import pytest

from heimdall_jax.history import HistoryWriter, read_history
from heimdall_jax.tracking.trackers import MemoryTracker, Several
from heimdall_jax.training.checkpoints import Checkpoints
from heimdall_jax.training.dataset import HeimdallDataset
from heimdall_jax.training.spikes import Progress
from heimdall_jax.training.step import Trainer
from tests.training.small_loop import STEPS, make_loop


@pytest.mark.parametrize("stopped_after", [9, pytest.param(16, marks=pytest.mark.slow)])
def test_a_resumed_training_tells_what_one_that_never_stopped_tells(
    trainer: Trainer, data: HeimdallDataset, tmp_path: Path, stopped_after: int
):
    """Beside a tracker, through the loop: the same numbers to the bit, times apart."""

    class Killed(Exception):
        pass

    def kill(step, batch):
        if step == stopped_after:
            raise Killed
        return batch

    def run(name: str, path: Path, **changes) -> None:
        with Checkpoints(tmp_path / name) as checkpoints:
            tracker = MemoryTracker()
            tracker.start("run", {})
            latest = checkpoints.latest()
            state = trainer.start() if latest is None else checkpoints.state(latest, trainer.start())
            if latest is not None:
                changes["progress"] = Progress(**checkpoints.record(latest)["progress"])
            about = {"total_steps": STEPS, "steps_per_epoch": 8, "samples_per_step": 16}
            history = HistoryWriter(path, begun=int(state.step), **about)
            make_loop(trainer, data, checkpoints, Several(tracker, history), **changes).run(state)

    run("whole", tmp_path / "whole.jsonl")
    with pytest.raises(Killed):
        run("killed", tmp_path / "killed.jsonl", spoil=kill)
    run("killed", tmp_path / "killed.jsonl")
    whole, killed = (read_history(tmp_path / f"{name}.jsonl") for name in ("whole", "killed"))
    assert whole is not None
    assert killed is not None
    assert [row.first for row in killed.steps] == [row.first for row in whole.steps] == list(range(STEPS))
    assert killed.validated == whole.validated
    assert [row.step for row in whole.validated] == [0, 8, 16, 24]
    np.testing.assert_array_equal([row[2:6] for row in killed.steps], [row[2:6] for row in whole.steps])
    assert (killed.resumed, whole.resumed) == ([8 * (stopped_after // 8)], [])
