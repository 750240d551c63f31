"""`evaluate.py RUN --report` through the pipeline: the page, its figures, and both beside the tracked run."""

import dataclasses
import io
import json
import re
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from heimdall_jax import config as configs
from heimdall_jax.config import Config, DataConfig, ModelConfig, TrackingConfig, TrainingConfig, WorldConfig
from heimdall_jax.errors import DataError
from heimdall_jax.pipeline import evaluate, train
from heimdall_jax.tracking.mlflow_tracker import DATABASE, MlflowTracker
from tests.laws import ROOT
from tests.powder_like import write_powder_like

TRAINING = TrainingConfig(epochs=2, batch_size=16, learning_rate=3e-3)
SMALL = ModelConfig(name="receiver_set", width=16, depth=1, heads=2)
ALWAYS = {"error_cdf", "risk_coverage", "coverage", "error_against_sigma", "map", "error_map", "error_by_receivers"}
TRAINED = {"learning_curves", "training_steps", "throughput"}


def evaluated(run: Path, **asked) -> str:
    """What the user sees, on one line."""
    file = io.StringIO()
    evaluate(run, report=True, console=Console(file=file, width=400), **asked)
    return file.getvalue()


def figures(folder: Path) -> set[str]:
    return {path.stem for path in (folder / "figures").glob("*.png")}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, mlflow_template: Path) -> Path:
    """A tracked run on made-up POWDER rows."""
    folder = write_powder_like(tmp_path_factory.mktemp("data") / "powder")
    out = tmp_path_factory.mktemp("runs") / "night"
    shutil.copy(mlflow_template, out.parent / DATABASE)
    config = dataclasses.replace(
        configs.POWDER,
        data=DataConfig(source="powder", path=str(folder), split="time"),
        model=SMALL,
        training=TRAINING,
        augmentation=dataclasses.replace(configs.POWDER.augmentation, simulated=0.0),
    )
    train(config, out, console=Console(file=io.StringIO()))
    return out


def test_a_real_runs_report_is_whole_and_beside_the_tracked_run(run: Path):
    said = evaluated(run)
    assert "the report is with the tracked run, under report/" in said
    assert "report.html" in said
    page = (run / "report.html").read_text(encoding="utf-8")
    drawn = figures(run)
    assert drawn == ALWAYS | TRAINED | {"error_by_distance"}  # nothing is skipped in these rows
    assert len(re.findall(r'<img src="data:image/png;base64,', page)) == len(drawn)
    assert "No figure: no row was skipped" in page
    assert page.count("this data set holds received powers and no samples") == 2
    assert f"The best checkpoint is of step {json.loads((run / 'metrics.json').read_text())['step']}, with" in page
    assert "reference: Cramér-Rao, powers, independent shadowing" in page
    metrics = json.loads((run / "metrics.json").read_text())
    assert f"{metrics['n']:,} fixes with a known truth" in page
    assert str(run.parent) not in page
    tracker = MlflowTracker(f"sqlite:///{(run.parent / DATABASE).resolve()}", "heimdall")
    run_id = json.loads((run / "tracked.json").read_text())["run_id"]
    stored = {Path(item.path).name for item in tracker._client.list_artifacts(run_id, "report")}
    assert stored == {"report.html", *(f"{name}.png" for name in drawn)}
    assert tracker._client.get_run(run_id).info.status == "FINISHED"


def test_a_baselines_circle_is_fitted_on_validation_not_on_what_it_was_fitted_on(run: Path):
    """Five neighbours place their own rows to the metre; with 2 dB of noise others to a hundred or more."""
    regions = json.loads((run / "metrics.json").read_text())["baseline_regions"]
    baselines = json.loads((run / "metrics.json").read_text())["baselines"]
    assert regions.keys() == baselines.keys() >= {"prior_mean", "knn5", "extra_trees_power"}
    for name, region in regions.items():
        assert set(region) == {"sigma_m", "nll_nats_per_fix", "coverage", "region_area_m2"}
        assert 0.3 < region["sigma_m"] * 2**0.5 / baselines[name]["rmse"] < 3


def test_a_run_without_a_history_says_so_and_a_damaged_one_is_an_error(run: Path, tmp_path: Path):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    (copy / "history.jsonl").write_text("[]\n")
    with pytest.raises(DataError, match=r"history\.jsonl, line 1: .*Remove the file"):
        evaluated(copy, out=tmp_path / "out")
    (copy / "history.jsonl").unlink()
    evaluated(copy, out=tmp_path / "out")
    assert figures(tmp_path / "out") == ALWAYS | {"error_by_distance"}
    assert (tmp_path / "out" / "report.html").read_text().count("holds no history of its training") == 3


def test_another_split_has_its_own_report_here_and_there(run: Path):
    before = (run / "report.html").read_bytes()
    said = evaluated(run, split="random")
    assert "under report/powder-random" in said
    assert "this is interpolation" in (run / "evaluations" / "powder-random" / "report.html").read_text()
    assert (run / "report.html").read_bytes() == before


@pytest.mark.slow
def test_a_run_moved_from_its_tracking_store_is_reported_in_files(run: Path, tmp_path: Path):
    moved = tmp_path / "runs" / "night"
    shutil.copytree(run, moved)
    assert f"no {DATABASE} beside the run folder, so its report is in files only" in evaluated(moved, out=tmp_path)
    assert figures(tmp_path) > ALWAYS
    assert not (moved.parent / DATABASE).exists()
    (moved.parent / DATABASE).write_text("no database")
    assert "the report is in files only; tracking database" in evaluated(moved, out=tmp_path)
    (moved / "tracked.json").unlink()
    assert "is not tracked" in evaluated(moved, out=tmp_path)


@pytest.mark.slow
def test_a_simulated_runs_report_has_its_bound(tmp_path: Path):
    config = Config(
        world=WorldConfig(train=32, validation=16, test=24),
        model=SMALL,
        training=dataclasses.replace(TRAINING, epochs=1),
        tracking=TrackingConfig(enabled=False),
    )
    train(config, tmp_path / "run", console=Console(file=io.StringIO()))
    assert "is not tracked" in evaluated(tmp_path / "run", out=tmp_path / "out")
    assert figures(tmp_path / "out") >= ALWAYS | TRAINED - {"throughput"} | {"error_by_distance"}  # two steps
    page = (tmp_path / "out" / "report.html").read_text()
    assert "bound: posterior mean" in page
    assert "There is no bound" not in page
    assert "baseline_regions" not in json.loads((tmp_path / "out" / "metrics.json").read_text())


def test_the_pages_template_is_packaged():
    """Without this line an installed package has no page to fill."""
    assert '"heimdall_jax.pages" = ["*.jinja"]' in (ROOT / "pyproject.toml").read_text()
