"""The tracker's twins against each other, and MLflow's own client as the reader of what was stored."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from heimdall_jax.config import TrackingConfig
from heimdall_jax.errors import StorageError
from heimdall_jax.tracking.mlflow_tracker import DATABASE, MlflowTracker, open_tracker
from heimdall_jax.tracking.trackers import PARAMETER_LENGTH, MemoryTracker, MetricBuffer, NoopTracker, Tracker, flatten


@pytest.fixture
def run_folder(tmp_path, mlflow_template) -> Path:
    """A run folder whose parent holds a ready database."""
    shutil.copy(mlflow_template, tmp_path / DATABASE)
    return tmp_path / "run"


def reader(run_folder: Path):
    import mlflow

    return mlflow.MlflowClient(tracking_uri=f"sqlite:///{run_folder.parent / DATABASE}")


def history(run_folder: Path, run_id: str, key: str) -> list[tuple[int, float]]:
    return [(m.step, m.value) for m in reader(run_folder).get_metric_history(run_id, key)]


def replayed(tracker: Tracker, again: Tracker) -> str:
    """Log steps 0..5, then resume at 3 in another process's tracker and go on to 8."""
    run_id = tracker.start("night", {"training": {"epochs": 8}, "seed": 0})
    for step in range(6):
        tracker.log(step, {"loss": 10.0 - step})
    tracker.flush()
    assert tracker.last_step() == 5
    assert again.start("night", {"training": {"epochs": 8}, "seed": 0}, run_id) == run_id
    assert again.last_step() == 5
    for step in range(3, 9):
        again.log(step, {"loss": 10.0 - step})
    again.log(8, {"error_m": 1.0})
    again.finish()
    return run_id


def test_memory_logs_every_step_once_over_a_resume():
    tracker = MemoryTracker()
    run_id = replayed(tracker, tracker)
    run = tracker.runs[run_id]
    assert run.metrics == {"loss": {step: 10.0 - step for step in range(9)}, "error_m": {8: 1.0}}
    assert run.parameters == {"training.epochs": "8", "seed": "0"}
    assert run.status == "FINISHED"


def test_mlflow_logs_every_step_once_over_a_resume(run_folder):
    config = TrackingConfig()
    run_id = replayed(open_tracker(config, run_folder), open_tracker(config, run_folder))
    assert sorted(history(run_folder, run_id, "loss")) == [(step, 10.0 - step) for step in range(9)]
    run = reader(run_folder).get_run(run_id)
    assert run.data.params == {"training.epochs": "8", "seed": "0"}
    assert run.info.status == "FINISHED"


def test_a_step_stored_in_part_is_completed(run_folder):
    first = open_tracker(TrackingConfig(), run_folder)
    run_id = first.start("night", {})
    first.log(4, {"loss": 1.0})  # killed before error_m of step 4 was stored
    first.flush()
    second = open_tracker(TrackingConfig(), run_folder)
    second.start("night", {}, run_id)
    second.log(4, {"loss": 1.0, "error_m": 2.0})
    second.flush()
    assert history(run_folder, run_id, "loss") == [(4, 1.0)]
    assert history(run_folder, run_id, "error_m") == [(4, 2.0)]


def test_many_metrics_and_parameters_go_in_mlflows_portions(run_folder):
    tracker = open_tracker(TrackingConfig(), run_folder)
    run_id = tracker.start("long", {f"p{i}": i for i in range(150)} | {"notes": "x" * 10_000})
    for step in range(1001):
        tracker.log(step, {"loss": float(step), "nan": float("nan")})
    tracker.flush()
    assert len(history(run_folder, run_id, "loss")) == 1001
    parameters = reader(run_folder).get_run(run_id).data.params
    assert len(parameters) == 151
    assert parameters["notes"].endswith("... (10000 characters)")


class FailsOnce:
    """A client whose second `log_batch` fails."""

    def __init__(self, client):
        self._client, self.calls = client, 0

    def __getattr__(self, name):
        return getattr(self._client, name)

    def log_batch(self, *args, **kwargs):
        self.calls += 1
        if self.calls == 2:
            raise OSError(28, "No space left on device")
        return self._client.log_batch(*args, **kwargs)


