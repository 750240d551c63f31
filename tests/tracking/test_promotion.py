"""When a candidate becomes champion: a rule on tags, and the alias that follows it."""

import re

import pytest

from heimdall_jax.tracking.promotion import Version, judge
from heimdall_jax.tracking.trackers import MemoryTracker


def tags(mean: float, interval: tuple[float, float] | None = None, **others: str) -> dict[str, str]:
    told = {"dataset": "powder", "split": "time", "fingerprint": "abc", "error_mean_m": repr(mean)}
    if interval is not None:
        told["error_mean_interval_m"] = str(list(interval))
    return told | others


def test_the_first_version_is_champion_whatever_is_known_of_it():
    assert judge(Version("1", {}), None) == (True, "champion is version 1: there was none")


def test_a_champion_stays_itself():
    assert judge(Version("1", tags(9.0)), Version("1", tags(9.0))) == (False, "champion is version 1 already")


@pytest.mark.parametrize(
    ("high_m", "moves", "said"),
    [
        (99.9, True, r"champion is version 2: 90.0 m \(95 %: up to 99.9 m\) against 100.0 m of version 1"),
        (100.0, False, "champion stays version 1: version 2 is not better for sure, 90.0 m"),
        (120.0, False, "champion stays version 1: version 2 is not better for sure, 90.0 m"),
    ],
)
def test_better_must_be_more_than_chance(high_m, moves, said):
    verdict = judge(Version("2", tags(90.0, (80.0, high_m))), Version("1", tags(100.0, (50.0, 150.0))))
    assert verdict.moves == moves
    assert re.match(said, verdict.reason)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"fingerprint": "abd"}, "its fingerprint is abc, that of 2 abd"),
        ({"split": "block"}, "its split is time, that of 2 block"),
        ({"dataset": "catalogue"}, "its dataset is powder, that of 2 catalogue"),
    ],
)
def test_other_rows_are_not_compared(other, said):
    verdict = judge(Version("2", tags(1.0, (0.5, 1.5), **other)), Version("1", tags(100.0)))
    assert verdict == (False, f"champion stays version 1: not comparable, {said}")


@pytest.mark.parametrize("interval", ["", "[1.0]", "[2.0, 1.0]", "x", "[NaN, NaN]", '["a", "b"]', "3"])
def test_without_an_uncertainty_the_champion_stays(interval):
    verdict = judge(Version("2", tags(1.0) | {"error_mean_interval_m": interval}), Version("1", tags(100.0)))
    assert verdict == (False, "champion stays version 1: a mean error or its interval is unknown")


def test_tags_that_are_absent_or_no_numbers_are_not_compared():
    assert not judge(Version("2", tags(1.0, (0.5, 1.5))), Version("1", {})).moves
    assert not judge(Version("2", {}), Version("1", {})).moves
    assert not judge(Version("2", tags(1.0, (0.5, 1.5))), Version("1", tags(1.0) | {"error_mean_m": "far"})).moves


def test_the_alias_follows_the_rule(tmp_path):
    tracker, said = MemoryTracker(), []
    for told in (tags(100.0), tags(99.0, (90.0, 101.0)), tags(50.0, (40.0, 60.0))):
        version = tracker.register_model(tmp_path / "m.onnx", {}, "net", "candidate", told)
        said.append((tracker.promote("net", version, "champion")[:24], tracker.aliases["net", "champion"]))
    assert said == [
        ("champion is version 1: t", "1"),
        ("champion stays version 1", "1"),
        ("champion is version 3: 5", "3"),
    ]
