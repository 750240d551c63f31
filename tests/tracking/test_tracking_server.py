"""A real MLflow server whose artifacts are on S3: everything arrives, over outages, lost answers and repetitions."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from heimdall_jax import patience
from heimdall_jax.config import TrackingConfig
from heimdall_jax.tracking.metric_buffer import TrackerAway
from heimdall_jax.tracking.mlflow_tracker import MlflowTracker, open_tracker
from heimdall_jax.tracking.spool import SPOOL
from tests import servers
from tests.tracking.test_tracking import tiny_model

pytestmark = pytest.mark.servers
BUCKET = "mlflow"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    folder = tmp_path_factory.mktemp("s3")
    (folder / BUCKET).mkdir()
    with servers.s3(folder) as server:
        server.folder = folder / BUCKET  # pyright: ignore[reportAttributeAccessIssue]
        yield server


@pytest.fixture(scope="module")
def server(store, tmp_path_factory, mlflow_template) -> Iterator[servers.Server]:
    """With its artifacts behind it: the client needs no keys."""
    folder, keys = tmp_path_factory.mktemp("mlflow"), servers.s3_environment(store)
    with servers.mlflow(folder, mlflow_template, f"s3://{BUCKET}/proxied", environment=keys) as started:
        yield started


@pytest.fixture
def direct(store, tmp_path_factory, mlflow_template, monkeypatch) -> Iterator[servers.Server]:
    """With its artifacts beside it: the client has the store's keys."""
    folder, keys = tmp_path_factory.mktemp("mlflow"), servers.s3_environment(store)
    for name, value in keys.items():
        monkeypatch.setenv(name, value)
    with servers.mlflow(folder, mlflow_template, f"s3://{BUCKET}/direct", direct=True, environment=keys) as started:
        yield started


def opened(server: servers.Server, run_folder: Path) -> MlflowTracker:
    run_folder.mkdir(exist_ok=True)
    tracker = open_tracker(TrackingConfig(uri=server.url), run_folder)
    assert isinstance(tracker, MlflowTracker)
    return tracker


def history(tracker: MlflowTracker, run_id: str, key: str) -> list[tuple[int, float]]:
    return sorted((metric.step, metric.value) for metric in tracker._client.get_metric_history(run_id, key))


def answer_lost(tracker: MlflowTracker, name: str) -> list[str]:
    """From now on the first call of a client's method is carried out, and its answer lost; gives the calls."""
    real, calls = getattr(tracker._client, name), []

    def call(*arguments: Any, **options: Any) -> Any:
        result = real(*arguments, **options)
        calls.append(name)
        if len(calls) == 1:
            raise ConnectionResetError(104, "Connection reset by peer")
        return result

    setattr(tracker._client, name, call)
    return calls


@pytest.mark.parametrize("way", ["proxied", "direct"])
def test_metrics_files_and_models_arrive(way, store, request, tmp_path):
    server = request.getfixturevalue("direct" if way == "direct" else "server")
    tracker = opened(server, tmp_path / "run")
    model_path, note = tmp_path / "model.onnx", tmp_path / "config.yaml"
    manifest = tiny_model(model_path)
    note.write_text("seed: 0")
    run_id = tracker.start("night", {"seed": 0})
    tracker.log(0, {"loss": 3.0})
    tracker.log_artifact(note)
    tags = {"dataset": "powder", "parity": json.dumps({"position_m": 1e-3})}
    version = tracker.register_model(model_path, manifest, "tiny-net", "candidate", tags)
    assert tracker.promote("tiny-net", version, "champion").startswith("champion")
    tracker.finish()
    client = tracker._client
    run = client.get_run(run_id)
    assert (run.info.status, run.data.tags["parity"]) == ("FINISHED", tags["parity"])
    assert history(tracker, run_id, "loss") == [(0, 3.0)]
    stored = client.get_model_version_by_alias("tiny-net", "candidate")
    assert stored.tags == tags | {"sha256": manifest["sha256"]}
    assert [path.read_text() for path in (store.folder / way).rglob("config.yaml")] == ["seed: 0"]
    assert [path.read_bytes() for path in (store.folder / way).rglob("model.onnx")] == [model_path.read_bytes()]