def test_a_failed_write_says_so_and_loses_nothing(run_folder):
    tracker = open_tracker(TrackingConfig(), run_folder)
    run_id = tracker.start("full", {})
    tracker._client = FailsOnce(tracker._client)
    for step in range(1500):
        tracker.log(step, {"loss": float(step)})
    with pytest.raises(StorageError, match=r"metrics: got No space left on device; .*--resume"):
        tracker.flush()
    assert tracker.last_step() == 999
    tracker.flush()
    assert [step for step, _ in history(run_folder, run_id, "loss")] == list(range(1500))


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(st.integers(0, 20), st.sampled_from("abc"))), size=st.integers(1, 7))
def test_buffer_gives_each_row_once_in_order_of_step(rows, size):
    buffer = MetricBuffer()
    buffer.start({"a": {0, 1}, "b": set()})
    for step, key in rows:
        buffer.add(step, {key: 1.0})
    chunks = list(buffer.chunks(size))
    given_out = [(row.step, row.key) for chunk in chunks for row in chunk]
    assert sorted(given_out) == sorted(set(rows) - {(0, "a"), (1, "a")})
    assert [step for step, _ in given_out] == sorted(step for step, _ in given_out)
    assert all(len(chunk) <= size for chunk in chunks)
    assert buffer.last_step == max([1, *(step for step, _ in given_out)])


def test_flatten_keeps_short_values_and_marks_cut_ones():
    flat = flatten({"a": {"b": [1, 2], "c": None}, "long": "y" * 7000})
    assert flat["a.b"] == "[1, 2]"
    assert flat["a.c"] == "None"
    assert len(flat["long"]) == PARAMETER_LENGTH


def test_noop_does_nothing(tmp_path):
    tracker = open_tracker(TrackingConfig(enabled=False), tmp_path / "run")
    assert isinstance(tracker, NoopTracker)
    assert tracker.start("x", {}, None) == ""
    tracker.log(0, {"loss": 1.0})
    tracker.flush()
    tracker.attach("x")
    tracker.log_artifact(tmp_path, "report")
    assert tracker.last_step() == -1
    assert tracker.register_model(tmp_path, {}, "n", "a") == ""
    tracker.finish()
    assert list(tmp_path.iterdir()) == []


def test_continuing_an_unknown_run_is_refused(run_folder):
    for tracker in (MemoryTracker(), open_tracker(TrackingConfig(), run_folder)):
        with pytest.raises(StorageError, match=r"tracked run: got 0{32}"):
            tracker.start("night", {}, "0" * 32)


@pytest.mark.parametrize("status", ["FAILED", "RUNNING"])
def test_files_are_added_to_a_run_that_stays_as_it_was(run_folder, tmp_path, status):
    first, memory = open_tracker(TrackingConfig(), run_folder), MemoryTracker()
    page = tmp_path / "report.html"
    page.write_text("page")
    run_id, other_id = first.start("night", {"seed": 0}), memory.start("night", {"seed": 0})
    if status != "RUNNING":
        first.finish(status)
        memory.finish(status)
    later = open_tracker(TrackingConfig(), run_folder)
    for tracker, its_id in ((later, run_id), (memory, other_id)):
        tracker.attach(its_id)
        tracker.log_artifact(page, "report")
    client = reader(run_folder)
    assert client.get_run(run_id).info.status == memory.runs[other_id].status == status
    assert [entry.path for entry in client.list_artifacts(run_id, "report")] == ["report/report.html"]
    assert list(memory.runs[other_id].artifacts) == ["report/report.html"]


def test_files_of_an_unknown_run_are_refused(run_folder):
    for tracker in (MemoryTracker(), open_tracker(TrackingConfig(), run_folder)):
        with pytest.raises(StorageError, match=r"tracked run: got 0{32}"):
            tracker.attach("0" * 32)


def test_a_file_in_place_of_the_runs_folder_is_refused(tmp_path):
    (tmp_path / "runs").write_text("")
    with pytest.raises(StorageError, match="runs folder"):
        open_tracker(TrackingConfig(), tmp_path / "runs" / "one")


def test_a_database_that_is_none_is_refused_at_once(tmp_path):
    (tmp_path / DATABASE).write_text("this is no database at all")
    with pytest.raises(StorageError, match=r"tracking database.*allowed: SQLite"):
        open_tracker(TrackingConfig(), tmp_path / "one")


