"""The whole chain on small data: a run folder with everything in it, measured again, proven, resumed, refused."""

import dataclasses
import io
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from rich.console import Console

from heimdall_jax import config as configs
from heimdall_jax.config import (
    Config,
    FeatureConfig,
    ModelConfig,
    TrackingConfig,
    TrainingConfig,
    WorldConfig,
)
from heimdall_jax.delivery import validate_export
from heimdall_jax.errors import ConfigError, DataError, ExportError, StorageError
from heimdall_jax.export.bundle import read_bundle
from heimdall_jax.export.model_card import check_card
from heimdall_jax.models.radio_map import RadioMapNet
from heimdall_jax.models.receiver_set import ReceiverSetNet
from heimdall_jax.pipeline import evaluate, train
from heimdall_jax.run import Run, open_run
from heimdall_jax.tracking.mlflow_tracker import MlflowTracker
from tests.powder_like import write_powder_like
from tests.small_runs import QUIET, TRAINING, small_config


def silent() -> Console:
    return Console(file=io.StringIO(), width=120)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_powder_like(tmp_path_factory.mktemp("data") / "powder")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> Path:
    out = tmp_path_factory.mktemp("runs") / "tracked"
    console = silent()
    train(small_config(folder, tracking=TrackingConfig()), out, console=console)
    printed = console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]
    for part in ("training", "samples/s", "model", "prior mean", "no radio", "coverage", str(out.name)):
        assert part in printed
    return out


def test_the_run_folder_holds_what_other_programs_rely_on(run: Path) -> None:
    names = {path.name for path in run.iterdir()}
    assert {"config.yaml", "metrics.json", "checkpoints", "model.onnx", "manifest.json", "recalibration.json"} <= names
    assert check_card(run, read_bundle(run).manifest.sha256)
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["dataset"] == "powder"
    assert metrics["split"] == "random"
    assert set(metrics["error_m"]) == {"mean", "median", "p68", "p90", "rmse"}
    assert set(metrics["coverage"]) == {"0.5", "0.68", "0.9", "0.95"}
    assert set(metrics["baselines"]) >= {"prior_mean", "weighted_centroid", "knn5", "extra_trees_power"}
    assert metrics["controls"]["no_radio"]["mean"] > 0
    assert metrics["n_trained_on"] == 0
    assert metrics["n"] == 29  # 18 % of 160


def test_the_tracked_run_holds_parameters_metrics_files_and_the_model(run: Path) -> None:
    tracker = MlflowTracker(f"sqlite:///{(run.parent / 'mlflow.db').resolve()}", "heimdall")
    run_id = json.loads((run / "tracked.json").read_text())["run_id"]
    client = tracker._client
    tracked = client.get_run(run_id)
    assert tracked.info.status == "FINISHED"
    assert tracked.data.params["training.learning_rate"] == "0.003"
    steps = [metric.step for metric in client.get_metric_history(run_id, "train/loss")]
    assert steps == list(range(len(steps)))
    assert len(steps) == 6 * 7  # 111 training rows in batches of 16
    files = {item.path for item in client.list_artifacts(run_id)}
    assert {"config.yaml", "metrics.json", "model_card.md"} <= files
    version = client.get_model_version_by_alias("heimdall-net", "candidate")
    assert version.run_id == run_id


def test_evaluating_the_same_split_again_gives_the_same_numbers(run: Path) -> None:
    before = json.loads((run / "metrics.json").read_text())
    again = evaluate(run, out=run / "again", console=silent())
    assert again["error_m"] == before["error_m"]
    assert again["baselines"] == before["baselines"]


def test_other_data_and_splits_are_measured_with_the_runs_own_frame(run: Path, tmp_path: Path) -> None:
    other = write_powder_like(tmp_path / "other", rows=60, seed=9)
    metrics = evaluate(run, data_path=str(other), split="none", console=silent())
    assert (metrics["n"], metrics["split"]) == (60, "none")
    assert (run / "evaluations" / "other-none" / "metrics.json").exists()
    named = tmp_path / "mine.json"
    named.write_text(json.dumps(["2022-04-25 12:00:30", "2022-04-25 12:01:00", "1999-01-01 00:00:00"]))
    metrics = evaluate(run, data_path=str(other), split=str(named), console=silent())
    assert (metrics["n"], metrics["split"]) == (2, "mine.json")
    own = evaluate(run, split="none", console=silent())
    assert (own["n"], own["n_trained_on"]) == (160, 111)  # 131 that are not test, less 15 %
    with pytest.raises(ConfigError, match=r"--objects: got 's3://b'; allowed: with a catalogue"):
        evaluate(run, objects="s3://b", console=silent())
    with pytest.raises(StorageError, match=r"catalogue sqlite:////nowhere/c\.sqlite.*No such file"):
        evaluate(run, data_path="sqlite:////nowhere/c.sqlite", objects="memory://", console=silent())


def test_the_export_is_proven_and_every_forgery_named(run: Path, tmp_path: Path) -> None:
    assert validate_export(run / "model.onnx").parity.rows
    for damage, reason in (
        (_truncate, "sha256|truncated|size"),
        (_forget, "manifest"),
        (_flip, "card"),
        (_flip_all, "weight"),
    ):
        copy = tmp_path / damage.__name__
        shutil.copytree(run, copy)
        damage(copy)
        with pytest.raises((ExportError, StorageError), match=reason):
            validate_export(copy / "model.onnx")


def _truncate(run: Path) -> None:
    (run / "model.onnx").write_bytes((run / "model.onnx").read_bytes()[:-100])


def _forget(run: Path) -> None:
    (run / "manifest.json").unlink()


