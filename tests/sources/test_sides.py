"""A session's side does not depend on which others are there."""

import dataclasses

import numpy as np
import pytest

from heimdall_jax.errors import ConfigError
from heimdall_jax.geodesy import degrees_to_local
from heimdall_jax.sources.sides import LASTING, Rule, draw_rule


@dataclasses.dataclass(frozen=True)
class Row:
    session_id: str
    start_time_s: float
    truth_deg: tuple[float, float]


def made(count, seed=0):
    rng = np.random.default_rng(seed)
    return [
        Row(f"{seed} {i}", 1.7e9 + 60.0 * i, (45 + rng.uniform(0, 0.2), 7 + rng.uniform(0, 0.2))) for i in range(count)
    ]


@pytest.mark.parametrize("spec", LASTING)
def test_new_sessions_move_none(spec):
    """And the shares are those of the splits that are drawn: 18, 20 and 12 % of tests."""
    first, later = made(1500), made(1500, seed=1)
    rule = draw_rule(first, spec, 0.15)
    sides = rule.sides(first)
    assert rule.sides([*later, *first])[1500:] == sides
    assert rule.sides(first[7:8]) == sides[7:8]
    test = {"random": 0.18, "time": 0.2, "block": 0.12, "none": 0.0}[spec]
    for rows in (first, later):
        held = rule.sides(rows)
        assert held.count("test") / 1500 == pytest.approx(test, abs=0.06)
        assert held.count("validation") / 1500 == pytest.approx(0.15 * (1 - test), abs=0.06)
    assert Rule(**dataclasses.asdict(rule)) == rule


def test_chunks_of_time_are_whole():
    rows = made(600)
    sides = draw_rule(rows, "time", 0.15).sides(rows)
    chunks = {}
    for row, side in zip(rows, sides, strict=True):
        chunks.setdefault(row.start_time_s // 300, set()).add(side)
    assert all(len(found) == 1 for found in chunks.values())
    assert set().union(*chunks.values()) == {"train", "validation", "test"}


def test_the_block_is_a_circle():
    rows = made(1000)
    rule = draw_rule(rows, "block", 0.15)
    away_m = np.linalg.norm(degrees_to_local(np.array([row.truth_deg for row in rows]), rule.centre_deg), axis=1)
    test = np.array(rule.sides(rows)) == "test"
    assert test.sum() == 120
    assert away_m[test].max() < away_m[~test].min()


def test_sources_at_one_place_are_together():
    places = [(45.0, 7.0), (45.1, 7.1), (45.2, 7.2), (45.3, 7.3), (45.4, 7.4)]
    rows = [Row(f"{i}", 60.0 * i, places[i % 5]) for i in range(100)]
    sides = draw_rule(rows, "block", 0.15).sides(rows)
    assert sides.count("test") == 20
    assert len({row.truth_deg for row, side in zip(rows, sides, strict=True) if side == "test"}) == 1


def test_what_no_rule_is_made_of():
    with pytest.raises(ConfigError, match=r"got 'block1'; allowed: random, time, block, none.*prepare with none"):
        draw_rule(made(9), "block1", 0.15)
    with pytest.raises(ConfigError, match=r"validation_fraction: got 1\.0"):
        draw_rule(made(9), "random", 1.0)
