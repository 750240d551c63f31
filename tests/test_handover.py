"""A finished run handed over: its tags, and what `--sync` says where there is nothing to hand over."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import stand_ins

from heimdall_jax import config as configs
from heimdall_jax.config import Config, TrackingConfig
from heimdall_jax.errors import ConfigError, StorageError
from heimdall_jax.evaluation.summary import rows_fingerprint, summarize
from heimdall_jax.export.bundle import read_bundle, write_manifest
from heimdall_jax.handover import describe, hand_over, sync, undelivered
from heimdall_jax.run_folder import TrackedNote, write_note
from heimdall_jax.tracking.metric_buffer import TrackerAway
from heimdall_jax.tracking.mlflow_tracker import DATABASE, open_tracker
from heimdall_jax.tracking.spool import SPOOL, Row, Spool
from heimdall_jax.tracking.trackers import MemoryTracker

TRACKING = TrackingConfig()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder as a training leaves it."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    folder.mkdir()
    stand_ins.channel_bundle(folder)
    rng = np.random.default_rng(0)
    place = rng.normal(0, 100, (40, 2)).astype(np.float32)
    spread = np.tile(np.eye(2) * 100.0, (40, 1, 1))
    metrics = summarize(place, spread, place + 5, origin_deg=(45.0, 8.0), dataset="powder", split="time")
    metrics |= {"step": 7, "fingerprint": rows_fingerprint([str(i) for i in range(40)], place)}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    manifest = read_bundle(folder / "model.onnx").manifest
    row = {"position_m": 1e-3, "position_deg": None}
    parity = {"limits": {"position_m": 1.0, "position_deg": 1e-9}, "rows": [row, row | {"position_m": 2e-3}]}
    write_manifest(folder, dataclasses.replace(manifest, parity=parity))
    configs.save(Config(), folder / "config.yaml")
    write_note(folder, TrackedNote("", "token", "abc-dirty"))
    return folder


def test_the_tags_say_what_was_measured_how_well_and_by_which_code(finished):
    metrics = json.loads((finished / "metrics.json").read_text())
    tags = describe(metrics, read_bundle(finished / "model.onnx").manifest, "abc")
    assert (tags["dataset"], tags["split"]) == ("powder", "time")
    assert (tags["n"], tags["git_revision"], tags["fingerprint"]) == ("40", "abc", metrics["fingerprint"])
    assert float(tags["error_mean_m"]) == metrics["error_m"]["mean"]
    assert json.loads(tags["error_mean_interval_m"]) == metrics["error_interval_m"]
    assert float(tags["nll_nats_per_fix"]) == metrics["nll_nats_per_fix"]
    assert json.loads(tags["parity"]) == {"position_m": 2e-3}
    assert "error_mean_interval_m" not in describe(
        {key: value for key, value in metrics.items() if key != "error_interval_m"},
        read_bundle(finished / "model.onnx").manifest,
        "abc",
    )


def test_the_fingerprint_is_of_the_rows_in_any_order():
    names, places = ["b", "a", "c"], np.arange(6, dtype=np.float32).reshape(3, 2)
    one = rows_fingerprint(names, places)
    assert one == rows_fingerprint(["a", "b", "c"], places[[1, 0, 2]])
    assert one != rows_fingerprint(["b", "a", "d"], places)
    assert one != rows_fingerprint(names, places + np.float32(0.5))
    assert one != rows_fingerprint(names[:2], places[:2])


def test_a_finished_run_is_handed_over_with_all_it_has(finished):
    tracker = MemoryTracker()
    run_id = tracker.start("run", {})
    handed = hand_over(finished, TRACKING, tracker)
    run = tracker.runs[run_id]
    assert handed == ("1", "champion is version 1: there was none", None)
    assert run.status == "FINISHED"
    assert set(run.artifacts) == {"config.yaml", "metrics.json", "model_card.md"}
    assert run.metrics["test/mean_m"].keys() == {7}
    assert run.tags == tracker.tags["heimdall-net", "1"]
    assert run.tags["git_revision"] == "abc-dirty"
    assert tracker.aliases == {("heimdall-net", "candidate"): "1", ("heimdall-net", "champion"): "1"}


def test_without_a_champion_nothing_is_promoted(finished):
    tracker = MemoryTracker()
    tracker.start("run", {})
    assert hand_over(finished, TrackingConfig(champion=""), tracker).note == ""
    assert list(tracker.aliases) == [("heimdall-net", "candidate")]


def test_what_is_undelivered_is_told_with_its_cure(finished, tmp_path):
    Spool(tmp_path / SPOOL).append([Row(0, "loss", 1.0, 5)])
    said = str(undelivered(tmp_path, TrackerAway("model a: got no answer", passes=True)))
    assert "whose files, model and 1 metrics were not all taken (model a: got no answer)" in said
    assert said.endswith(f"Run train.py --out {tmp_path} --sync once it answers.")


def test_sync_delivers_a_finished_run_to_an_embedded_store(finished, tmp_path, mlflow_template):
    shutil.copy(mlflow_template, tmp_path / DATABASE)
    folder = Path(shutil.copytree(finished, tmp_path / "run"))
    tracker = open_tracker(TRACKING, folder)
    run_id = tracker.start("run", {})
    write_note(folder, TrackedNote(run_id, "token", "abc"))
    Spool(folder / SPOOL).append([Row(0, "loss", 1.0, 5)])
    said = sync(folder, TRACKING)
    assert said == (
        f"{folder}: delivered: 1 metrics that waited, files, and heimdall-net 1; champion is version 1: there was none"
    )
    assert not (folder / SPOOL).exists()
    client = tracker._client  # pyright: ignore[reportAttributeAccessIssue]
    run = client.get_run(run_id)
    assert (run.info.status, run.data.metrics["loss"]) == ("FINISHED", 1.0)
    assert client.get_model_version_by_alias("heimdall-net", "champion").tags["git_revision"] == "abc"
    assert "champion is version 1 already" in sync(folder, TRACKING)
    assert len(client.search_model_versions("name='heimdall-net'")) == 1


def test_sync_needs_a_tracked_run(finished, tmp_path):
    with pytest.raises(StorageError, match=r"got no config\.yaml"):
        sync(tmp_path, TRACKING)
    with pytest.raises(ConfigError, match=r"--sync: got tracking\.enabled False"):
        sync(finished, TrackingConfig(enabled=False))
    with pytest.raises(StorageError, match="got a run that was never tracked"):
        sync(finished, TRACKING)
    stopped = tmp_path / "seed-3"
    stopped.mkdir()
    shutil.copy(finished / "config.yaml", stopped)
    assert sync(tmp_path, TRACKING) == (
        f"{stopped}: nothing waits; the run has not reached its end, train.py --out {stopped} --resume goes on."
    )