def _flip(run: Path) -> None:
    """Change the lowest bit of one weight and make the manifest agree."""
    import hashlib

    import onnx
    from onnx import numpy_helper

    path = run / "model.onnx"
    model = onnx.load(path)
    tensor = max(model.graph.initializer, key=lambda t: int(np.prod(t.dims)))
    values = numpy_helper.to_array(tensor).copy()
    values.view(np.uint32).reshape(-1)[7] ^= 1
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    path.write_bytes(model.SerializeToString(deterministic=True))
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    manifest["size_bytes"] = path.stat().st_size
    (run / "manifest.json").write_text(json.dumps(manifest))


def _flip_all(run: Path) -> None:
    """The same, and no card says whose model it was."""
    _flip(run)
    (run / "model_card.md").unlink()


@pytest.mark.parametrize("cross_validate", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_radio_map_is_learned_without_a_step_and_resumed(folder: Path, tmp_path: Path, cross_validate: bool) -> None:
    spreads = configs.RadioMapConfig(cross_validate=cross_validate, fingerprints=100 if cross_validate else 0)
    config = dataclasses.replace(small_config(folder), model=ModelConfig(name="radio_map"), radio_map=spreads)
    metrics = train(config, tmp_path / "run", console=silent())
    assert metrics["step"] == 0
    assert metrics["error_m"]["mean"] < 0.5 * metrics["baselines"]["prior_mean"]["mean"]
    assert validate_export(tmp_path / "run").parity.rows
    again = train(config, tmp_path / "run", resume=True, console=silent())
    assert again["error_m"] == metrics["error_m"]
    model = open_run(tmp_path / "run").model
    assert isinstance(model, RadioMapNet)
    np.testing.assert_array_equal(model.mapped[...], [0, 0, 1, 1, 1, 1, 1])  # any other, the bus, five that stand


@pytest.mark.slow
def test_split_none_trains_on_all_rows_and_reports_validation(folder: Path, tmp_path: Path) -> None:
    config = small_config(folder, split="none")
    metrics = train(
        dataclasses.replace(config, training=dataclasses.replace(TRAINING, epochs=1)), tmp_path / "r", console=silent()
    )
    assert metrics["split"] == "none (validation)"
    assert metrics["n"] == 25  # the whole 400 m cells that come nearest to 15 % of 160


def test_resume_needs_the_runs_own_config(run: Path, folder: Path, tmp_path: Path) -> None:
    config = configs.load(str(run / "config.yaml"))
    with pytest.raises(ConfigError, match="a run already"):
        train(config, run, console=silent())
    changed = dataclasses.replace(config, training=dataclasses.replace(config.training, learning_rate=1.0))
    with pytest.raises(ConfigError, match=r"training\.learning_rate"):
        train(changed, run, resume=True, console=silent())
    with pytest.raises(StorageError, match="--resume out"):
        train(config, tmp_path / "none", resume=True, console=silent())


@pytest.mark.slow
def test_resuming_a_finished_run_changes_nothing(run: Path) -> None:
    before = open_run(run)
    metrics = json.loads((run / "metrics.json").read_text())
    again = train(configs.load(str(run / "config.yaml")), run, resume=True, console=silent())
    assert again["error_m"] == metrics["error_m"]
    for one, other in zip(jax.tree.leaves(before.state), jax.tree.leaves(open_run(run).state), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_best_model_answers_with_the_runs_recalibration(run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "copy")
    kept = json.loads((copy / "recalibration.json").read_text())
    assert kept["step"] == open_run(copy).step
    assert np.asarray(coefficients(open_run(copy))) == pytest.approx(kept["coefficients"], rel=1e-6)
    (copy / "recalibration.json").write_text(json.dumps(kept | {"step": kept["step"] + 1}))
    np.testing.assert_array_equal(coefficients(open_run(copy)), 0.0)  # of another step
    (copy / "recalibration.json").write_text('{"step": 1, "coefficients": [1, 2, 3]}')
    with pytest.raises(StorageError, match="7 numbers"):
        open_run(copy)


def coefficients(run: Run) -> np.ndarray:
    model = run.model
    assert isinstance(model, ReceiverSetNet)
    return np.asarray(model.recalibration.coefficients[...])


def test_a_file_where_the_runs_folder_should_be_is_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("x")
    with pytest.raises(StorageError, match="run folder"):
        train(small_config(folder), tmp_path / "runs" / "a", console=silent())


def test_empty_data_folder_and_no_data_at_all_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises((DataError, StorageError), match=r"empty|no .*file|nothing"):
        train(small_config(tmp_path / "empty"), tmp_path / "a", console=silent())
    with pytest.raises(ConfigError, match="--data"):
        train(dataclasses.replace(configs.POWDER, tracking=QUIET), tmp_path / "b", console=silent())


@pytest.mark.slow
def test_the_default_chain_from_iq_on_a_small_world(tmp_path: Path) -> None:
    config = Config(
        world=WorldConfig(train=32, validation=16, test=24),
        features=FeatureConfig(),
        model=ModelConfig(),
        training=TrainingConfig(epochs=1, batch_size=16),
        tracking=QUIET,
    )
    metrics = train(config, tmp_path / "r", console=silent())
    assert metrics["dataset"] == "simulation"
    assert metrics["n"] == 24
    assert set(metrics["bound"]) >= {"kind", "median_m", "p68_m", "rmse_m", "ratio_p68", "ratio_rmse"}
    assert metrics["baselines"]["posterior_mean"]["mean"] < metrics["baselines"]["prior_mean"]["mean"]
    assert validate_export(tmp_path / "r" / "model.onnx").parity.rows
    with pytest.raises(ConfigError, match="nothing for simulation"):
        evaluate(tmp_path / "r", split="time", console=silent())
    assert evaluate(tmp_path / "r", console=silent())["error_m"] == metrics["error_m"]
