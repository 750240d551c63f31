"""Real workers, embedded and on Redis: cancelled, killed, or without their server, a training loses nothing."""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from heimdall_jax.jobs import tasks
from heimdall_jax.jobs.devices import free_slot
from tests import servers
from tests.chaos.training import BATCHES, EVERY, Training, compare
from tests.jobs.workers import PATIENCE_S, Run, Workers, alive, children, finished, states, until, workers
from tests.powder_like import write_powder_like

EPOCHS = 80
STEPS = EPOCHS * BATCHES
SECRET = "hunter2-redis"

MakeRun = Callable[..., Run]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_powder_like(tmp_path_factory.mktemp("data") / "powder")


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("compiled")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, data: Path, mlflow_template: Path, compiled: Path) -> Training:
    """The run that nobody interrupts, made by `train.py`."""
    run = Run(tmp_path_factory.mktemp("whole") / "runs", data, mlflow_template, EPOCHS, compiled).training
    process = run.start()
    try:
        assert process.wait(timeout=PATIENCE_S) == 0, run.log.read_text()
    finally:
        process.kill()
    return run


@pytest.fixture
def make_run(tmp_path: Path, data: Path, mlflow_template: Path, compiled: Path, whole: Training) -> MakeRun:
    def make(name: str, **changes: Any) -> Run:
        return Run(tmp_path / name, data, mlflow_template, EPOCHS, compiled, **changes)

    return make


@pytest.fixture
def redis() -> Iterator[servers.Server]:
    with servers.redis() as server:
        yield server


def in_training(result: Any, of: Workers, step: int, seen: list[Any]) -> int:
    """The step of a training, once its progress has told one that is neither before `step` nor at an evaluation."""

    def told() -> int:
        assert states(result, seen) in {"PENDING", "PROGRESS", "WAITING"}, of.logs()
        steps = [each["step"] for each in seen[-1:] if each["work"] == "training"]
        return steps[0] if steps and steps[0] >= step and 3 <= steps[0] % EVERY <= EVERY - 6 else 0

    return until(f"step {step}", told)


@pytest.mark.chaos
@pytest.mark.timeout(1500)
def test_embedded(tmp_path: Path, make_run: MakeRun, whole: Training, monkeypatch: pytest.MonkeyPatch) -> None:
    """Progress, cancel of a waiting and of a working task, resumed to the bit; then what is done to a finished run."""
    run, other, seen = make_run("runs", checkpoint_seconds=1000), make_run("other"), []
    with workers(tmp_path / "jobs") as here:
        app = here.client(monkeypatch)
        monkeypatch.setattr(tasks, "app", app)
        here.start("one")
        first, waiting = run.send(app), other.send(app)
        step = in_training(first, here, EVERY, seen)
        tasks.cancel(waiting.id)
        process, began = run.process(), time.monotonic()
        tasks.cancel(first.id)
        until("the end of a cancelled training", lambda: not alive(process), 60)
        took_s = time.monotonic() - began
        print(f"cancelled in {took_s:.2f} s")
        assert took_s < 5
        assert run.training.latest() >= step
        assert run.training.latest() % EVERY
        until("the state of cancelled tasks", lambda: {first.state, waiting.state} == {"REVOKED"}, 20)
        assert {"epoch", "loss", "error_m", "validation_error_m", "seconds_left"} <= seen[-1].keys()
        again = run.send(app)
        metrics = finished(again, here)
        assert not other.folder.exists()
        compare(run.training, whole, STEPS)
        kept = {path: path.stat().st_mtime_ns for path in sorted(run.folder.rglob("*")) if "checkpoints" in path.parts}
        assert finished(run.send(app), here) == metrics
        assert kept == {path: path.stat().st_mtime_ns for path in kept}
        with free_slot(tmp_path / "jobs" / "devices"):
            export = app.send_task("heimdall.export", kwargs={"run": str(run.folder)})
            until("the wait for a device", lambda: export.state == "WAITING")
        proof = finished(export, here)
        assert {row["batch"] for row in proof["parity"]["rows"]} >= {1, 3}
        evaluated = finished(app.send_task("heimdall.evaluate", kwargs={"run": str(run.folder)}), here)
        assert evaluated == json.loads((run.folder / "metrics.json").read_text())
        lost = app.send_task("heimdall.evaluate", kwargs={"run": str(tmp_path / "none")})
        until("the failure", lambda: lost.state == "FAILURE")
        assert "no such folder" in str(lost.result)