def test_repeated_and_unanswered_calls_make_one_run_one_model_and_one_version(server, tmp_path):
    tracker = opened(server, tmp_path / "run")
    manifest = tiny_model(tmp_path / "model.onnx")
    created, logged = answer_lost(tracker, "create_run"), answer_lost(tracker, "create_logged_model")
    versioned, batches = answer_lost(tracker, "create_model_version"), answer_lost(tracker, "log_batch")
    run_id = tracker.start("lost answers", {"seed": 0})
    for _ in range(2):
        version = tracker.register_model(tmp_path / "model.onnx", manifest, "lost-net", "candidate", {"n": "1"})
    client, experiment = tracker._client, [tracker._experiment_id]
    assert (created, logged, versioned, len(batches)) == (
        ["create_run"],
        ["create_logged_model"],
        ["create_model_version"],
        4,  # parameters twice, tags of the run twice
    )
    runs = client.search_runs(experiment, "attributes.run_name = 'lost answers'")
    assert [run.info.run_id for run in runs] == [run_id]
    assert [found.version for found in client.search_model_versions("name='lost-net'")] == [version]
    assert len(client.search_logged_models(experiment, f"source_run_id='{run_id}'")) == 1
    assert len(client.get_run(run_id).outputs.model_outputs) == 1


def test_an_older_version_registered_again_does_not_take_the_alias(server, tmp_path):
    manifest, versions = tiny_model(tmp_path / "model.onnx"), []
    tracker = opened(server, tmp_path / "run")
    for digest in ("one", "two", "one"):
        tracker.start(digest, {}, token=f"{server.url}-{digest}")
        told = manifest | {"sha256": digest}
        versions.append(tracker.register_model(tmp_path / "model.onnx", told, "aliased-net", "candidate"))
    assert versions[2] == versions[0]
    assert str(tracker._client.get_model_version_by_alias("aliased-net", "candidate").version) == versions[1]


def test_metrics_of_an_outage_arrive_once_and_training_does_not_wait(server, tmp_path):
    tracker = opened(server, tmp_path / "run")
    run_id = tracker.start("outage", {})
    waited_s, spool = [], tmp_path / "run" / SPOOL

    def train(first: int, last: int, until: Callable[[], bool]) -> None:
        for step in range(first, last):
            tracker.log(step, {"loss": 1.0 / 3 + step})
            begin = time.monotonic()
            tracker.flush()
            waited_s.append(time.monotonic() - begin)
            time.sleep(0.1)
        assert until()

    train(0, 5, lambda: not spool.exists())
    with server.stopped():
        train(5, 35, spool.exists)
        assert max(waited_s) < 3
        assert len(spool.read_text().splitlines()) == 30
    train(35, 40, lambda: True)
    tracker.finish()
    assert not spool.exists()
    assert history(tracker, run_id, "loss") == [(step, 1.0 / 3 + step) for step in range(40)]


def test_a_batch_whose_answer_was_lost_is_not_stored_twice(server, tmp_path):
    tracker = opened(server, tmp_path / "run")
    run_id = tracker.start("unanswered", {})
    calls = answer_lost(tracker, "log_batch")
    values = {"loss": 0.1 + 0.2, "nan": float("nan"), "inf": float("inf"), "tiny": 5e-324}
    for step in range(300):
        tracker.log(step, values)
    tracker.flush()
    assert len((tmp_path / "run" / SPOOL).read_text().splitlines()) == 1200
    tracker.finish()
    assert len(calls) == 3
    for key in values:
        assert [step for step, _ in history(tracker, run_id, key)] == list(range(300))


def test_a_kill_between_storing_and_clearing_the_spool_doubles_nothing(server, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    tracker = opened(server, folder)
    run_id = tracker.start("killed", {})
    with server.stopped():
        tracker.log(0, {"loss": 1.0, "error": 2.0})
        tracker.flush()
    left = (folder / SPOOL).read_bytes()
    tracker.finish("FAILED")
    (folder / SPOOL).write_bytes(left + b'[1, "loss", 0.')  # stored, and killed before it was removed
    again = opened(server, folder)
    again.start("killed", {}, run_id)
    again.log(0, {"loss": 1.0})
    again.finish()
    assert history(again, run_id, "loss") == [(0, 1.0)]
    assert history(again, run_id, "error") == [(0, 2.0)]
    assert not (folder / SPOOL).exists()


def test_a_server_that_stays_away_is_an_error_at_the_end_only(server, tmp_path, monkeypatch):
    monkeypatch.setenv(patience.SECONDS, "1")
    tracker = opened(server, tmp_path / "run")
    tracker.start("gone", {})
    with server.stopped():
        tracker.log(0, {"loss": 1.0})
        tracker.flush()
        begin = time.monotonic()
        with pytest.raises(TrackerAway, match="metrics"):
            tracker.finish("KILLED")
        assert time.monotonic() - begin < 3  # who stops a run does not wait
        with pytest.raises(TrackerAway, match="Connection refused"):
            tracker.finish()
    assert (tmp_path / "run" / SPOOL).read_text().count("\n") == 1
    tracker.finish()
