"""Receivers that fail in turn, through the door that users take."""

import dataclasses
import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from heimdall_jax import config as configs
from heimdall_jax import faults
from heimdall_jax.config import DataConfig, ModelConfig, TrackingConfig
from heimdall_jax.datasets import Data
from heimdall_jax.errors import ConfigError
from heimdall_jax.evaluation.faults import KINDS
from heimdall_jax.pipeline import evaluate, train
from heimdall_jax.run import Run, make_model, make_trainer
from heimdall_jax.types import Domain
from tests.powder_like import write_powder_like


def console() -> Console:
    return Console(file=io.StringIO(), width=160)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_each_fault_of_each_receiver_has_its_row_and_the_watch_finds_it(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(faults, "SHORTER", (10, 20))
    data = write_powder_like(tmp_path / "powder", rows=260)
    config = dataclasses.replace(
        configs.POWDER,
        data=DataConfig(source="powder", path=str(data), split="random"),
        model=ModelConfig(name="radio_map"),
        tracking=TrackingConfig(enabled=False),
    )
    train(config, tmp_path / "run", console=console())
    told = console()
    metrics = evaluate(tmp_path / "run", out=tmp_path / "out", faults=True, console=told)
    measured = json.loads((tmp_path / "out" / "faults.json").read_text())
    assert measured["n"] == metrics["n"] > 40
    assert measured["clean"]["median_m"] == metrics["error_m"]["median"]
    assert measured["clean"]["found"] == []
    assert measured["clean"]["watched_m"] == measured["clean"]["median_m"] < 200
    assert {(row["kind"], row["receiver"]) for row in measured["rows"]} == {
        (kind, name) for kind in KINDS for name in (*(f"fixed-{i}" for i in range(5)), "bus-1")
    }
    shifted = [row for row in measured["rows"] if row["kind"].startswith("20 dB") and row["receiver"] != "bus-1"]
    for row in shifted:
        assert row["found"], row
        assert row["found_after"] in (10, 20)
        assert row["watched_moved"] == pytest.approx(row["absent"])
        assert row["moved"] > row["watched_moved"]
    assert set(measured["worst"]) == set(KINDS)
    assert set(measured["false_flags"]) == {"10", "20"}
    printed = told.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]
    assert all(kind in printed for kind in KINDS)


def test_a_run_without_a_map_is_refused(tmp_path: Path):
    config = dataclasses.replace(configs.POWDER, model=ModelConfig(name="receiver_set", width=16, depth=1, heads=2))
    domain = Domain((40.0, -111.0), ("a", "b"))
    trainer = make_trainer(config, make_model(config, domain), total_steps=1)
    run = Run(tmp_path, config, domain, trainer, trainer.start(), 0)
    with pytest.raises(ConfigError, match=r"--faults: got receiver_set; allowed: a radio_map run\. Give a run of"):
        faults.measure_faults(run, Data("powder", "random", domain, None, None, None, {}))
