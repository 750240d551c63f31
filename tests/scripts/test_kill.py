"""A training that is killed and resumed ends as one that never was: to the bit, with every metric logged once."""

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from heimdall_jax.run import CHECKPOINTS, open_run
from heimdall_jax.run_folder import TRACKED
from heimdall_jax.tracking.mlflow_tracker import DATABASE
from heimdall_jax.training.checkpoints import Checkpoints
from tests.laws import ROOT
from tests.powder_like import write_powder_like

BATCHES = 7
"""Of 16, in the 111 training rows: the steps of an epoch."""
EVERY = 4 * BATCHES
"""Steps between evaluations: four epochs."""
SETTINGS = {
    "--config": "powder",
    "--split": "random",
    "--model.width": "16",
    "--model.depth": "1",
    "--model.heads": "2",
    "--training.batch-size": "16",
    "--training.evaluations-per-epoch": "0.25",
    "--training.learning-rate": "0.3",  # so high that an early state is the best and both kept states are compared
    "--training.ema-decay": "0.9",
    "--training.patience": "1000",
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_powder_like(tmp_path_factory.mktemp("data") / "powder")


class Training:
    """A run folder and the processes of `scripts/train.py` that work on it, as a user starts them."""

    def __init__(self, runs: Path, data: Path, mlflow_template: Path, epochs: int) -> None:
        runs.mkdir()
        shutil.copy(mlflow_template, runs / DATABASE)
        self.folder, self.log = runs / "run", runs / "log.txt"
        self._settings = [word for pair in SETTINGS.items() for word in pair]
        self._settings += ["--data", str(data), "--training.epochs", str(epochs)]

    def start(self, *flags: str, resume: bool = False) -> subprocess.Popen[bytes]:
        environment = {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"}
        given = ["--out", str(self.folder), *(["--resume"] if resume else self._settings)]
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, str(ROOT / "scripts" / "train.py"), *given, *flags],
                stdout=log,
                stderr=log,
                env=environment,
            )

    def finish(self, process: subprocess.Popen[bytes]) -> None:
        assert process.wait(timeout=480) == 0, self.log.read_text()

    def latest(self) -> int:
        """Highest whole step on disk, -1 if none."""
        folder = self.folder / CHECKPOINTS
        names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
        return max((int(name) for name in names if name.isdigit()), default=-1)

    def kill(self, process: subprocess.Popen[bytes], step: int, delay_s: float) -> int:
        """SIGKILL, `delay_s` after a checkpoint of `step` or later; gives the latest whole step left."""
        while self.latest() < step:
            assert process.poll() is None, self.log.read_text()
            time.sleep(0.002)
        time.sleep(delay_s)
        process.kill()
        assert process.wait() == -9, f"it ended before it could be killed:\n{self.log.read_text()}"
        return self.latest()

    def states(self) -> dict[str, tuple[int, Any, Any]]:
        """Step, record without the config, and leaves of the best and the latest checkpoint."""
        like = open_run(self.folder).trainer.start()
        with Checkpoints(self.folder / CHECKPOINTS, read_only=True) as checkpoints:
            steps = {"best": checkpoints.best(), "latest": checkpoints.latest()}
            found = {}
            for name, step in steps.items():
                assert step is not None
                record = {key: value for key, value in checkpoints.record(step).items() if key != "config"}
                found[name] = (step, record, jax.tree.leaves_with_path(checkpoints.state(step, like)))
            return found

    def metrics(self) -> list[tuple[str, int, float]]:
        """Key, step and value of everything in MLflow's database, in order."""
        run_id = json.loads((self.folder / TRACKED).read_text())["run_id"]
        database = sqlite3.connect(self.folder.parent / DATABASE)
        try:
            runs = database.execute("SELECT run_uuid, status FROM runs").fetchall()
            assert runs == [(run_id, "FINISHED")]
            return database.execute("SELECT key, step, value FROM metrics ORDER BY key, step").fetchall()
        finally:
            database.close()


def compare(killed: Training, whole: Training, steps: int) -> None:
    """Parameters, optimizer and average to the bit, every metric once, the same export and the same results."""
    ours, theirs = killed.states(), whole.states()
    assert theirs["best"][0] < theirs["latest"][0] == steps
    kept = [sorted(path.name for path in (run.folder / CHECKPOINTS).iterdir()) for run in (killed, whole)]
    assert kept[0] == kept[1] == sorted(str(step) for step, _, _ in theirs.values())
    for name, (step, record, leaves) in theirs.items():
        assert ours[name][:2] == (step, record)
        for (path, one), (_, other) in zip(leaves, ours[name][2], strict=True):
            np.testing.assert_array_equal(np.asarray(other), np.asarray(one), err_msg=f"{name} {path}")
    metrics = killed.metrics()
    assert len({(key, step) for key, step, _ in metrics}) == len(metrics)
    assert [step for key, step, _ in metrics if key == "train/loss"] == list(range(steps))
    assert [step for key, step, _ in metrics if key == "validation/loss"] == list(range(0, steps + 1, EVERY))
    assert metrics == whole.metrics()
    for name in ("metrics.json", "model.onnx"):
        assert (killed.folder / name).read_bytes() == (whole.folder / name).read_bytes()


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
            left.append(killed.kill(process, step, delay_s))
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
        while stopped.latest() < (left[-1] if left else 0) + EVERY:
            assert process.poll() is None, stopped.log.read_text()
            time.sleep(0.002)
        time.sleep(0.03)
        process.send_signal(number)
        assert process.wait(timeout=30) == 128 + number, stopped.log.read_text()
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