def test_an_address_can_be_given(run_folder):
    tracker = open_tracker(
        TrackingConfig(uri=f"sqlite:///{run_folder.parent / DATABASE}", experiment="Default"), run_folder
    )
    assert isinstance(tracker, MlflowTracker)
    run_id = tracker.start("there", {})
    tracker.finish("FAILED")
    assert reader(run_folder).get_run(run_id).info.status == "FAILED"


def tiny_model(path: Path) -> dict:
    """y = 2 x, with an optional mask that multiplies it, and its manifest."""
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "x"], ["s"]), helper.make_node("Mul", ["s", "heard"], ["y"])],
        "tiny",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["B", 4]),
            helper.make_tensor_value_info("heard", TensorProto.FLOAT, None),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["B", 4])],
        [helper.make_tensor("heard", TensorProto.FLOAT, [1, 1], [1.0])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10), path)
    return {
        "sha256": "0123",
        "inputs": [
            {"name": "x", "dtype": "float32", "shape": ["B", 4]},
            {"name": "heard", "dtype": "float32", "shape": ["B", 4], "optional": True},
        ],
        "outputs": [{"name": "y", "dtype": "float32", "shape": ["B", 4]}],
    }


def test_memory_registers_models_and_artifacts(tmp_path):
    tracker = MemoryTracker()
    run_id = tracker.start("night", {})
    tracker.log_artifact(tmp_path / "config.yaml")
    tracker.log_artifact(tmp_path / "report.html", "report")
    stored = {"config.yaml": tmp_path / "config.yaml", "report/report.html": tmp_path / "report.html"}
    assert tracker.runs[run_id].artifacts == stored
    assert tracker.register_model(tmp_path / "a.onnx", {}, "net", "candidate") == "1"
    assert tracker.register_model(tmp_path / "b.onnx", {}, "net", "candidate") == "2"
    assert tracker.aliases == {("net", "candidate"): "2"}


def test_a_registered_model_loads_by_its_alias_and_keeps_its_bytes(run_folder, tmp_path, monkeypatch):
    import mlflow

    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    model_path = tmp_path / "model.onnx"
    manifest = tiny_model(model_path)
    tracker = open_tracker(TrackingConfig(), run_folder)
    run_id = tracker.start("night", {"seed": 0})
    tracker.log(0, {"loss": 3.0})
    tracker.flush()
    note = tmp_path / "config.yaml"
    note.write_text("seed: 0")
    tracker.log_artifact(note)
    version = tracker.register_model(model_path, manifest, "tiny-net", "candidate")
    assert tracker.register_model(model_path, manifest, "tiny-net", "candidate") == version
    second = tracker.register_model(model_path, manifest | {"sha256": "4567"}, "tiny-net", "candidate")
    tracker.finish()

    assert (version, second) == ("1", "2")
    assert history(run_folder, run_id, "loss") == [(0, 3.0)]
    assert list(Path.cwd().iterdir()) == []
    assert "MLFLOW_TRACKING_URI" not in os.environ
    client = reader(run_folder)
    assert [entry.path for entry in client.list_artifacts(run_id)] == ["config.yaml"]
    assert str(client.get_model_version_by_alias("tiny-net", "candidate").version) == second
    try:
        mlflow.set_tracking_uri(f"sqlite:///{run_folder.parent / DATABASE}")
        loaded = mlflow.pyfunc.load_model("models:/tiny-net@candidate")
        x = np.ones((3, 4), np.float32)
        np.testing.assert_array_equal(loaded.predict({"x": x})["y"], 2 * x)
        folder = Path(mlflow.artifacts.download_artifacts("models:/tiny-net@candidate", dst_path=str(tmp_path / "got")))
    finally:
        mlflow.set_tracking_uri(None)
    assert (folder / "model.onnx").read_bytes() == model_path.read_bytes()
    assert json.loads((folder / "extra_files" / "manifest.json").read_text()) == manifest | {"sha256": "4567"}
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    np.testing.assert_array_equal(session.run(None, {"x": x, "heard": 0 * x})[0], 0 * x)


def test_importing_the_tracker_imports_no_mlflow():
    code = "import sys, heimdall_jax.tracking.mlflow_tracker; sys.exit('mlflow' in sys.modules or 'jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
