"""A small training on made-up recordings, its processes as a user starts them, and what it leaves, to the bit."""

import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from heimdall_jax.run import CHECKPOINTS, open_run
from heimdall_jax.run_folder import TRACKED
from heimdall_jax.stopping import LOST, STOPPED
from heimdall_jax.tracking.mlflow_tracker import DATABASE
from heimdall_jax.training.checkpoints import Checkpoints
from tests.laws import ROOT

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


class Processes:
    """Those of one training, in order."""

    def __init__(self, each: list[subprocess.Popen[bytes]]) -> None:
        self.each = each

    def alive(self) -> bool:
        return all(process.poll() is None for process in self.each)

    def wait(self, timeout_s: float) -> list[int]:
        """Exit codes."""
        return [process.wait(timeout=timeout_s) for process in self.each]

    def kill(self) -> None:
        for process in self.each:
            process.kill()


def _launches(count: int) -> list[list[str]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    together = ["--coordinator-address", address, "--num-processes", str(count)]
    return [[*together, "--process-id", str(index)] for index in range(count)]


class Training:
    """A run folder and the processes of `scripts/train.py` that work on it, as a user starts them."""

    def __init__(self, runs: Path, data: Path, mlflow_template: Path, epochs: int, *, processes: int = 1) -> None:
        runs.mkdir()
        shutil.copy(mlflow_template, runs / DATABASE)
        self.folder, self.log, self._count = runs / "run", runs / "log.txt", processes
        self._settings = [word for pair in SETTINGS.items() for word in pair]
        self._settings += ["--data", str(data), "--training.epochs", str(epochs)]

    def start(self, *flags: str, resume: bool = False) -> Processes:
        """All processes of the training, each with one device."""
        environment = {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"}
        given = ["--out", str(self.folder), *(["--resume"] if resume else self._settings), *flags]
        command = [sys.executable, str(ROOT / "scripts" / "train.py"), *given]
        launches = [[]] if self._count == 1 else _launches(self._count)
        with self.log.open("ab") as log:
            return Processes(
                [subprocess.Popen([*command, *launch], stdout=log, stderr=log, env=environment) for launch in launches]
            )

    def finish(self, processes: Processes) -> None:
        assert set(processes.wait(1800)) == {0}, self.log.read_text()

    def latest(self) -> int:
        """Highest whole step on disk, -1 if none."""
        folder = self.folder / CHECKPOINTS
        names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
        return max((int(name) for name in names if name.isdigit()), default=-1)

    def strike(self, processes: Processes, step: int, delay_s: float, number: int, victim: int = 0) -> float:
        """Signal one process, `delay_s` after a checkpoint of `step` or later; gives how many seconds the end takes.

        All of them end, within a minute, in a way that says "resume me".
        """
        while self.latest() < step:
            assert processes.alive(), self.log.read_text()
            time.sleep(0.002)
        time.sleep(delay_s)
        processes.each[victim].send_signal(number)
        struck = time.monotonic()
        codes = processes.wait(60)
        took_s = time.monotonic() - struck
        others = codes[:victim] + codes[victim + 1 :]
        killed = number == signal.SIGKILL
        assert codes[victim] == (-number if killed else STOPPED + number), f"{codes}\n{self.log.read_text()}"
        assert set(others) <= {LOST if killed else STOPPED + number}, f"{codes}\n{self.log.read_text()}"
        return took_s

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
    cards = [(run.folder / "model_card.md").read_text().splitlines() for run in (killed, whole)]
    # The checkout may change between the two, and how often they save differs.
    own = ("| code |", "| config.yaml |")
    assert len({tuple(line for line in card if not line.startswith(own)) for card in cards}) == 1
