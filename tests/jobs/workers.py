"""Real workers, each a process of `celery worker` with a log of its own, and what a client sees of their tasks."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from celery import Celery

from heimdall_jax.jobs.requests import checked
from heimdall_jax.jobs.settings import QUEUE, celery_settings
from heimdall_jax.tracking.mlflow_tracker import DATABASE
from tests.chaos.training import SETTINGS, Training
from tests.laws import ROOT

PATIENCE_S = 400.0
"""A training starts in ten seconds, and in minutes where five share two processors."""


def queued() -> list[str]:
    """Messages in the embedded queue of the tests' own app."""
    return sorted(os.listdir(os.path.join(os.environ["HEIMDALL_JOBS"], "queue")))


def until(what: str, true: Callable[[], Any], timeout_s: float = PATIENCE_S) -> Any:
    """What `true` gives, once it is."""
    deadline = time.monotonic() + timeout_s
    while not (found := true()):
        assert time.monotonic() < deadline, f"{what}: not in {timeout_s} s"
        time.sleep(0.02)
    return found


def children(pid: int) -> list[int]:
    """Processes that a process started and that are there."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            if int(fields[1]) == pid and fields[0] != "Z":
                found.append(int(path.parent.name))
    return found


def alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


class Workers:
    """A queue, its results, and the workers that a test starts for it."""

    def __init__(self, folder: Path, broker: str | None, visibility_s: float = 3.0) -> None:
        self.folder, self._started = folder, 0
        self.environment = {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"}
        self.environment |= {"HEIMDALL_JOBS": str(folder), "HEIMDALL_VISIBILITY_SECONDS": str(visibility_s)}
        self.environment |= {"PYTHONPATH": str(ROOT)} | ({"CELERY_BROKER_URL": broker} if broker else {})
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def client(self, monkeypatch: Any) -> Celery:
        """An app on the same queue and results."""
        for key in ("HEIMDALL_JOBS", "HEIMDALL_VISIBILITY_SECONDS", "CELERY_BROKER_URL"):
            if key in self.environment:
                monkeypatch.setenv(key, self.environment[key])
        app = Celery("client", set_as_current=False)
        app.conf.update(celery_settings())
        return app

    def start(self, name: str) -> subprocess.Popen[bytes]:
        """A worker, once it is ready."""
        self._started += 1
        log = self.folder.parent / f"worker-{self._started}.log"
        options = ["--pool", "prefork", "--concurrency", "1", "--hostname", f"{name}@%h", "--loglevel", "info"]
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", "heimdall_jax.jobs.app", "worker", *options],
                stdout=output,
                stderr=output,
                env=self.environment,
                cwd=self.folder.parent,
                start_new_session=True,
            )
        self._processes[name] = process
        until(f"worker {name} is ready", lambda: b" ready." in log.read_bytes())
        return process

    def process(self, name: str) -> subprocess.Popen[bytes]:
        return self._processes[name]

    def quiet(self, app: Celery) -> bool:
        """Whether no task waits or is at work on Redis."""
        with app.connection_for_read() as connection:
            client = connection.default_channel.client
            return client.llen(QUEUE) == client.hlen("unacked") == 0

    def logs(self) -> str:
        return "\n".join(path.read_text() for path in sorted(self.folder.parent.glob("worker-*.log")))

    def close(self) -> None:
        for process in self._processes.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextlib.contextmanager
def workers(folder: Path, broker: str | None = None, visibility_s: float = 3.0) -> Iterator[Workers]:
    """A queue in the embedded stores of a new folder, or at a broker."""
    made = Workers(folder, broker, visibility_s)
    folder.mkdir()
    try:
        yield made
    finally:
        made.close()


def settings(data: Path, epochs: int, **changes: Any) -> dict[str, Any]:
    """The changes to `powder` with which `tests/chaos/training.py` trains, by dotted name."""
    words = {key.lstrip("-").replace("-", "_"): yaml.safe_load(value) for key, value in SETTINGS.items()}
    del words["config"]
    words["data.split"] = words.pop("split")
    return words | {"data.path": str(data), "training.epochs": epochs} | changes


class Run:
    """A run folder that a task trains, compared by `tests.chaos.training.compare`; compiled programs are all runs'."""

    def __init__(
        self,
        runs: Path,
        data: Path,
        mlflow_template: Path,
        epochs: int,
        compiled: Path,
        checkpoint_seconds: float = 0.1,  # often, which makes a run long enough to be stopped in the middle
    ) -> None:
        self.training = Training(runs, data, mlflow_template, epochs)
        (runs / "cache").symlink_to(compiled)
        assert (runs / DATABASE).exists()
        self.folder = self.training.folder
        changes = settings(data, epochs, **{"training.checkpoint_seconds": checkpoint_seconds})
        self.request = dict(vars(checked("train", {"out": str(self.folder), "config": "powder", "changes": changes})))

    def send(self, app: Celery) -> Any:
        return app.send_task("heimdall.train", kwargs=self.request)

    def reaches(self, step: int) -> int:
        """The latest checkpoint, once it is of this step or later."""
        until(f"a checkpoint of step {step}", lambda: self.training.latest() >= step)
        return self.training.latest()

    def process(self) -> int:
        """Of the training at work."""
        return int(json.loads((self.folder / "training.lock").read_text())["pid"])

    def log(self) -> str:
        return (self.folder / "job.log").read_text()


def finished(result: Any, of: Workers) -> dict[str, Any]:
    """The result of a task, once it has one."""
    until("the task's end", lambda: result.state in {"SUCCESS", "FAILURE", "REVOKED"})
    assert result.state == "SUCCESS", f"{result.state} {result.result}\n{of.logs()}"
    return result.result


def states(result: Any, seen: list[Mapping[str, Any]]) -> str:
    """Note progress; the state."""
    meta = result.backend.get_task_meta(result.id)
    if meta["status"] == "PROGRESS" and meta["result"] not in seen:
        seen.append(meta["result"])
    return meta["status"]
