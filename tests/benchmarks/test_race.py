"""Contestants take turns, ratios are of rounds, and a missed target is called missed."""

import json

import pytest
from rich.console import Console

from heimdall_jax.benchmarks import race as races
from heimdall_jax.benchmarks.race import OURS, Result, Timing, race, result
from heimdall_jax.benchmarks.table import speed_table, speed_tree

SECONDS = {OURS: [1.0, 2.0, 10.0], "peer": [2.0, 3.0, 40.0]}


def test_contestants_take_turns_after_they_are_warm(monkeypatch):
    order = []
    monkeypatch.setattr(races.time, "sleep", lambda seconds: order.append("-"))
    seconds = race({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, repeats=3)
    assert "".join(order) == "aabb" + "-aa-bb" * 3
    assert {name: len(times) for name, times in seconds.items()} == {"a": 3, "b": 3}


def test_who_runs_alone_does_not_wait_for_others(monkeypatch):
    order = []
    monkeypatch.setattr(races.time, "sleep", lambda seconds: order.append("-"))
    race({"a": lambda: order.append("a")}, repeats=3)
    assert "".join(order) == "aa" + "aaa"


def test_time_is_that_of_the_work(monkeypatch):
    now = iter([0.0, 1.0, 5.0, 8.0])
    monkeypatch.setattr(races.time, "perf_counter", lambda: next(now))
    assert race({"a": lambda: None, "b": lambda: None}, repeats=1) == {"a": [1.0], "b": [3.0]}


def test_a_ratio_is_the_median_of_the_rounds():
    found = result("work", SECONDS, targets={"peer": ">= 1.9"})
    assert found.ratios == {"peer": 2.0}  # of 2, 1.5 and 4; of the medians it would be 1.5
    assert found.timings[OURS] == Timing(2.0, 1.0, 10.0)


@pytest.mark.parametrize(
    ("target", "met"), [(">= 2", True), (">= 2.01", False), ("<= 2", True), ("<= 1.99", False), (None, None)]
)
def test_targets(target, met):
    found = result("work", SECONDS, targets={"peer": target} if target else {})
    assert found.met("peer") is met


def test_a_target_without_its_peer_is_neither_met_nor_missed():
    found = result("work", {OURS: [1.0]}, targets={"peer": ">= 1"}, facts={"peer": "absent"})
    assert found.met("peer") is None
    assert speed_tree([found])["results"][0]["met"] == {"peer": None}


def test_the_table_names_what_is_missed_and_the_tree_is_json():
    lines = [
        result("steps", SECONDS, targets={"peer": ">= 3"}),
        Result("memory", {OURS: Timing.of([1.0])}, {"GiB": 1.25}, {"GiB": "<= 1.5"}),
    ]
    console = Console(record=True, width=120)
    console.print(speed_table(lines))
    rows = console.export_text().splitlines()
    (missed,) = (row for row in rows if "MISSED" in row)
    (met,) = (row for row in rows if " met " in row)
    assert "2.00 x ours" in missed
    assert "1.25" in met
    tree = json.loads(json.dumps(speed_tree(lines)))
    assert tree["results"][0]["timings"][OURS] == {"median_s": 2.0, "least_s": 1.0, "most_s": 10.0}
    assert tree["versions"]["numpy"] != "absent"
