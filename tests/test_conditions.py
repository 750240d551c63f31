"""A fused run measured at every clock, through the door that users take."""

import dataclasses
import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from heimdall_jax import conditions
from heimdall_jax.conditions import echo_spread
from heimdall_jax.config import SIMULATION, Config, ModelConfig, TrackingConfig, TrainingConfig
from heimdall_jax.errors import ConfigError
from heimdall_jax.pipeline import evaluate, train

SMALL = dataclasses.replace(
    SIMULATION,
    world=dataclasses.replace(SIMULATION.world, train=48, validation=16, test=48),
    model=dataclasses.replace(SIMULATION.model, width=16, depth=1, heads=2),
    training=TrainingConfig(epochs=2, batch_size=16),
    tracking=TrackingConfig(enabled=False),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "fused"
    train(SMALL, out, console=Console(file=io.StringIO(), width=160))
    return out


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_fused_run_tells_its_errors_beside_the_bound_for_each_clock(run: Path):
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["bound"]["kind"].startswith("Cramér-Rao")
    assert sum(row["n"] for row in metrics["by_clock"]) <= metrics["n"]
    assert {"clocks mixed", "times unusable"} & {row["name"] for row in metrics["by_clock"]}


@pytest.mark.long
@pytest.mark.timeout(900)
def test_every_condition_has_its_row_and_the_figure_is_drawn(
    run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setattr(conditions, "CLOCKS_S", (50e-9, 1e-3))
    monkeypatch.setattr(conditions, "MAIN_CLOCKS_S", (50e-9,))
    monkeypatch.setattr(conditions, "ECHO_DRAWS", 100)
    console = Console(file=io.StringIO(), width=160)
    evaluate(run, out=tmp_path, conditions=40, console=console)
    rows = json.loads((tmp_path / "conditions.json").read_text())["rows"]
    assert [(row["clock_sigma_s"], row["echoes"]) for row in rows] == [(50e-9, 0), (1e-3, 0), (50e-9, 2)]
    first, bad_clocks, echoes = rows
    assert first["n"] + first["refused_by_bandwidth"] == first["well_received"] <= first["transmissions"] == 40
    assert first["modulated_that_pass"] >= 0.9
    assert first["bound_p68_m"] < 100 < 10_000 < bad_clocks["bound_p68_m"]
    assert echoes["bound_p68_m"] > first["bound_p68_m"]
    assert (tmp_path / "figures" / "clocks.png").exists()
    printed = console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]
    assert "echoes" in printed


@pytest.mark.long
def test_a_run_without_times_has_no_clocks_to_vary(run: Path, tmp_path: Path):
    other = dataclasses.replace(SMALL, model=ModelConfig(name="receiver_set", width=16, depth=1, heads=2))
    train(other, tmp_path / "powers", console=Console(file=io.StringIO()))
    with pytest.raises(ConfigError, match="--conditions"):
        evaluate(tmp_path / "powers", conditions=40, console=Console(file=io.StringIO()))


@pytest.mark.slow
def test_echoes_move_arrivals_by_about_their_delay_times_their_amplitude():
    """Two echoes of mean power -10 dB at 0.5 to 5 us move an arrival by Re(g) tau each, to first order.

    E[Re(g)^2 tau^2] = 0.05 x 9.25e-12 s^2 each, so 0.96 us together; where they nearly cancel the direct path they move
    it further, which the root mean square shows.
    """
    config = dataclasses.replace(SIMULATION, world=dataclasses.replace(SIMULATION.world, kinds=("fm", "dmr"), echoes=2))
    sigma_s, rms_s = echo_spread(config, 600)
    assert 0.6e-6 < sigma_s < 1.2e-6
    assert sigma_s < rms_s
    silent = dataclasses.replace(config, world=dataclasses.replace(config.world, echo_db=-200.0))
    assert echo_spread(silent, 200).rms_s < 50e-9


def test_the_config_of_the_command_line_is_the_fused_one():
    assert Config() != SIMULATION
    assert SIMULATION.model.timing
