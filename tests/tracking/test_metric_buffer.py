"""Metrics over outages and kills: each is stored once, whatever is lost between asking and being answered."""

import json
import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from heimdall_jax.errors import StorageError
from heimdall_jax.tracking.metric_buffer import MetricBuffer, TrackerAway
from heimdall_jax.tracking.spool import SPOOL, Row, Spool


class Store:
    """Rows as MLflow has them: one that is there to the last digit, its time included, is not stored again."""

    def __init__(self):
        self.rows: set[Row] = set()
        self.away, self.deaf, self.asked = False, False, 0

    def write(self, rows):
        self.asked += 1
        if not self.away:
            self.rows |= set(rows)
        if self.away or self.deaf:
            raise TrackerAway("metrics: got no answer", passes=True)

    def steps(self, key):
        return sorted(row.step for row in self.rows if row.key == key)

    def stored(self):
        return {row.key: set(self.steps(row.key)) for row in self.rows}


@pytest.fixture
def spool(tmp_path):
    return Spool(tmp_path / SPOOL)


def test_rows_come_back_to_the_last_digit(spool):
    rows = [Row(0, "loss", 0.1 + 0.2, 7), Row(1, "loss", math.inf, 8), Row(10**12, "a/b é", -5e-324, 2**41)]
    spool.append(rows[:2])
    spool.append(rows[2:])
    assert spool.read() == rows
    spool.append([Row(2, "loss", math.nan, 9)])
    assert math.isnan(spool.read()[3].value)
    spool.clear()
    spool.clear()
    assert spool.read() == []


def test_a_line_that_a_kill_cut_off_is_removed_and_the_next_is_whole(spool):
    spool.append([Row(0, "loss", 1.0, 7)])
    with spool.path.open("ab") as file:
        file.write(b'[1, "loss", 0.')
    assert spool.read() == [Row(0, "loss", 1.0, 7)]
    spool.append([Row(1, "loss", 0.5, 8)])
    assert spool.read() == [Row(0, "loss", 1.0, 7), Row(1, "loss", 0.5, 8)]


@pytest.mark.parametrize("line", ["no JSON", "[1, 2]", '{"step": 1}', '[1, "loss", null, 3]'])
def test_a_spoilt_line_is_named_and_nothing_is_lost(spool, line):
    spool.append([Row(0, "loss", 1.0, 7)])
    spool.path.write_text(spool.path.read_text() + line + "\n")
    with pytest.raises(StorageError, match=r"tracking_spool\.jsonl line 2: got .*Remove that line"):
        spool.read()
    assert spool.path.read_text().startswith('[0, "loss", 1.0, 7]\n')


def test_half_an_append_on_a_full_disk_is_taken_back(spool, monkeypatch):
    spool.append([Row(0, "loss", 1.0, 7)])

    def full(descriptor):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(StorageError, match="No space left on device"):
            spool.append([Row(1, "loss", 1.0, 7)])
    assert spool.read() == [Row(0, "loss", 1.0, 7)]


def test_an_outage_keeps_rows_once_and_asks_less_and_less(spool, caplog):
    now, store = [0.0], Store()
    buffer = MetricBuffer(spool, clock=lambda: now[0])
    buffer.start({})
    store.away = True
    for step in range(60):
        buffer.add(step, {"loss": float(step)})
        buffer.flush(store.write, 1000)
        now[0] += 1.0
    assert 5 <= store.asked <= 8
    assert [json.loads(line)[0] for line in spool.path.read_text().splitlines()] == list(range(60))
    store.away = False
    now[0] += 100.0
    buffer.add(60, {"loss": 0.0})
    buffer.flush(store.write, 1000)
    assert store.steps("loss") == list(range(61))
    assert not spool.path.exists()
    told = [record.message for record in caplog.records]
    assert len(told) == 2
    assert told[0].startswith(f"metrics wait in {spool.path}")
    assert told[1] == "the tracker answers again: all metrics are stored"


def test_without_a_spool_an_outage_is_an_error_and_nothing_is_lost():
    buffer, store = MetricBuffer(), Store()
    buffer.start({})
    buffer.add(0, {"loss": 1.0})
    store.away = True
    with pytest.raises(TrackerAway):
        buffer.flush(store.write, 1000)
    store.away = False
    buffer.flush(store.write, 1000)
    assert store.steps("loss") == [0]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(days=st.lists(st.tuples(st.sampled_from(["well", "away", "deaf"]), st.booleans(), st.integers(1, 5))))
def test_kills_and_outages_in_any_order_leave_each_row_once(tmp_path, days):
    """Each process starts at the last checkpoint, trains, flushes, checkpoints; some are killed after the flush."""
    spool, store, checkpoint, step = Spool(tmp_path / SPOOL), Store(), 0, 0
    spool.clear()
    for weather, killed, steps in days:
        store.away = store.deaf = False
        buffer = MetricBuffer(spool)
        buffer.start(store.stored())  # the server must answer to begin
        store.away, store.deaf = weather == "away", weather == "deaf"
        for step in range(checkpoint, checkpoint + steps):
            buffer.add(step, {"loss": float(step), "error": 1.0})
        buffer.flush(store.write, 3)
        checkpoint = checkpoint if killed else checkpoint + steps
    store.away = store.deaf = False
    last = MetricBuffer(spool)
    last.start(store.stored())
    last.store(store.write, 3)
    reached = {row.step for row in store.rows}
    for key in ("loss", "error"):
        assert store.steps(key) == sorted(reached)
    assert set(range(checkpoint)) <= reached
    assert not spool.path.exists()
