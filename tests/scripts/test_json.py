"""`--json`: standard output holds one object, all else is on standard error."""

import dataclasses
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heimdall_jax import config as configs
from heimdall_jax.command import run_script
from heimdall_jax.config import Config, DataConfig, ModelConfig, TrainingConfig
from heimdall_jax.evaluation.summary import summarize
from tests.command_line import main_of
from tests.powder_like import write_powder_like

Ask = Callable[..., tuple[dict[str, Any], str]]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, mlflow_template: Path) -> Path:
    """A data set, a config of a small model, and a folder of runs with a tracking database of its own."""
    home = tmp_path_factory.mktemp("home")
    config = Config(
        data=DataConfig(source="powder", path=str(write_powder_like(home / "powder"))),
        model=ModelConfig(name="receiver_set", width=16, depth=1, heads=2),
        training=TrainingConfig(epochs=1, batch_size=16),
    )
    configs.save(config, home / "mine.yaml")
    (home / "runs").mkdir()
    shutil.copy(mlflow_template, home / "runs" / "mlflow.db")
    return home


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Runs a script; the object that it prints, and its standard error."""

    def run(script: str, *flags: object) -> tuple[dict[str, Any], str]:
        monkeypatch.setattr(sys, "argv", [f"{script}.py", *map(str, flags), "--json"])
        assert run_script(main_of(script)) == 0
        out, err = capsys.readouterr()
        assert out.count("\n") == 1
        return json.loads(out), err

    return run


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_training_tells_run_version_and_metrics_and_its_export_is_validated(home: Path, ask: Ask) -> None:
    run = home / "runs" / "a"
    told, seen = ask("train", "--config", home / "mine.yaml", "--out", run)
    assert told == {
        "run": str(run),
        "model": str(run / "model.onnx"),
        "name": "heimdall-net",
        "version": "1",
        "metrics": json.loads((run / "metrics.json").read_text()),
    }
    assert "prior mean" in seen  # the table
    delivered, _ = ask("train", "--out", run, "--sync")
    assert delivered["run"] == str(run)
    assert "heimdall-net 1" in delivered["delivered"][0]
    valid, seen = ask("validate_export", run, "--publish", home / "store")
    assert set(valid) == {"model", "parity", "smaller", "published"}
    assert valid["published"]["new"]
    assert "largest differences" in seen


def test_several_seeds_tell_their_spread(home: Path, ask: Ask) -> None:
    out, config = home / "runs" / "several", configs.load(str(home / "mine.yaml"))
    for seed in (0, 1):  # finished before
        run = out / f"seed-{seed}"
        run.mkdir(parents=True)
        configs.save(dataclasses.replace(config, seed=seed), run / "config.yaml")
        metrics = summarize(
            np.zeros((3, 2)),
            np.tile(np.eye(2), (3, 1, 1)),
            np.full((3, 2), 1.0 + seed),
            origin_deg=(45.0, 8.0),
            dataset="powder",
            split="time",
        )
        (run / "metrics.json").write_text(json.dumps(metrics))
        for name in ("model.onnx", "manifest.json"):
            (run / name).touch()
    told, _ = ask("train", "--config", home / "mine.yaml", "--out", out, "--seeds", 2)
    assert told == {"run": str(out), **json.loads((out / "seeds.json").read_text())}
    assert told["runs"] == ["seed-0", "seed-1"]


def test_preparing_tells_what_was_written(home: Path, ask: Ask) -> None:
    out = home / "set"
    told, _ = ask("prepare_data", "--config", home / "mine.yaml", "--split", "random", "--out", out)
    assert told["out"] == str(out)
    assert told["written"].startswith(f"prepared set in {out}")
