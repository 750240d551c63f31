"""A training that is killed and resumed ends as one that never was: to the bit, with every metric logged once."""

import random
import signal
from pathlib import Path

import pytest

from tests.chaos.training import BATCHES, EVERY, Training, compare
from tests.powder_like import write_powder_like


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_powder_like(tmp_path_factory.mktemp("data") / "powder")


def kill_and_compare(tmp_path: Path, data: Path, mlflow_template: Path, *, kills: int, epochs: int, seed: int) -> None:
    whole = Training(tmp_path / "whole", data, mlflow_template, epochs)
    killed = Training(tmp_path / "killed", data, mlflow_template, epochs)
    uninterrupted = whole.start()
    try:
        draw, left = random.Random(seed), []
        for number in range(kills):
            # The clock saves between evaluations, too; no result may depend on it.
            process = killed.start("--training.checkpoint-seconds", "0.1", resume=number > 0)
            step, delay_s = max(killed.latest(), 0) + draw.randint(5, 45), draw.uniform(0, 0.2)
            killed.strike(process, step, delay_s, signal.SIGKILL)
            left.append(killed.latest())
            when = f"{delay_s:.3f} s after a checkpoint of step {step} or later"
            print(f"seed {seed}, kill {number + 1}: {when}; {left[-1]} is the latest")
        steps = epochs * BATCHES
        assert 0 < left[0] < left[-1] < steps
        killed.finish(killed.start(resume=True))
        whole.finish(uninterrupted)
    finally:
        uninterrupted.kill()
    compare(killed, whole, steps)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_kills_change_nothing(tmp_path: Path, data: Path, mlflow_template: Path) -> None:
    kill_and_compare(tmp_path, data, mlflow_template, kills=2, epochs=20, seed=0)


@pytest.mark.chaos
@pytest.mark.timeout(900)
def test_stops_leave_their_steps_and_change_nothing(tmp_path: Path, data: Path, mlflow_template: Path) -> None:
    """SIGTERM and Ctrl-C, where only evaluations would save: a step between two of them is the stop's."""
    whole = Training(tmp_path / "whole", data, mlflow_template, epochs := 60)
    stopped = Training(tmp_path / "stopped", data, mlflow_template, epochs)
    (stopped.folder.parent / "cache").symlink_to(whole.folder.parent / "cache")
    whole.finish(whole.start())
    left = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
        process = stopped.start("--training.checkpoint-seconds", "1000", resume=bool(left))
        stopped.strike(process, (left[-1] if left else 0) + EVERY, 0.03, number)
        left.append(stopped.latest())
    assert any(step % EVERY for step in left), left  # by chance, one of them may fall on an evaluation
    assert left[-1] < epochs * BATCHES
    assert stopped.log.read_text().count("stopped; train.py --out RUN --resume goes on") == 3
    stopped.finish(stopped.start(resume=True))
    compare(stopped, whole, epochs * BATCHES)


@pytest.mark.chaos
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_many_kills_change_nothing(tmp_path: Path, data: Path, mlflow_template: Path, seed: int) -> None:
    kill_and_compare(tmp_path, data, mlflow_template, kills=6, epochs=80, seed=seed)