def kill(*processes: int) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


@pytest.mark.servers
@pytest.mark.long
@pytest.mark.timeout(1500)
def test_redis_gives_a_lost_workers_training_to_another(
    tmp_path: Path, make_run: MakeRun, whole: Training, monkeypatch: pytest.MonkeyPatch, redis: servers.Server
) -> None:
    """Workers are told to quit, killed, and killed with all they started; the training outlives each by far."""
    run, seen = make_run("runs"), []
    port = redis.url.rpartition(":")[2]
    subprocess.run(["redis-cli", "-p", port.partition("/")[0], "config", "set", "requirepass", SECRET], check=True)
    with workers(tmp_path / "jobs", f"redis://:{SECRET}@127.0.0.1:{port}", visibility_s=3) as here:
        here.environment["HEIMDALL_DEVICES"] = "0,1"  # so that only the run is in the way of a second process
        app = here.client(monkeypatch)
        one = here.start("one")
        result = run.send(app)
        step = in_training(result, here, 20, seen)
        one.send_signal(signal.SIGQUIT)
        assert one.wait(timeout=60) is not None
        until("the checkpoint of a worker told to quit", lambda: run.training.latest() >= step, 20)
        two = here.start("two")
        run.reaches(run.training.latest() + 60)
        kill(two.pid, *children(two.pid))
        three = here.start("three")
        here.start("four")
        run.reaches(run.training.latest() + 60)
        if run.process() in [each for pool in children(three.pid) for each in children(pool)]:
            lost = three
        else:
            lost = here.process("four")
        pools = children(lost.pid)
        kill(lost.pid, *pools, run.process())
        assert run.training.latest() < STEPS
        here.start("five")
        metrics = finished(result, here)
        until("an empty queue", lambda: here.quiet(app), 60)
        assert result.result == metrics == json.loads((run.folder / "metrics.json").read_text())
        assert here.logs().count(f"heimdall.train[{result.id}] received") > 4, (
            "nobody got the task while it was at work"
        )
    compare(run.training, whole, STEPS)
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) > 20
    assert [path for path in written if SECRET.encode() in path.read_bytes()] == []


@pytest.mark.servers
@pytest.mark.timeout(1500)
@pytest.mark.long
@pytest.mark.parametrize("seconds", [3, 20])
def test_redis_may_be_away_for_a_while(
    tmp_path: Path,
    make_run: MakeRun,
    whole: Training,
    monkeypatch: pytest.MonkeyPatch,
    redis: servers.Server,
    seconds: float,
) -> None:
    run, seen = make_run("runs"), []
    with workers(tmp_path / "jobs", redis.url, visibility_s=5) as here:
        app = here.client(monkeypatch)
        here.start("one")
        result = run.send(app)
        in_training(result, here, 20, seen)
        process = run.process()
        with redis.stopped():
            time.sleep(seconds)
        assert finished(result, here) == json.loads((run.folder / "metrics.json").read_text())
        assert run.log().count("reading recordings 160/160") == 1, "it was begun twice"
        assert not alive(process)
        until("an empty queue", lambda: here.quiet(app), 120)
        second = app.send_task("heimdall.export", kwargs={"run": str(run.folder)})
        finished(second, here)  # the worker serves on
        del second, result
    compare(run.training, whole, STEPS)
