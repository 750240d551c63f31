"""Runs of several seeds through the doors that users take: made, stopped, resumed, measured, refused."""

import dataclasses
import io
import json
import shutil
import statistics
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from heimdall_jax import config as configs
from heimdall_jax import seeds as door
from heimdall_jax.command import parse_train
from heimdall_jax.config import Config, WorldConfig
from heimdall_jax.errors import ConfigError, HeimdallError, StorageError
from heimdall_jax.pipeline import train
from heimdall_jax.run import open_run
from heimdall_jax.seeds import evaluate_runs, train_seeds
from tests.powder_like import write_powder_like
from tests.small_runs import small_config


def silent() -> Console:
    return Console(file=io.StringIO(), width=300)


def said(console: Console) -> str:
    return console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    return small_config(write_powder_like(tmp_path_factory.mktemp("data") / "powder"), seed=4)


@pytest.fixture(scope="module")
def runs(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the runs of seeds 4 and 5; not to be changed."""
    out = tmp_path_factory.mktemp("runs") / "both"
    train_seeds(config, out, 2, console=silent())
    return out


def results(runs: Path) -> list[dict[str, Any]]:
    return [json.loads((runs / name / "metrics.json").read_text()) for name in ("seed-4", "seed-5")]


def test_each_seed_has_a_whole_run_and_the_spread_is_theirs(runs: Path):
    assert {path.name for path in runs.iterdir() if path.name != "cache"} == {"seed-4", "seed-5", "seeds.json"}
    assert [open_run(runs / f"seed-{seed}").config.seed for seed in (4, 5)] == [4, 5]
    told, means = json.loads((runs / "seeds.json").read_text()), [each["error_m"]["mean"] for each in results(runs)]
    assert means[0] != means[1]
    assert told["metrics"]["error_m.mean"]["values"] == means
    assert told["metrics"]["error_m.mean"]["std"] == pytest.approx(statistics.stdev(means))
    assert (told["runs"], told["seeds"], told["differing"]) == (["seed-4", "seed-5"], [4, 5], [])


@pytest.mark.slow
def test_a_folder_stands_for_its_runs_and_nothing_in_it_changes_but_the_results(runs: Path, tmp_path: Path):
    before = results(runs)
    console = silent()
    whole = evaluate_runs([runs], out=tmp_path / "whole", console=console)
    assert "error_m.mean" in said(console)
    listed = evaluate_runs([runs / "seed-4", runs / "seed-5"], out=tmp_path / "listed", report=True, console=silent())
    assert whole == listed
    compared = whole["compared"]
    assert (compared["first"], list(compared["others"])) == ("seed-4", ["seed-5"])
    change_m = before[1]["error_m"]["mean"] - before[0]["error_m"]["mean"]
    assert compared["others"]["seed-5"]["error_m"]["mean"]["difference"] == pytest.approx(change_m)
    assert "beside seed-4, the same" in said(console)
    page = (tmp_path / "listed" / "compare.html").read_text()
    assert "seed-5 beside seed-4" in page
    assert not (tmp_path / "whole" / "compare.html").exists()
    assert whole["metrics"]["error_m.mean"]["values"] == [each["error_m"]["mean"] for each in before]
    for name in ("seed-4/metrics.json", "seed-5/metrics.json", "seeds.json"):
        assert (tmp_path / "whole" / name).exists()
    assert results(runs) == before
    single = evaluate_runs([runs / "seed-4"], out=tmp_path / "single", console=silent())
    assert single["error_m"] == before[0]["error_m"]
    assert not (tmp_path / "single" / "seeds.json").exists()


@pytest.mark.slow
def test_without_out_the_results_are_with_the_runs(runs: Path, tmp_path: Path):
    copy = tmp_path / "copy"
    shutil.copytree(runs, copy)
    (copy / "seeds.json").unlink()
    told = evaluate_runs([copy / "seed-5", copy / "seed-4"], console=silent())
    assert json.loads((copy / "seeds.json").read_text()) == told
    assert told["seeds"] == [5, 4]
    other = evaluate_runs([copy], split="none", console=silent())
    assert other["split"] == "none"
    assert json.loads((copy / "evaluations" / "powder-none" / "seeds.json").read_text()) == other
    assert (copy / "seed-4" / "evaluations" / "powder-none" / "metrics.json").exists()
    assert json.loads((copy / "seeds.json").read_text()) == told


@pytest.mark.slow
def test_finished_runs_stay_and_stopped_ones_go_on_only_when_asked(
    config: Config, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    copy = tmp_path / "copy"
    shutil.copytree(runs, copy)
    (copy / "seed-5" / "manifest.json").unlink()  # as a kill before the export leaves it
    trained: list[tuple[str, bool]] = []

    def noted(its: Config, folder: Path, *, resume: bool, console: Console, stop: None) -> dict[str, Any]:
        trained.append((folder.name, resume))
        return train(its, folder, resume=resume, console=console)

    monkeypatch.setattr(door, "train", noted)
    with pytest.raises(ConfigError, match=r"seed-5: got a run already; .*--resume"):
        train_seeds(config, copy, 2, console=silent())
    console = silent()
    told = train_seeds(config, copy, 2, resume=True, console=console)
    assert trained == [("seed-5", True)]
    assert "seed-4: finished before" in said(console)
    assert told["metrics"] == json.loads((runs / "seeds.json").read_text())["metrics"]
    told = train_seeds(config, copy, 3, console=silent())
    assert trained == [("seed-5", True), ("seed-6", False)]
    assert told["seeds"] == [4, 5, 6]


def test_finished_runs_of_another_config_are_refused_before_any_is_made(config: Config, runs: Path):
    other = dataclasses.replace(config, training=dataclasses.replace(config.training, learning_rate=0.5), seed=3)
    with pytest.raises(ConfigError, match=r"resume: got changed \['training\.learning_rate'\]"):
        train_seeds(other, runs, 2, console=silent())
    assert not (runs / "seed-3").exists()
    with pytest.raises(ConfigError, match="--seeds: got 0"):
        train_seeds(config, runs, 0, console=silent())


def changed(run: Path, copy: Path, section: str = "data", **settings: Any) -> Path:
    """A copy of a run that says it was trained with other settings."""
    shutil.copytree(run, copy)
    config = configs.load(str(run / "config.yaml"))
    part = dataclasses.replace(getattr(config, section), **settings)
    configs.save(dataclasses.replace(config, **{section: part}), copy / "config.yaml")
    return copy


def test_simulated_runs_may_have_trained_on_more_of_the_same_world():
    simulated = Config(world=WorldConfig(train=10))
    more, other = (
        dataclasses.replace(simulated, world=WorldConfig(**world)) for world in ({"train": 99}, {"test": 99})
    )
    assert door._data_of(more) == door._data_of(simulated) != door._data_of(other)


@pytest.mark.parametrize(
    ("data", "match"),
    [
        ({"split": "time"}, r"run other: got data\.split 'time' and not 'random'; allowed: .* of seed-4\."),
        ({"path": "elsewhere"}, r"run other: got data\.path '.*elsewhere' and not '.*powder'"),
        ({"limit": 30}, r"data\.limit 30 and not None"),
    ],
)
def test_runs_of_other_data_are_refused_before_any_is_measured(runs: Path, tmp_path: Path, data, match):
    other = changed(runs / "seed-5", tmp_path / "other", **data)
    with pytest.raises(ConfigError, match=match):
        evaluate_runs([runs / "seed-4", other], out=tmp_path / "out", console=silent())
    assert not (tmp_path / "out").exists()


def test_the_same_data_by_another_way_of_writing_its_path_is_the_same(runs: Path, tmp_path: Path):
    path = Path(configs.load(str(runs / "seed-4" / "config.yaml")).data.path)
    other = changed(runs / "seed-5", tmp_path / "other", path=str(path / ".." / path.name))
    evaluate_runs([runs / "seed-4", other], out=tmp_path / "out", console=silent())


def test_more_than_the_seed_is_told(runs: Path, tmp_path: Path):
    other, console = changed(runs / "seed-5", tmp_path / "other", "training", learning_rate=0.5), silent()
    told = evaluate_runs([runs / "seed-4", other], out=tmp_path / "out", console=console)
    assert told["differing"] == ["training.learning_rate"]
    assert "differ by more than their seed: training.learning_rate" in said(console)


def test_wrong_lists_of_runs_are_refused(runs: Path, tmp_path: Path):
    with pytest.raises(ConfigError, match="seed-4 twice"):
        evaluate_runs([runs / "seed-4", runs / "seed-5" / ".." / "seed-4"], console=silent())
    with pytest.raises(StorageError, match=r"no config\.yaml; .*seed-0"):
        evaluate_runs([runs / "seed-4", tmp_path], console=silent())
    with pytest.raises(HeimdallError, match="no checkpoints"):
        evaluate_runs([tmp_path], console=silent())


def test_resuming_seeds_takes_their_own_config_and_the_first_seed(tmp_path: Path):
    for seed in (9, 10):
        (tmp_path / f"seed-{seed}").mkdir()
        configs.save(dataclasses.replace(configs.POWDER, seed=seed), tmp_path / f"seed-{seed}" / "config.yaml")
    parsed = parse_train(["--out", str(tmp_path), "--resume", "--seeds", "3"])
    assert parsed.settings == dataclasses.replace(configs.POWDER, seed=9)
    assert (parsed.seeds, parsed.resume) == (3, True)
    assert parse_train([]).seeds is None
