"""Figures of a training: its numbers in their tables, marks of what happened, and why there may be none."""

import math

import pytest
from evaluation.test_report_figures import column, pictured

from heimdall_jax.evaluation.panels import Panel
from heimdall_jax.evaluation.report_training import ROWS_TOLD, training_panels
from heimdall_jax.evaluation.table import spoken_m
from heimdall_jax.history import History, Steps, Validated


def some_history(steps: int = 90, **changes) -> History:
    """Losses fall by 0.01 a step; an evaluation each 30 steps, the best of step 60."""
    rows = [
        Steps(step, step + 1, 20 - 0.01 * step, 1000.0 - step, 2.0, 1e-3, 640.0 if step else math.nan, 5e9, 0.25)
        for step in range(steps)
    ]
    validated = [Validated(step, 18 + abs(step - 60) / 30, 500.0) for step in range(0, steps + 1, 30)]
    return History(**({"steps": rows, "validated": validated, "steps_per_epoch": 10} | changes))


def drawn(history: History | None, best: int = 60) -> dict[str, Panel]:
    return {panel.name: panel for panel in training_panels(history, best)}


def test_learning_curves_tell_both_splits_and_mark_the_best():
    panel = drawn(some_history())["learning_curves"]
    pictured(panel)
    assert column(panel, "step") == ["0", "30", "60", "90"]
    assert column(panel, "epoch") == ["0.0", "3.0", "6.0", "9.0"]
    assert column(panel, "training loss") == ["", "19.855", "19.555", "19.255"]  # means of 30 steps, by hand
    assert column(panel, "training error") == ["", *(spoken_m(value) for value in (985.5, 955.5, 925.5))]
    assert column(panel, "validation loss") == ["20.000", "19.000", "18.000", "19.000"]
    assert [row[-1] for row in panel.rows] == ["", "", "best", ""]
    assert "The best checkpoint is of step 60, with 18.000 nats." in panel.caption
    assert "went back" not in panel.caption


def test_rollbacks_and_resumes_are_said():
    panels = drawn(some_history(rolled_back=[(47, 30)], resumed=[60]))
    for name in ("learning_curves", "training_steps"):
        assert "Training went back at step 47 to 30." in panels[name].caption
        assert "stopped and resumed from step 60" in panels[name].caption


def test_steps_and_speed_are_told_in_groups():
    panels = drawn(some_history())
    steps, speed = panels["training_steps"], panels["throughput"]
    for panel in (steps, speed):
        pictured(panel)
        assert len(panel.rows) == ROWS_TOLD
    assert set(column(steps, "largest norm")) == {"2"}
    assert set(column(speed, "samples/s")) == {"640"}
    assert set(column(speed, "GFLOP/s")) == {"5.00"}
    assert set(column(speed, "share of peak")) == {"25.0%"}
    assert "640 samples a second, 5.00 GFLOP/s, 25.0% of the peak" in speed.alt


def test_a_speed_without_a_count_of_operations_is_told_without_them():
    rows = [row._replace(flops_per_s=math.nan, share_of_peak=math.nan) for row in some_history().steps]
    panel = drawn(History(rows, some_history().validated))["throughput"]
    pictured(panel)
    assert set(column(panel, "share of peak")) == {""}
    assert "in the median 640 samples a second." in panel.alt


@pytest.mark.parametrize(
    ("history", "why"),
    [
        (None, "holds no history of its training"),
        (History(validated=[Validated(0, 1.0, 2.0)]), "fitted at once, not trained in steps"),
    ],
)
def test_without_steps_a_sentence_says_why(history, why):
    panels = drawn(history)
    assert list(panels) == ["learning_curves", "training_steps", "throughput"]
    assert all(panel.png == b"" and why in panel.caption for panel in panels.values())


def test_a_training_of_one_step_can_be_drawn():
    panels = drawn(some_history(1, validated=[Validated(0, math.nan, 5.0), Validated(1, 2.0, 5.0)]), best=1)
    pictured(panels["learning_curves"])
    pictured(panels["training_steps"])
    assert panels["throughput"].png == b""
    assert "too few steps" in panels["throughput"].caption
