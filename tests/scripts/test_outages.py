"""Trainings at a real MLflow server that goes away, for a while or for good, or are killed: every metric once."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow
import pytest

from heimdall_jax.run_folder import TRACKED
from heimdall_jax.run_lock import LOCK
from heimdall_jax.tracking.spool import SPOOL
from tests import servers
from tests.chaos import training
from tests.chaos.training import BATCHES, EVERY
from tests.laws import ROOT
from tests.powder_like import write_powder_like

pytestmark = [pytest.mark.servers, pytest.mark.long]
SETTINGS = training.SETTINGS | {
    "--augmentation.simulated": "0",
    "--training.checkpoint-seconds": "0.5",
    "--training.patience": "100000",
}
WITHOUT_JAX = "import runpy, sys; sys.modules['jax'] = None; sys.argv = sys.argv[1:]; " + (
    "sys.exit(runpy.run_path(sys.argv[0], run_name='__main__'))"
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all runs, so that programs are compiled once."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_powder_like(tmp_path_factory.mktemp("data") / "powder")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, mlflow_template: Path) -> Iterator[servers.Server]:
    base = tmp_path_factory.mktemp("server")
    (base / "s3" / "mlflow").mkdir(parents=True)
    with servers.s3(base / "s3") as store:
        keys = servers.s3_environment(store)
        with servers.mlflow(base / "mlflow", mlflow_template, "s3://mlflow/artifacts", environment=keys) as started:
            yield started


class Training:
    """A run folder, and the processes of `scripts/train.py` that work on it; the server's address is not in them."""

    def __init__(self, folder: Path, data: Path, uri: str, epochs: int, patience_s: float = 120.0) -> None:
        self.folder, self.log, self._uri = folder, folder.with_suffix(".log"), uri
        self._settings = [word for pair in SETTINGS.items() for word in pair]
        self._settings += ["--data", str(data), "--training.epochs", str(epochs)]
        self._environment = {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"}
        self._environment |= {"MLFLOW_TRACKING_URI": uri, "HEIMDALL_PATIENCE_SECONDS": f"{patience_s:g}"}
        self.steps = epochs * BATCHES

    def start(self, *flags: str) -> subprocess.Popen[bytes]:
        given = [str(ROOT / "scripts" / "train.py"), "--out", str(self.folder), *(flags or self._settings)]
        command = ["-c", WITHOUT_JAX, *given] if "--sync" in flags else given
        with self.log.open("wb") as log:
            return subprocess.Popen([sys.executable, *command], stdout=log, stderr=log, env=self._environment)

    def finish(self, process: subprocess.Popen[bytes], code: int = 0) -> str:
        """What it wrote, its lines as one."""
        assert process.wait(timeout=400) == code, self.log.read_text()
        return self.log.read_text()

    def wait(self, process: subprocess.Popen[bytes], reached: Callable[[], bool]) -> None:
        while not reached():
            assert process.poll() is None, self.log.read_text()
            time.sleep(0.05)

    def has_checkpoint(self, step: int) -> bool:
        folder = self.folder / "checkpoints"
        return folder.is_dir() and any(path.name.isdigit() and int(path.name) >= step for path in folder.iterdir())

    def check_complete(self, status: str = "FINISHED") -> None:
        """Each (key, step) once, none missing; files, model, tags and status."""
        client = mlflow.MlflowClient(tracking_uri=self._uri, registry_uri=self._uri)
        run_id = json.loads((self.folder / TRACKED).read_text())["run_id"]
        run = client.get_run(run_id)
        rows = Counter((key, row.step) for key in run.data.metrics for row in client.get_metric_history(run_id, key))
        assert set(rows.values()) == {1}
        steps = {key: sorted(step for name, step in rows if name == key) for key in run.data.metrics}
        assert steps["train/loss"] == steps["train/learning_rate"] == list(range(self.steps))
        assert steps["validation/loss"] == list(range(0, self.steps + 1, EVERY))
        assert run.info.status == status
        assert not (self.folder / SPOOL).exists()
        assert {"config.yaml", "metrics.json"} <= {item.path for item in client.list_artifacts(run_id)}
        (version,) = client.search_model_versions(f"run_id='{run_id}'")
        metrics = json.loads((self.folder / "metrics.json").read_text())
        assert version.tags["fingerprint"] == run.data.tags["fingerprint"] == metrics["fingerprint"]
        assert json.loads(version.tags["error_mean_interval_m"]) == metrics["error_interval_m"]
        assert float(version.tags["error_mean_m"]) == metrics["error_m"]["mean"]
        assert json.loads(version.tags["parity"])["position_m"] < 1.0
        assert re.match(r"[0-9a-f]{40}(-dirty)?$|\d", version.tags["git_revision"])
        assert len(client.search_logged_models([run.info.experiment_id], f"source_run_id='{run_id}'")) == 1


def outage(folder: Path, data: Path, server: servers.Server, *, seconds: float, epochs: int) -> None:
    training = Training(folder, data, server.url, epochs)
    process = training.start()
    try:
        training.wait(process, lambda: training.has_checkpoint(EVERY))
        with server.stopped():
            begin = time.monotonic()
            training.wait(process, lambda: (training.folder / SPOOL).exists())
            time.sleep(max(0.0, seconds - (time.monotonic() - begin)))
        said = training.finish(process)
    finally:
        process.kill()
    assert "metrics wait in" in said
    training.check_complete()


@pytest.mark.timeout(600)
def test_an_outage_of_three_seconds_costs_nothing(runs, data, server):
    outage(runs / "short", data, server, seconds=3.0, epochs=60)


@pytest.mark.timeout(900)
def test_an_outage_of_twenty_seconds_costs_nothing(runs, data, server):
    outage(runs / "long", data, server, seconds=20.0, epochs=160)


@pytest.mark.timeout(600)
def test_a_killed_training_that_is_resumed_logs_each_metric_once(runs, data, server):
    training = Training(runs / "killed", data, server.url, epochs=24)
    process = training.start()
    training.wait(process, lambda: training.has_checkpoint(2 * EVERY))
    process.send_signal(signal.SIGKILL)
    process.wait()
    training.finish(training.start("--resume"))
    training.check_complete()


@pytest.mark.timeout(600)
def test_a_server_gone_for_good_leaves_a_whole_run_that_is_delivered_later(runs, data, server):
    training = Training(runs / "gone", data, server.url, epochs=80, patience_s=2)
    process = training.start()
    training.wait(process, lambda: training.has_checkpoint(EVERY))
    with server.stopped():
        said = training.finish(process, code=1)
        errors = [line for line in said.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1
        assert re.search(r"tracking: got a finished run, whole in .* and \d{3,} metrics", errors[0])
        assert "Connection refused" in errors[0]
        assert errors[0].endswith(f"Run train.py --out {training.folder} --sync once it answers.")
        assert "Traceback" not in said
        names = {path.name for path in training.folder.iterdir()}
        assert {SPOOL, "checkpoints", "metrics.json", "model.onnx", "manifest.json"} <= names
        rows = [tuple(json.loads(line)[:2]) for line in (training.folder / SPOOL).read_text().splitlines()]
        assert len(rows) == len(set(rows))
        assert "does not answer" in training.finish(training.start("--sync"), code=1)  # still away
        assert len((training.folder / SPOOL).read_text().splitlines()) == len(rows)
    said = training.finish(training.start("--sync"))
    assert re.search(rf"delivered: {len(rows)} metrics that waited, files, and heimdall-net \d+; champion", said)
    training.check_complete()
    training.finish(training.start("--sync"))
    training.check_complete()


@pytest.mark.timeout(300)
def test_a_run_that_was_stopped_delivers_its_metrics_only(runs, data, server):
    training = Training(runs / "stopped", data, server.url, epochs=10_000, patience_s=2)
    process = training.start()
    training.wait(process, lambda: training.has_checkpoint(EVERY))
    with server.stopped():
        training.wait(process, lambda: (training.folder / SPOOL).exists())
        assert "at work; allowed: one at a time" in training.finish(training.start("--sync"), code=1)
        process.send_signal(signal.SIGTERM)
        begin = time.monotonic()
        assert process.wait(timeout=60) == 143
        assert time.monotonic() - begin < 20
    said = training.finish(training.start("--sync"))
    assert re.search(r"stopped: \d+ metrics delivered, no model; .*--resume goes on", said)
    client = mlflow.MlflowClient(tracking_uri=server.url)
    run_id = json.loads((training.folder / TRACKED).read_text())["run_id"]
    steps = [row.step for row in client.get_metric_history(run_id, "train/loss")]
    assert sorted(steps) == list(range(len(steps)))
    assert client.get_run(run_id).info.status == "KILLED"
    assert "nothing waits" in training.finish(training.start("--sync"))


@pytest.mark.timeout(300)
def test_nobody_there_at_the_start_is_told_and_nothing_half_made(runs, data):
    training = Training(runs / "nobody", data, f"http://127.0.0.1:{servers.free_port()}", epochs=1, patience_s=1)
    said = training.finish(training.start(), code=1)
    assert re.search(r"^error: tracking database: got .*Connection refused", said, re.MULTILINE)
    assert [path.name for path in training.folder.iterdir()] == [LOCK]
